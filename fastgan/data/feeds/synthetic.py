"""Samples drawn as they are needed, for learning a known distribution."""
import math
from abc import abstractmethod

import torch

from fastgan.data.feeds.feed import Batch, Feed
from fastgan.errors import UserError

RING_STD = 0.02  # of each mode of `ring`: Metz et al., 2017, arXiv 1611.02163
GRID_STD = 0.05  # of each mode of `grid`: a variance of 0.0025 in Lin et al., 2018, arXiv 1712.04086


class DensityFeed(Feed):
    """Fresh samples of a density, float32 [batch_size, features].

    The state of the generator is the position. generator: on the device of the samples; code that
    shares it manages its state. The samples are drawn into memory that stays in place: the next
    read overwrites it, and a reread costs nothing.
    """

    traceable = False  # the compiler takes no generators

    def __init__(self, features: int, batch_size: int, generator: torch.Generator):
        super().__init__(batch_size)
        self._generator = generator
        self._samples = torch.zeros(batch_size, features, device=generator.device)

    @abstractmethod
    def _draw(self, samples: torch.Tensor) -> None:
        """Write the next samples into `samples`, float32 [batch_size, features].

        Uses device operations alone.
        """

    def state(self) -> dict[str, torch.Tensor]:
        return {"samples": self._samples}

    def seek(self, nimg: int) -> None:
        self.nimg = nimg

    def reserve(self, num_steps: int) -> None:
        pass

    def read(self) -> Batch:
        self._draw(self._samples)
        return Batch(self._samples)

    def reread(self) -> Batch:
        return Batch(self._samples)


class GaussianFeed(DensityFeed):
    """Samples of a normal distribution, float32 [batch_size, 1].

    mean, std: of the distribution, std > 0.
    """

    def __init__(self, mean: float, std: float, batch_size: int, generator: torch.Generator):
        _check(std, batch_size)
        super().__init__(1, batch_size, generator)
        self._mean, self._std = mean, std

    def _draw(self, samples: torch.Tensor) -> None:
        torch.randn(samples.shape, generator=self._generator, out=samples).mul_(self._std).add_(self._mean)


class MixtureFeed(DensityFeed):
    """Samples of normal distributions that are equally likely, float32 [batch_size, features].

    centres: float [num_modes, features], their means (`ring`, `grid`). std: of each in every
    direction, > 0.
    """

    def __init__(self, centres: torch.Tensor, std: float, batch_size: int, generator: torch.Generator):
        _check(std, batch_size)
        if centres.dim() != 2 or centres.numel() == 0:
            raise UserError(f"centres of shape {list(centres.shape)} are those of no modes: give [num_modes, features]")
        super().__init__(centres.shape[1], batch_size, generator)
        self._centres, self._std = centres.to(generator.device, torch.float32), std

    def _draw(self, samples: torch.Tensor) -> None:
        modes = torch.randint(len(self._centres), (self.batch_size,), generator=self._generator, device=samples.device)
        noise = torch.randn(samples.shape, generator=self._generator, out=samples).mul_(self._std)
        noise.add_(self._centres.index_select(0, modes))


def ring(num: int = 8, radius: float = 2.0) -> torch.Tensor:
    """Return modes at equal distances on a circle, float32 [num, 2]; the first is on the x axis.

    With the defaults and RING_STD, this is the ring on which Metz et al. (2017, arXiv 1611.02163)
    show how modes are lost.
    """
    angles = torch.arange(num, dtype=torch.float64) * (2 * math.pi / num)
    return (radius * torch.stack([angles.cos(), angles.sin()], 1)).float()


def grid(side: int = 5, spacing: float = 2.0) -> torch.Tensor:
    """Return modes on a square grid around 0, float32 [side * side, 2].

    With the defaults and GRID_STD, these are the 25 modes from -4 to 4 of Srivastava et al. (2017,
    arXiv 1705.07761) and Lin et al. (2018, arXiv 1712.04086).
    """
    places = spacing * (torch.arange(side, dtype=torch.float32) - (side - 1) / 2)
    return torch.cartesian_prod(places, places)


def _check(std: float, batch_size: int) -> None:
    if not std > 0 or batch_size < 1:
        raise UserError(
            f"std {std} and batch_size {batch_size} describe no samples: std must be above 0 and batch_size at least 1"
        )
