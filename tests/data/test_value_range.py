import numpy as np
import pytest

from fastgan.data.images import BadImage
from fastgan.data.value_range import ValueRange, bounds, range_of


@pytest.mark.parametrize(
    ("parts", "is_float", "expected"),
    [
        ([(0, 0.5), (0.2, 1)], True, (0, 1)),
        ([(0, 0.5), (-0.1, 1)], True, (-1, 1)),
        ([(-1e-4, 1 + 1e-4)], True, (0, 1)),
        ([(0, 0.5), (0.2, 1.5)], True, (0, 1.5)),
        ([(0, 255)], True, (0, 255)),
        ([(3, 200)], False, (0, 255)),
        ([(3, 200), (7, 256)], False, (3, 256)),
        ([(-1, 1)], False, (-1, 1)),
        ([(300, 300)], False, (300, 301)),
    ],
)
def test_the_rule(parts, is_float, expected):
    assert range_of((ValueRange(*part) for part in parts), is_float) == expected


def test_values_are_scaled_rounded_and_clipped():
    values = np.array([-5, 0, 100, 4095, 9999])
    assert ValueRange(0, 4095).to_uint8(values).tolist() == [0, 0, 6, 255, 255]


def test_large_whole_numbers_keep_their_digits():
    values = 10**9 + np.arange(256)
    np.testing.assert_array_equal(ValueRange(10**9, 10**9 + 255).to_uint8(values), np.arange(256))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_bad(bad):
    with pytest.raises(BadImage, match="NaN or infinite"):
        bounds(np.array([0.0, bad]))
