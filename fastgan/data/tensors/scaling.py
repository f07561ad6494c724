"""The values of a set in the range of the networks, as float32, and back.

Bytes are scaled inside the step (augment/basic.py). Other values are scaled once, by the range that
value_range.py gives: to [img_low, 1], without rounding.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from fastgan.data.value_range import BYTES, ValueRange


class Scaling(NamedTuple):
    """A linear map: values.low becomes `low`, values.high becomes 1. clips: values beyond too."""

    values: ValueRange
    low: float = -1.0
    clips: bool = False

    @property
    def is_identity(self) -> bool:
        return self.values == (self.low, 1.0)

    def apply(self, values: np.ndarray) -> torch.Tensor:
        """Return values of any dtype as float32 in [low, 1]."""
        scaled, (low, high) = values, self.values
        if not self.is_identity:  # in float64: large numbers close to each other stay apart
            scaled = (values.astype(np.float64) - low) * ((1 - self.low) / (high - low)) + self.low
        if self.clips:
            scaled = np.clip(scaled, self.low, 1)
        return torch.from_numpy(np.array(scaled, np.float32))

    def undo(self, samples: torch.Tensor) -> torch.Tensor:
        """Return samples of the networks in the units of the set, float32."""
        low, high = self.values
        if self.is_identity:
            return samples
        return ((samples.double() - self.low) * ((high - low) / (1 - self.low)) + low).float()

    def describe(self, origin: str) -> str:
        """Return the rule as a sentence for the log."""
        if self.is_identity:
            return f"the values of {origin} lie {in_words(self.values)} and are taken as they are, in float32"
        why = " (data.range)" if self.clips else ""
        kept = "bytes" if self.values == BYTES else f"lie {in_words(self.values)}{why}"
        return (
            f"the values of {origin} {kept} and are scaled to [{self.low:g}, 1] in float32; Trainer.sample gives them "
            "in their own range"
        )


def in_words(values: ValueRange) -> str:
    return f"in [{values.low:g}, {values.high:g}]"
