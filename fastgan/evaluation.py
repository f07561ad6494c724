"""A snapshot compared with real images: `fastgan eval`."""
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fastgan import plots
from fastgan.config import DENSITIES, Config
from fastgan.config.validation import check_device
from fastgan.data import ImageSet, open_source
from fastgan.data.classes import check_classes
from fastgan.device.precision import choose_precision
from fastgan.errors import UserError
from fastgan.metrics import Evaluator
from fastgan.metrics.names import parse
from fastgan.run.sampler import draw_classes, draw_z, evaluating
from fastgan.run.snapshots import load_generator


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    numbers: by their names (Evaluator.evaluate). notes: facts for the reader of the numbers, a
    sentence each.
    """

    numbers: dict[str, float]
    notes: tuple[str, ...]

    def describe(self) -> str:
        """Return a line for each number, then the notes."""
        width = max(map(len, self.numbers))
        return "\n".join(
            [f"{name:<{width}}  {value:.6g}" for name, value in self.numbers.items()]
            + [f"note: {note}" for note in self.notes]
        )

    def to_json(self) -> str:
        """Return {"numbers": {name: number}, "notes": [...]} as JSON.

        A number that is not finite is null, since JSON has none.
        """
        numbers = {name: value if math.isfinite(value) else None for name, value in self.numbers.items()}
        return json.dumps({"numbers": numbers, "notes": self.notes}, indent=2)


def evaluate_snapshot(
    snapshot: Path,
    metrics: str,
    data: str | None = None,
    features: str = "inception",
    device: str | None = None,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Measure the generator of a snapshot, or of the newest one of a run folder.

    metrics, features, batch_size: as Evaluator has them. data: the real images, as fastgan train
    takes them; None = those it was trained on. device: None = cuda where there is one. seed: of z
    and of the classes. Raises UserError where one of these does not fit.
    """
    G, config = load_generator(snapshot)
    if config.data.source in DENSITIES:
        raise UserError(
            f"{snapshot} generates samples of a density, not images: fastgan sample plots them with the density"
        )
    target = _device(device)
    model = config.model
    _check_asked(metrics, model.c_dim, snapshot)
    source = open_source(data or config.data.source, config.data.range)
    real = source.read(model.img_resolution, model.img_channels, config.data.skip_bad, progress)
    notes = source.notes(model.img_channels)
    if model.c_dim and real.labels is not None:
        notes += check_classes(real.labels, real.class_names, real.name, model.c_dim)
    evaluator = Evaluator(real, metrics, features, target, batch_size, progress)
    with evaluating(G):
        return Evaluation(
            evaluator.evaluate(image_maker(G.to(target), config, real, seed, target)), (*evaluator.notes, *notes)
        )


def image_maker(
    G: torch.nn.Module, config: Config, real: ImageSet, seed: int, device: torch.device
) -> Callable[[int], tuple]:
    """Return the `generate` function for Evaluator.evaluate.

    It returns uint8 images of G in fp32, independent of G's mode, and the classes asked for (None
    where G has none). Classes come as often as in the real set, or equally often where it has no
    labels. The same seed gives the same images, portion by portion.
    """
    generator, model = torch.Generator().manual_seed(seed), config.model
    c_dim = model.c_dim

    @torch.no_grad()
    def generate(num: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        z = draw_z(num, (model.z_dim,), model.z_distribution, generator, torch.device("cpu")).to(device)
        c = draw_classes(num, c_dim, real.labels, generator).to(device) if c_dim else None
        images = G(z, c) if c_dim else G(z)
        return plots.to_uint8(images, model.img_low, 1.0), c
    return generate


def _device(name: str | None) -> torch.device:
    check_device(name)
    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    choose_precision(amp=False, device=device)  # refuses a GPU that is not there
    return device


def _check_asked(metrics: str, c_dim: int, snapshot: Path) -> None:
    """Raise UserError for errors in the metrics that can be found before any image is read."""
    asked = parse(metrics, num_real=2)  # num_real only sets the number of generated images
    if not c_dim and any(metric.kind == "accuracy" for metric in asked):
        raise UserError(
            f"accuracy needs a conditional generator, and that of {snapshot} is unconditional: leave accuracy out"
        )
