"""Faults of the compiler are passed by where they come, and torch is left as it was."""
import pytest
from torch._decomp import decompositions
from torch._inductor.codegen.cpp import CppScheduling
from torch._inductor.exc import InductorError

from fastgan.engine.compiler_faults import lstm_as_loop, without_faulty_fusion


def failing(times, error):
    """Return a compile function that fails so many times, and the fusion rules that it met."""
    met = []

    def compile():
        met.append(CppScheduling.can_fuse_vertical_outer_loop)
        if len(met) <= times:
            raise InductorError(error, None)
        return "compiled"

    return compile, met


def test_a_faulty_fusion_is_left_out_in_a_second_attempt_alone():
    rule = CppScheduling.can_fuse_vertical_outer_loop
    compile, met = failing(1, KeyError("buf3"))
    assert without_faulty_fusion(compile) == "compiled"
    assert met[0] is rule
    assert met[1](None, None, None) is False
    assert CppScheduling.can_fuse_vertical_outer_loop is rule


@pytest.mark.parametrize(("times", "error", "attempts"), [(2, KeyError("buf3"), 2), (1, ValueError("no"), 1)])
def test_other_failures_are_passed_on(times, error, attempts):
    rule = CppScheduling.can_fuse_vertical_outer_loop
    compile, met = failing(times, error)
    with pytest.raises(InductorError):
        without_faulty_fusion(compile)
    assert len(met) == attempts
    assert CppScheduling.can_fuse_vertical_outer_loop is rule


def test_an_lstm_is_traced_as_its_steps_while_compiling_alone():
    layer = decompositions.mkldnn_one_layer_lstm
    with lstm_as_loop():
        assert decompositions.mkldnn_one_layer_lstm is decompositions.one_layer_lstm
    assert decompositions.mkldnn_one_layer_lstm is layer
