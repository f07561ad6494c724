"""Values of any range to that of the networks, and back."""
import numpy as np
import pytest
import torch

from fastgan.data.tensors.scaling import Scaling
from fastgan.data.value_range import ValueRange


@pytest.mark.parametrize(
    ("low_high", "low", "values", "scaled"),
    [
        ((0, 1), -1, [0, 0.25, 1], [-1, -0.5, 1]),
        ((0, 4095), -1, [0, 4095], [-1, 1]),
        ((-1000, 3000), 0, [-1000, 1000, 3000], [0, 0.5, 1]),
        ((-1, 1), -1, [-0.3, 0.7], [-0.3, 0.7]),
        ((-1, 1), 0, [-1, 1], [0, 1]),
    ],
)
def test_the_bounds_become_the_bounds_of_the_networks(low_high, low, values, scaled):
    scaling = Scaling(ValueRange(*low_high), low)
    given = np.array(values, np.float32)
    assert scaling.apply(given).dtype == torch.float32
    assert scaling.apply(given).tolist() == pytest.approx(scaled)
    assert scaling.undo(scaling.apply(given)).tolist() == pytest.approx(values)


def test_floats_in_the_range_of_the_networks_keep_their_bits():
    values = np.random.default_rng(0).uniform(-1, 1, 100).astype(np.float32)
    assert torch.equal(Scaling(ValueRange(-1.0, 1.0)).apply(values), torch.from_numpy(values))


def test_every_level_of_sixteen_bits_stays_one_of_its_own():
    levels = np.arange(65536, dtype=np.uint16)
    scaling = Scaling(ValueRange(0.0, 65535.0))
    assert scaling.undo(scaling.apply(levels)).round().int().tolist() == list(range(65536))


def test_large_numbers_close_to_each_other_stay_apart():
    values = 1e9 + np.arange(5)
    assert Scaling(ValueRange(1e9, 1e9 + 4)).apply(values).tolist() == [-1, -0.5, 0, 0.5, 1]


def test_values_beyond_are_clipped_where_the_user_gave_the_range():
    values, given = np.array([-5.0, 0, 20]), ValueRange(0.0, 10.0)
    assert Scaling(given, clips=True).apply(values).tolist() == [-1, -1, 1]
    assert Scaling(given).apply(values).tolist() == [-2, -1, 3]


def test_the_rule_is_said_in_a_sentence():
    assert "the values of it lie in [0, 4095] and are scaled to [-1, 1]" in Scaling(ValueRange(0, 4095)).describe("it")
    assert "taken as they are" in Scaling(ValueRange(-1.0, 1.0)).describe("it")
    assert "(data.range)" in Scaling(ValueRange(0, 9), clips=True).describe("it")
