"""Ways around faults of torch's compiler on the CPU (seen in torch 2.13), for networks that meet them.

Each changes a private function of torch while a graph is compiled, and nothing where it is gone.
"""
import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

Compiled = TypeVar("Compiled")


@contextlib.contextmanager
def lstm_as_loop() -> Iterator[None]:
    """Trace nn.LSTM as its steps, and not as oneDNN's layer.

    Inductor's code for that layer expects a workspace that only exists in training.
    """
    from torch._decomp import decompositions

    with _replaced(decompositions, "mkldnn_one_layer_lstm", getattr(decompositions, "one_layer_lstm", None)):
        yield


def without_faulty_fusion(compile: Callable[[], Compiled]) -> Compiled:
    """Call `compile`; where Inductor fails by its own fault, again without fusing outer loops.

    That fusion raises KeyError for a buffer that a later write in place only has to wait for, as in
    rows of a weight that are normalised and updated in one graph.
    """
    from torch._inductor.codegen.cpp import CppScheduling
    from torch._inductor.exc import InductorError

    try:
        return compile()
    except InductorError as error:
        if not str(error).startswith("KeyError"):
            raise
        with _replaced(CppScheduling, "can_fuse_vertical_outer_loop", lambda scheduling, node1, node2: False):
            return compile()


@contextlib.contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Set an attribute that exists, and restore it at the exit."""
    before = getattr(owner, name, None)
    if before is None or value is None:
        yield
        return
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
