import re
from unittest import mock

import pytest
import torch
from checking import assert_close_to_truth
from triton_tools import CAPABILITIES, compile_launches, run_interpreted

from fastgan.ops.adam_ema import AdamState, adam_ema_reference, after_steps

# Less than a block, none, exactly one, two and one more.
SHAPES = [(1,), (0, 3), (), (1024,), (3, 683), (2, 3, 4, 4), (1025,)]


def made(
    shapes, averaged, gradient_dtype=torch.float32, device="cpu", offset=0
) -> tuple[list[torch.Tensor], AdamState]:
    """Return gradients and a state.

    Each tensor begins `offset` elements after the beginning of its memory.
    """

    def tensors(dtype=torch.float32):
        sizes = [torch.Size(shape).numel() for shape in shapes]
        return [
            torch.randn(size + offset, device=device).to(dtype)[offset:].view(shape)
            for size, shape in zip(sizes, shapes, strict=True)
        ]

    torch.manual_seed(0)
    exp_avg_sq = [tensor.abs() for tensor in tensors()]
    scalars = [torch.tensor(x, device=device) for x in (0.7, 0.9, 1e-2, 0.5, 0.99)]
    ema_beta = torch.tensor(0.9, device=device) if averaged else None
    return tensors(gradient_dtype), AdamState(
        tensors(), tensors(), exp_avg_sq, tensors() if averaged else [], *scalars, ema_beta, 1e-8
    )


def launched(gradients: list[torch.Tensor], state: AdamState) -> None:
    from fastgan.kernels import adam_ema as kernels

    kernels.adam_ema(gradients, *state)


def check_three_way(shapes, averaged, dtype):
    gradients, state = made(shapes, averaged, dtype)
    ours, reference = (
        after_steps(form, torch.float32, state, [gradients, gradients]) for form in (launched, adam_ema_reference)
    )
    for name, truth in after_steps(adam_ema_reference, torch.float64, state, [gradients, gradients]).items():
        assert_close_to_truth(ours[name], reference[name], truth)


def check_several_launches():
    from fastgan.kernels import adam_ema as kernels

    with mock.patch.object(kernels, "MOST_TENSORS", 3):
        check_three_way(SHAPES, True, torch.float32)


def check_channels_last():
    gradients, state = made([(2, 3, 4, 4)], True)
    images = [[x.contiguous(memory_format=torch.channels_last) for x in tensors] for tensors in (gradients, *state[:4])]
    twin = AdamState(*images[1:], *(x.clone() for x in state[4:10]), state.eps)
    launched(gradients, state)
    launched(images[0], twin)
    for ours, theirs in zip(state[:4], twin[:4], strict=True):
        assert torch.equal(ours[0], theirs[0]), "the order of memory changed the result"


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_is_as_close_to_the_truth_as_the_reference(averaged, dtype):
    run_interpreted(check_three_way, SHAPES, averaged, dtype)


def test_more_tensors_than_a_launch_takes():
    run_interpreted(check_several_launches)


def test_nothing_to_update_launches_nothing():
    run_interpreted(check_three_way, [(0,)], True, torch.float32)


def test_the_order_of_memory_makes_no_difference():
    run_interpreted(check_channels_last)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("averaged", [False, True])
def test_compiles_to_one_launch_of_wide_loads_without_a_spill(capability, averaged):
    gradients, state = made([(256, 100), (256,), (784, 256), (784,)], averaged, torch.bfloat16, "meta")
    (kernel,) = compile_launches(lambda: launched(gradients, state), capability)
    ptx = kernel.asm["ptx"]
    assert len(re.findall(r"ld\.global\.v4\.b32", ptx)) >= (8 if averaged else 6)
    assert len(re.findall(r"st\.global\.v4\.b32", ptx)) >= (8 if averaged else 6)
    assert "div.rn.f32" in ptx
    assert "sqrt.rn.f32" in ptx
    assert ".local" not in ptx


def test_tensors_that_begin_anywhere_in_memory_are_not_read_in_wide_loads():
    gradients, state = made([(256, 100), (256,)], False, torch.bfloat16, "meta", offset=1)
    (kernel,) = compile_launches(lambda: launched(gradients, state), 90)
    assert ".v4" not in kernel.asm["ptx"]
