"""Pictures of what G makes while it is trained: always the same noise, a class a row, and samples on demand.

Looking changes nothing: a G that draws noise of its own in every mode draws it from a state that is not training's.
"""
import torch

from fastgan.adapt import Signature, untouched
from fastgan.config import DENSITIES, Config
from fastgan.errors import UserError
from fastgan.networks import Networks
from fastgan.precision import Precision
from fastgan.sample import draw_z, generate_chunks, labels_for_grid

GRID_SEED = 1_000_003  # added to the run's seed: the grid's z come from another random stream than training's
DENSITY_SAMPLES = 100_000  # for a histogram


class Gallery:
    """Samples of a run's G_ema (or G, where there is no average), in evaluation mode.

    img_shape: (C, H, W) of the images; None where the samples are no images.
    """

    def __init__(self, config: Config, signature: Signature, networks: Networks, precision: Precision, img_shape: tuple[int, int, int] | None):
        self._config, self._signature, self._networks, self._precision = config, signature, networks, precision
        self._img_shape, self._device = img_shape, networks.totals.tensor.device
        self._grid_c, self.columns = labels_for_grid(config.run.grid, config.model.c_dim)
        num = config.run.grid if self._grid_c is None else len(self._grid_c)
        self._grid_z = self._draw_z(num, self._generator(config.run.seed + GRID_SEED))

    def grid(self) -> torch.Tensor:
        """The fixed-noise images, float32 [num, C, H, W], a class a row; for a density, samples enough for a histogram."""
        if self._config.data.source in DENSITIES:
            return self.samples(DENSITY_SAMPLES, self._config.run.seed)
        with untouched():
            torch.manual_seed(self._config.run.seed)  # of the noise that G draws by itself
            return self._generate(self._grid_z, self._grid_c)

    def samples(self, num: int, seed: int | torch.Generator | None = None, labels: torch.Tensor | int | None = None) -> torch.Tensor:
        """float32 [num, ...] on the device. labels: one class, or int64 [num]; None = all classes in turn. Others are a UserError.

        seed: None = fresh randomness. A generator goes on, and what G draws by itself comes from torch's default one, which is the caller's care.
        """
        if isinstance(seed, torch.Generator):
            return self._samples(num, seed, labels)
        generator = self._generator(seed)
        with untouched():
            torch.manual_seed(generator.initial_seed())
            return self._samples(num, generator, labels)

    def _samples(self, num: int, generator: torch.Generator, labels: torch.Tensor | int | None) -> torch.Tensor:
        return self._generate(self._draw_z(num, generator), self._all_labels(num, labels))

    def _all_labels(self, num: int, labels: torch.Tensor | int | None) -> torch.Tensor | None:
        """int64 [num], or None for a G that knows of no classes."""
        c_dim = self._config.model.c_dim
        if labels is None:
            return torch.arange(num) % c_dim if c_dim else None
        if not c_dim:
            raise UserError("this G was trained without classes: leave c out")
        labels = torch.full((num,), labels) if isinstance(labels, int) else labels
        if labels.dtype != torch.int64 or labels.shape != (num,) or not bool(((labels >= 0) & (labels < c_dim)).all()):
            raise UserError(f"c is one class, or int64 [{num}], from 0 to {c_dim - 1}; it was {labels.dtype} {list(labels.shape)} or beyond")
        return labels

    def _generator(self, seed: int | None) -> torch.Generator:
        generator = torch.Generator(self._device)
        generator.seed() if seed is None else generator.manual_seed(seed)
        return generator

    def _draw_z(self, num: int, generator: torch.Generator) -> torch.Tensor:
        return draw_z(num, self._signature.z_shape, self._config.model.z_distribution, generator, self._device)

    @torch.no_grad()
    def _generate(self, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Images [num, C, H, W], flat ones unfolded, or samples [num, features]."""
        run = self._config.run
        chunk = len(z) if self._img_shape is None else run.batch_gpu or run.batch_size  # samples of a density are small: all at once
        condition = () if labels is None else self._networks.condition(labels.to(self._device))
        images = generate_chunks(self._networks.G_ema, z, self._precision.autocast, chunk, condition)
        return images if self._img_shape is None else images.view(len(z), *self._img_shape)
