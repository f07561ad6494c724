"""Schedules: values that change with the number of images shown.

The step itself writes them into 0-D tensors, so that nothing is compiled again.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Ramp:
    """A change from `start` to `end` over the first `over_kimg` thousand images, then constant.

    warmup_kimg: the value is scaled linearly from 0 over the first warmup_kimg thousand images.
    """

    start: float
    end: float
    over_kimg: float
    shape: str = "linear"  # linear | cosine (half a wave: slow, fast, slow)
    warmup_kimg: float = 0.0

    def at(self, nimg: torch.Tensor) -> torch.Tensor:
        """Return the value after nimg images, float32 []. nimg: int64 []."""
        kimg = nimg.double() / 1000
        progress = (kimg / self.over_kimg).clamp(max=1) if self.over_kimg else torch.ones_like(kimg)
        if self.shape == "cosine":
            progress = 0.5 - 0.5 * torch.cos(math.pi * progress)
        value = self.start + (self.end - self.start) * progress
        if self.warmup_kimg:
            value = value * (kimg / self.warmup_kimg).clamp(max=1)
        return value.float()


@dataclass(frozen=True)
class HalfLife:
    """The decay of a moving average from its half-life in thousands of images, a number or a Ramp.

    num_images: shown between two updates of the average. share: the half-life is at most this share
    of the images shown so far, so that the first weights are soon forgotten (Karras et al., 2020,
    arXiv 2006.06676, "ramp-up"); None = no such limit.
    """

    kimg: float | Ramp
    num_images: int
    share: float | None = None

    def at(self, nimg: torch.Tensor) -> torch.Tensor:
        """Return 0.5 ** (num_images / half-life), float32 []; 0 for a half-life of 0."""
        shown = nimg.double() / 1000
        kimg = self.kimg.at(nimg).double() if isinstance(self.kimg, Ramp) else torch.full_like(shown, self.kimg)
        if self.share is not None:
            kimg = torch.minimum(kimg, shown * self.share)
        return torch.exp2(-self.num_images / (1000 * kimg).clamp(min=1e-6)).float()


@dataclass(frozen=True)
class Traced:
    """A caller's function of the thousands of images shown, float64 [], times a factor."""

    function: Callable[[torch.Tensor], torch.Tensor | float]
    factor: float = 1.0

    def at(self, nimg: torch.Tensor) -> torch.Tensor:
        """Return the value after nimg images, float32 []. nimg: int64 []."""
        kimg = nimg.double() / 1000
        return (torch.ones_like(kimg) * self.function(kimg) * self.factor).float()


Schedule = Ramp | HalfLife | Traced


class Schedules:
    """Target tensors, float32 [], with their schedules."""

    def __init__(self):
        self._followed: list[tuple[torch.Tensor, Schedule]] = []

    def add(self, target: torch.Tensor, schedule: Schedule) -> None:
        """Let every later `update` write the value of `schedule` into target."""
        self._followed.append((target, schedule))

    def __len__(self) -> int:
        return len(self._followed)

    @torch.no_grad()
    def update(self, nimg: torch.Tensor) -> None:
        """Write the values after nimg images (int64 []) into their targets."""
        for target, schedule in self._followed:
            target.copy_(schedule.at(nimg))
