"""Graphs of aten operations, as a pass of the compiler receives them."""

from collections.abc import Callable, Sequence

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx


def graph_of(function: Callable, inputs: Sequence[torch.Tensor], device: str) -> GraphModule:
    """Return the graph of aten operations, with its tensors declared on `device`."""
    graph = make_fx(function)(*inputs)
    mode = FakeTensorMode()
    for node in graph.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            with mode:
                node.meta["val"] = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device=device)
    return graph
