"""Values that are no bytes, on their way to uint8: which of them become 0 and 255.

The rule holds for the values of a whole set, so that its images stay comparable:

1. the bounds that the user asks for (`data.range`);
2. whole numbers from 0 to 255: as they are;
3. floats in [0, 1], or in [-1, 1] where one is negative: these bounds;
4. else the smallest and the largest value of the set.

Values beyond the bounds are clipped. 8 bits of each value are kept.
"""
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from fastgan.data.images import BadImage

_ROUNDING = 1e-3  # how far outside its range a float may lie and still be taken for a rounding error


class ValueRange(NamedTuple):
    """low becomes 0, high becomes 255."""

    low: float
    high: float

    def to_uint8(self, values: np.ndarray) -> np.ndarray:
        """Return values of any dtype and shape as uint8: scaled, rounded and clipped."""
        # float32 is exact for the usual floats; large integers need more digits
        exact = values.astype(np.float32 if self in (_UNIT, _SIGNED) else np.float64)
        return np.clip(np.rint((exact - self.low) * (255 / (self.high - self.low))), 0, 255).astype(np.uint8)

    def __str__(self) -> str:
        return f"from {self.low:g} to {self.high:g}"


_UNIT, _SIGNED, BYTES = ValueRange(0.0, 1.0), ValueRange(-1.0, 1.0), ValueRange(0.0, 255.0)


def bounds(values: np.ndarray) -> ValueRange:
    """Return the smallest and the largest of the values; raise BadImage for NaN and infinity."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        raise BadImage("there are NaN or infinite values among the pixels: remove those images")
    return ValueRange(low, high)


def range_of(parts: Iterable[ValueRange], is_float: bool) -> ValueRange:
    """Return the range by the rule above, from the bounds of all parts of a set.

    is_float: False for whole numbers.
    """
    lows, highs = zip(*parts, strict=True)
    low, high = min(lows), max(highs)
    if is_float and low >= -1 - _ROUNDING and high <= 1 + _ROUNDING:
        return _SIGNED if low < -_ROUNDING else _UNIT
    if not is_float and low >= 0 and high <= 255:
        return BYTES
    return ValueRange(low, high if high > low else low + 1)
