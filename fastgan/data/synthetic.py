"""Samples drawn as they are needed, for learning a known distribution."""
import numpy as np
import torch

from fastgan.errors import UserError


class GaussianFeed:
    """Fresh samples of a normal distribution, float32 [batch_size, 1]; never the same twice, and the same again after `seek`.

    mean, std: of the distribution, std > 0. A batch depends on seed, `nimg` (samples given so far) and batch_size alone.
    """

    def __init__(self, mean: float, std: float, batch_size: int, seed: int, device: str | torch.device = "cpu"):
        if not std > 0 or batch_size < 1:
            raise UserError(f"std {std} and batch_size {batch_size} describe no samples: std must be above 0 and batch_size at least 1")
        self.nimg = 0
        self._mean, self._std, self._batch_size, self._seed, self._device = mean, std, batch_size, seed, device

    def seek(self, nimg: int) -> None:
        """Go to where `nimg` samples have been given."""
        self.nimg = nimg

    def next_batch(self) -> torch.Tensor:
        """The next samples, float32 [batch_size, 1]."""
        # A counter-based generator can start anywhere; the position goes into a high word, so that no two batches share numbers.
        bits = np.random.Philox(key=self._seed, counter=[0, self.nimg, 0, 0])
        samples = np.random.Generator(bits).standard_normal((self._batch_size, 1), dtype=np.float32)
        self.nimg += self._batch_size
        return torch.from_numpy(samples).to(self._device).mul_(self._std).add_(self._mean)
