"""Images from a generator, for the pictures of a run.

Noise and classes, G run in chunks, and grids of always the same noise with a class a row. Sampling
changes nothing in training: a G that draws noise of its own in every mode draws it from a state
that is not training's.
"""
import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from fastgan.config import DENSITIES, Config
from fastgan.errors import UserError
from fastgan.gan.train_state import TrainState
from fastgan.nn.pair.inspect_pair import Signature, untouched

GRID_SEED = 1_000_003  # added to the run's seed: the grid's z come from another random stream than training's
DENSITY_SAMPLES = 100_000  # for a histogram


class Sampler:
    """The sampler of a run's G_ema (or G, where there is no average), in evaluation mode.

    img_shape: (C, H, W) of the images; None where the samples are no images. vectors: float32 [num,
    c_dim], labels of real samples where labels are vectors, used in turn.
    """

    def __init__(
        self,
        config: Config,
        signature: Signature,
        state: TrainState,
        img_shape: tuple[int, int, int] | None,
        vectors: torch.Tensor | None = None,
    ):
        self._config, self._signature, self._state = config, signature, state
        self._img_shape, self._device = img_shape, state.totals.tensor.device
        self._vectors = vectors
        if vectors is None:
            self._grid_c, self.columns = labels_for_grid(config.run.grid, config.model.c_dim)
        else:
            self._grid_c, self.columns = self._all_labels(config.run.grid, None), None
        num = config.run.grid if self._grid_c is None else len(self._grid_c)
        self._grid_z = self._draw_z(num, self._generator(config.run.seed + GRID_SEED))

    def grid(self) -> torch.Tensor:
        """Return the fixed-noise images, float32 [num, C, H, W], a class a row.

        For a density: enough samples for a histogram.
        """
        if self._config.data.source in DENSITIES:
            return self.samples(DENSITY_SAMPLES, self._config.run.seed)
        with untouched():
            torch.manual_seed(self._config.run.seed)  # for the noise that G draws by itself
            return self._generate(self._grid_z, self._grid_c)

    def samples(
        self, num: int, seed: int | torch.Generator | None = None, labels: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Return samples, float32 [num, ...] on the device.

        labels: one class, or int64 [num]; None = all classes in turn. Raises UserError for others.

        seed: None = fresh randomness. A generator continues, and the noise that G draws by itself
        comes from torch's default generator, which the caller manages.
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
        """Return int64 [num], float32 [num, c_dim] for vectors, or None for an unconditional G."""
        c_dim = self._config.model.c_dim
        if self._vectors is not None:
            return self._all_vectors(num, labels)
        if labels is None:
            return torch.arange(num) % c_dim if c_dim else None
        if not c_dim:
            raise UserError("this G was trained without classes: leave c out")
        labels = torch.full((num,), labels) if isinstance(labels, int) else labels
        if labels.dtype != torch.int64 or labels.shape != (num,) or not bool(((labels >= 0) & (labels < c_dim)).all()):
            raise UserError(
                f"c is one class, or int64 [{num}], from 0 to {c_dim - 1}; it was {labels.dtype} "
                f"{list(labels.shape)} or out of range"
            )
        return labels

    def _all_vectors(self, num: int, labels: torch.Tensor | int | None) -> torch.Tensor:
        if labels is None:
            return self._vectors[torch.arange(num) % len(self._vectors)]
        shape = (num, self._config.model.c_dim)
        if not isinstance(labels, torch.Tensor) or labels.shape != shape or not labels.is_floating_point():
            raise UserError(f"c is float32 {list(shape)}, as the labels of the data are vectors")
        return labels.float().cpu()

    def _generator(self, seed: int | None) -> torch.Generator:
        generator = torch.Generator(self._device)
        generator.seed() if seed is None else generator.manual_seed(seed)
        return generator

    def _draw_z(self, num: int, generator: torch.Generator) -> torch.Tensor:
        return draw_z(num, self._signature.z_shape, self._config.model.z_distribution, generator, self._device)

    @torch.no_grad()
    def _generate(self, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Return images [num, C, H, W], flat ones unfolded, or samples [num, features]."""
        run = self._config.run
        # Samples of a density are small: all at once
        chunk = len(z) if self._img_shape is None else run.batch_gpu or run.batch_size
        state, beside = self._state, () if labels is None else (labels.to(self._device),)

        def generate(z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
            return state.calls.generate(state.G_ema, z, labels)

        with evaluating(state.G_ema):
            images = in_chunks(generate, z, state.precision.autocast, chunk, beside)
        return images if self._img_shape is None else images.view(len(z), *self._img_shape)


GRID_ROWS, GRID_COLUMNS = 16, 8  # of a grid with a class a row


def draw_z(
    num: int, z_shape: tuple[int, ...], distribution: str, generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    """Return float32 [num, *z_shape]: normal N(0,1), uniform U(-1,1) or unit_uniform U(0,1)."""
    if distribution == "normal":
        return torch.randn(num, *z_shape, generator=generator, device=device)
    z = torch.rand(num, *z_shape, generator=generator, device=device)
    return z * 2 - 1 if distribution == "uniform" else z


def draw_classes(num: int, c_dim: int, labels: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
    """Return int64 [num], as often as they come in `labels`, or equally often without labels.

    labels: int64 [num_images] of a real set, below c_dim. generator: on the CPU, as the labels are.
    """
    if labels is None:
        return torch.randint(c_dim, (num,), generator=generator)
    return labels[torch.randint(len(labels), (num,), generator=generator)]


def labels_for_grid(num: int, c_dim: int) -> tuple[torch.Tensor | None, int | None]:
    """Return (labels int64 [rows * columns], columns) of a grid with a class a row.

    The grid has about `num` images: as many rows as there are classes, at most GRID_ROWS, and at
    least GRID_COLUMNS in a row. (None, None) without classes.
    """
    if not c_dim:
        return None, None
    rows = min(c_dim, GRID_ROWS)
    columns = max(GRID_COLUMNS, num // rows)
    return torch.arange(rows).repeat_interleave(columns), columns


@torch.no_grad()
def generate_chunks(
    G: nn.Module,
    z: torch.Tensor,
    autocast: Callable[[], contextlib.AbstractContextManager],
    chunk: int = 64,
    condition: tuple[torch.Tensor, ...] = (),
) -> torch.Tensor:
    """Return G(z, *condition) as float32 [num, ...], in evaluation mode.

    G runs on at most `chunk` images at a time, so that a grid never needs more memory than a step.
    """
    with evaluating(G):
        return in_chunks(G, z, autocast, chunk, condition)


def in_chunks(
    generate: Callable[..., torch.Tensor],
    z: torch.Tensor,
    autocast: Callable[[], contextlib.AbstractContextManager],
    chunk: int,
    beside: tuple[torch.Tensor, ...],
) -> torch.Tensor:
    """Return generate(z, *beside) as float32 [num, ...], computed for `chunk` z at a time."""
    with autocast():
        return torch.cat(
            [generate(*parts).float() for parts in zip(*(each.split(chunk) for each in (z, *beside)), strict=True)]
        )


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Set evaluation mode inside, and restore every module's own mode at the exit.

    Frozen parts of a user's network thereby stay frozen.
    """
    flags = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
