"""Samples drawn as they are needed, for learning a known distribution."""
from abc import abstractmethod

import torch

from fastgan.data.feed import Batch, Feed
from fastgan.errors import UserError


class DensityFeed(Feed):
    """Fresh samples of a density, float32 [batch_size, features], from a generator whose state is the position.

    generator: on the device of the samples; who shares it sees to its state. A reread costs nothing: it gives the memory of the last read.
    """

    traceable = False  # the compiler takes no generators

    def __init__(self, batch_size: int, generator: torch.Generator):
        super().__init__(batch_size)
        self._generator = generator
        self._last: Batch | None = None  # in a recording it keeps the graph's memory from being used again before the reread

    @abstractmethod
    def _draw(self) -> torch.Tensor:
        """The next samples, float32 [batch_size, features], by device operations alone."""

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def seek(self, nimg: int) -> None:
        self.nimg = nimg

    def reserve(self, num_steps: int) -> None:
        pass

    def read(self) -> Batch:
        self._last = Batch(self._draw())
        return self._last

    def reread(self) -> Batch:
        assert self._last is not None, "nothing was read yet"
        return self._last


class GaussianFeed(DensityFeed):
    """Samples of a normal distribution, float32 [batch_size, 1]. mean, std: of the distribution, std > 0."""

    def __init__(self, mean: float, std: float, batch_size: int, generator: torch.Generator):
        _check(std, batch_size)
        super().__init__(batch_size, generator)
        self._mean, self._std = mean, std

    def _draw(self) -> torch.Tensor:
        samples = torch.randn(self.batch_size, 1, generator=self._generator, device=self._generator.device)
        return samples.mul_(self._std).add_(self._mean)


def _check(std: float, batch_size: int) -> None:
    if not std > 0 or batch_size < 1:
        raise UserError(f"std {std} and batch_size {batch_size} describe no samples: std must be above 0 and batch_size at least 1")
