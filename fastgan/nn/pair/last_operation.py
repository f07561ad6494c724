"""The operation that a network ends in, and the removal of a sigmoid at the end of D."""
from collections.abc import Callable

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from fastgan.errors import UserError
from fastgan.nn.pair.calls import SIGMOIDS

# Autograd's nodes of operations that keep every value, without their "Backward0": the node before
# them computed it.
VIEWS = {
    "View", "ReshapeAlias", "UnsafeView", "Squeeze", "Unsqueeze", "Permute", "Transpose", "T", "Select", "Slice",
    "Expand", "AsStrided", "Alias", "Clone", "ToCopy",
}  # fmt: skip


def name_of_last(output: torch.Tensor) -> str:
    """Return the name of the operation that computed the values, such as Sigmoid; "" for none."""
    node = last_operation(output)
    return "" if node is None else _name(node)


def last_operation(output: torch.Tensor) -> torch.autograd.graph.Node | None:
    """Return the node of the graph that computed the values of `output`, before its views."""
    node = output.grad_fn
    while node is not None and _name(node) in VIEWS:
        node = node.next_functions[0][0]
    return node


def _name(node: torch.autograd.graph.Node) -> str:
    return node.name().rstrip("0123456789").removesuffix("Backward")


def take_sigmoid_off(D: nn.Module, run_D: Callable[[], torch.Tensor]) -> tuple[int | None, tuple[str, ...]]:
    """Remove the sigmoid that computes D's output, if there is one; return (its number, notes).

    An nn.Sigmoid that D uses once is replaced by nn.Identity, in place. Any other sigmoid stays, and
    its number among the sigmoid calls of a pass says which call to skip (calls.WithoutSigmoid); None
    where there is nothing to skip. run_D: runs D, and returns its logits with their graph. Raises
    UserError for a softmax, and for a sigmoid that no call of torch's made.
    """
    with torch.enable_grad(), _SigmoidRecorder() as recorder, _module_runs(D) as runs:
        logits = run_D()  # kept: a node of an autograd.Function has no name once its graph is gone
        last, name = last_operation(logits), name_of_last(logits)
    if "Softmax" in name:
        raise UserError("D ends in a softmax: let it return one logit an image, the loss applies the sigmoid itself")
    if not name.startswith("Sigmoid"):
        return None, ()
    own = [module for node, module in runs if node is last]
    if own and [module for _, module in runs].count(own[0]) == 1:
        _replace(D, own[0], nn.Identity())
        return None, (
            "D ended in nn.Sigmoid: it was taken off, D returns logits from now on and the loss applies the sigmoid "
            "itself",
        )
    index = next((index for index, node in enumerate(recorder.nodes) if node is last), None)
    if index is None:
        raise UserError("D ends in a sigmoid that fastgan cannot skip: let D return the logits, the loss applies the "
                        "sigmoid itself")  # fmt: skip
    return index, ("D ends in a sigmoid: training skips it, since the loss applies the sigmoid itself; D stays as it "
                   "is",)  # fmt: skip


class _SigmoidRecorder(TorchFunctionMode):
    """Records the graph nodes of the results of all sigmoid calls, in their order."""

    def __init__(self):
        super().__init__()
        self.nodes: list[torch.autograd.graph.Node | None] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in SIGMOIDS:
            self.nodes.append(result.grad_fn)
        return result


class _module_runs:  # noqa: N801  a context manager
    """Lists (graph node of the output, module) of every run of an nn.Sigmoid of D inside."""

    def __init__(self, D: nn.Module):
        self._sigmoids = [module for module in D.modules() if isinstance(module, nn.Sigmoid)]

    def __enter__(self) -> list[tuple[torch.autograd.graph.Node, nn.Module]]:
        runs: list[tuple[torch.autograd.graph.Node, nn.Module]] = []

        def note(module: nn.Module, args: tuple, output: torch.Tensor) -> None:
            runs.append((output.grad_fn, module))

        self._hooks = [module.register_forward_hook(note) for module in self._sigmoids]
        return runs

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace a module under all its names.

    A module may be an attribute and a part of a Sequential at once.
    """
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)
