"""Schedules against their formulas, written into the tensors that follow them."""
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastgan.gan.schedules import HalfLife, Ramp, Schedules

SHAPES = ("linear", "cosine")


def at(schedule, nimg: int) -> float:
    value = schedule.at(torch.tensor(nimg))
    assert (value.dtype, value.shape) == (torch.float32, ())
    return value.item()


def test_linear():
    ramp = Ramp(2.0, 0.0, 10)
    assert [at(ramp, nimg) for nimg in (0, 2500, 5000, 10_000, 99_999)] == pytest.approx([2, 1.5, 1, 0, 0])


def test_cosine():
    """The value is end + (start - end) (1 + cos(pi t)) / 2."""
    ramp = Ramp(2e-4, 5e-5, 20, "cosine")
    for nimg in (0, 1000, 5000, 10_000, 17_123, 20_000, 40_000):
        t = min(nimg / 20_000, 1)
        assert at(ramp, nimg) == pytest.approx(5e-5 + 1.5e-4 * (1 + math.cos(math.pi * t)) / 2, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_warm_up_is_a_factor_that_rises_to_1(shape):
    ramp, plain = Ramp(3.0, 1.0, 8, shape, warmup_kimg=2), Ramp(3.0, 1.0, 8, shape)
    for nimg, factor in ((0, 0), (500, 0.25), (2000, 1), (5000, 1)):
        assert at(ramp, nimg) == pytest.approx(factor * at(plain, nimg), rel=1e-6)
    constant = Ramp(3.0, 3.0, 0, shape, warmup_kimg=2)
    assert [at(constant, nimg) for nimg in (0, 1000, 2000, 9000)] == pytest.approx([0, 1.5, 3, 3])


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 100), st.sampled_from(SHAPES), st.integers(0, 200_000))
def test_between_start_and_end_and_at_the_end_for_ever(start, end, over_kimg, shape, nimg):
    ramp = Ramp(start, end, over_kimg, shape)
    low, high = min(start, end), max(start, end)
    assert low - 1e-5 <= at(ramp, nimg) <= high + 1e-5
    assert at(ramp, math.ceil(1000 * over_kimg) + nimg) == pytest.approx(end, abs=1e-6)
    if over_kimg > 0:
        assert at(ramp, 0) == pytest.approx(start, abs=1e-6)


def test_a_half_life_halves():
    """The weight of the average halves after one half-life of images.

    The number of images between two updates does not matter.
    """
    for num_images in (1, 32, 1000):
        assert at(HalfLife(4.0, num_images), 0) ** (4000 / num_images) == pytest.approx(0.5, rel=1e-4)
    assert at(HalfLife(0.0, 32), 12_345) == 0


def test_a_half_life_of_a_share_of_what_was_shown():
    schedule = HalfLife(10.0, 64, share=0.05)
    assert at(schedule, 0) == 0  # the average is G
    assert at(schedule, 20_000) == pytest.approx(0.5 ** (64 / 1000))
    assert at(schedule, 200_000) == at(schedule, 900_000) == pytest.approx(0.5 ** (64 / 10_000))


def test_a_half_life_that_changes():
    schedule = HalfLife(Ramp(0.0, 500.0, 1000, "cosine"), 512)
    assert at(schedule, 0) == 0
    assert at(schedule, 500_000) == pytest.approx(0.5 ** (512 / 250_000))
    assert at(schedule, 5_000_000) == pytest.approx(0.5 ** (512 / 500_000))


def test_a_long_run_is_counted_exactly():
    """200 million images are more than float32 counts."""
    ramp = Ramp(0.0, 1.0, 4e5)
    assert at(ramp, 200_000_001) == pytest.approx(0.5, rel=1e-6)
    assert Ramp(0.0, 4e8, 4e5).at(torch.tensor(16_777_217)).double().item() == pytest.approx(16_777_217, abs=1.01)


def test_the_targets_are_written_in_place():
    schedules, lr, beta = Schedules(), torch.tensor(7.0), torch.tensor(7.0)
    places = lr.data_ptr(), beta.data_ptr()
    assert len(schedules) == 0
    schedules.update(torch.tensor(0))  # nothing follows anything
    schedules.add(lr, Ramp(1.0, 0.0, 1))
    schedules.add(beta, HalfLife(0.01, 10))
    assert len(schedules) == 2
    schedules.update(torch.tensor(250))
    assert (lr.item(), beta.item()) == pytest.approx((0.75, 0.5))
    assert (lr.data_ptr(), beta.data_ptr()) == places
