"""The compiled step: the only call of torch.compile."""
import types
from collections.abc import Callable

import torch


def compile_step(step: Callable, graphs: list[torch.fx.GraphModule], options: dict) -> Callable:
    """`step` as one graph of Inductor's. Every compilation appends its graph to `graphs`, so that a second one is noticed. options: Inductor's.

    torch.autograd.grad inside the graph needs Dynamo's private setting trace_autograd_ops (torch 2.11 to 2.13); tests fail loudly when it changes.
    """
    from torch._inductor.compile_fx import compile_fx

    from fastgan.zeros import ZerosTakenOut

    options = {**options, "post_grad_custom_pre_pass": ZerosTakenOut()}

    def backend(graph: torch.fx.GraphModule, example_inputs: list[torch.Tensor]):
        graphs.append(graph)
        return compile_fx(graph, example_inputs, config_patches=options)

    torch._dynamo.config.trace_autograd_ops = True
    return torch.compile(_with_own_code(step), backend=backend, fullgraph=True, dynamic=False)


def _with_own_code(step: Callable) -> Callable:
    """A copy of a function with a code object of its own: Dynamo keeps compiled graphs by code object, and two engines must not share them."""
    return types.FunctionType(step.__code__.replace(), step.__globals__, step.__name__, step.__defaults__, step.__closure__)
