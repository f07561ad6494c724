"""A stand-in for CUDA graphs on the CPU.

Operators are recorded with the very tensors that they met, and replayed into the same memory,
without Python.

So a number that the host baked in stays what it was, memory that the host exchanged is not seen,
and an operator that makes the host wait is refused. Tests and rehearsals use the stand-in; no
measurement does.
"""
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
# item(), tensor([...]), x[mask], ==
WAITS = {aten._local_scalar_dense.default, aten.lift_fresh.default, aten.nonzero.default, aten.equal.default}


class RecordedGraphs:
    """Replacement of fastgan.device.cuda_graphs.CudaGraphs.

    recordings: the operators of each recording.

    refused: names of operators, aten::randn, at which a recording breaks off, to provoke what a
    machine may do.
    """

    def __init__(self, refused: frozenset[str] = frozenset()):
        self.recordings: list[list] = []
        self.replayed: list[int] = []  # the number of each recording that was replayed
        self.warm_ups = 0
        self._refused = refused

    def warm_up(self, body) -> None:
        self.warm_ups += 1
        with _Recorder([], self._refused):
            body()

    def record(self, body):
        number, operators = len(self.recordings), []
        self.recordings.append(operators)
        with _Recorder(operators, self._refused):
            body()

        def replay() -> None:
            self.replayed.append(number)
            with torch.no_grad():
                for operator in operators:
                    _again(*operator)

        return replay

    def synchronize(self) -> None:
        pass


class RehearsedGraphs(RecordedGraphs):
    """The same for steps that may be compiled.

    No recorder of operators sees compiled kernels: they are called again instead.
    """

    def __init__(self, refused: frozenset[str] = frozenset()):
        super().__init__(refused)
        self._is_compiled = False

    def warm_up(self, body) -> None:
        calls = _compiled_calls[0]
        body()
        self._is_compiled = _compiled_calls[0] > calls
        if not self._is_compiled:
            super().warm_up(body)

    def record(self, body):
        if not self._is_compiled:
            return super().record(body)
        body()
        return body


_compiled_calls = [0]


def noticing(compile_step):
    """Return a replacement of fastgan.engine.compiled.compile_step for RehearsedGraphs.

    It counts the calls of the functions that it compiled.
    """

    def compile_noticed(step, graphs, options):
        compiled = compile_step(step, graphs, options)

        def call(inputs):
            _compiled_calls[0] += 1
            return compiled(inputs)

        return call

    return compile_noticed


class _Recorder(TorchDispatchMode):
    def __init__(self, operators: list, refused: frozenset[str]):
        super().__init__()
        self.operators, self.refused = operators, refused

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in WAITS:
            raise RuntimeError(f"the host waits for {function} while a graph is recorded")
        if function.name().partition(".")[0] in self.refused:
            raise RuntimeError(f"{function} cannot be recorded")
        outputs = function(*args, **(kwargs or {}))
        self.operators.append((function, args, kwargs or {}, outputs))
        return outputs


def _again(function, args, kwargs, outputs) -> None:
    """Run the operator once more and write the result where the first results lie.

    Nothing is written where the result is a view or was changed in place.
    """
    for old, new in zip(tree_leaves(outputs), tree_leaves(function(*args, **kwargs)), strict=True):
        if isinstance(old, torch.Tensor) and old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
            old.copy_(new)
