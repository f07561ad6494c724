"""What a CUDA graph does, on the CPU: operators are recorded with the very tensors that they met, and replayed into the same memory, without Python.

So a number that the host baked in stays what it was, memory that the host exchanged is not seen, and what makes the host wait is refused.
"""
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
WAITS = {aten._local_scalar_dense.default, aten.lift_fresh.default, aten.nonzero.default, aten.equal.default}  # item(), tensor([...]), x[mask], ==


class RecordedGraphs:
    """Stands in for fastgan.cuda_graphs.CudaGraphs. recordings: the operators of each recording."""

    def __init__(self):
        self.recordings: list[list] = []
        self.replayed: list[int] = []  # the number of each recording that was replayed
        self.warm_ups = 0

    def warm_up(self, body) -> None:
        self.warm_ups += 1
        with _Recorder([]):
            body()

    def record(self, body):
        number, operators = len(self.recordings), []
        self.recordings.append(operators)
        with _Recorder(operators):
            body()

        def replay() -> None:
            self.replayed.append(number)
            with torch.no_grad():
                for operator in operators:
                    _again(*operator)

        return replay

    def synchronize(self) -> None:
        pass


class _Recorder(TorchDispatchMode):
    def __init__(self, operators: list):
        super().__init__()
        self.operators = operators

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in WAITS:
            raise RuntimeError(f"the host waits for {function} while a graph is recorded")
        outputs = function(*args, **(kwargs or {}))
        self.operators.append((function, args, kwargs or {}, outputs))
        return outputs


def _again(function, args, kwargs, outputs) -> None:
    """The operator once more; what it gives goes where its first results lie, unless it is a view or was changed in place."""
    for old, new in zip(tree_leaves(outputs), tree_leaves(function(*args, **kwargs)), strict=True):
        if isinstance(old, torch.Tensor) and old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
            old.copy_(new)
