"""Samples drawn as they are needed, for learning a known distribution."""
import torch

from fastgan.data.feed import Feed
from fastgan.errors import UserError


class GaussianFeed(Feed):
    """Fresh samples of a normal distribution, float32 [batch_size, 1], from a generator whose state is the position.

    mean, std: of the distribution, std > 0. generator: on the device of the samples; who shares it sees to its state.
    """

    traceable = False  # the compiler takes no generators

    def __init__(self, mean: float, std: float, batch_size: int, generator: torch.Generator):
        if not std > 0 or batch_size < 1:
            raise UserError(f"std {std} and batch_size {batch_size} describe no samples: std must be above 0 and batch_size at least 1")
        super().__init__(batch_size)
        self._mean, self._std, self._generator = mean, std, generator

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def seek(self, nimg: int) -> None:
        self.nimg = nimg

    def reserve(self, num_steps: int) -> None:
        pass

    def read(self) -> torch.Tensor:
        samples = torch.randn(self.batch_size, 1, generator=self._generator, device=self._generator.device)
        return samples.mul_(self._std).add_(self._mean)
