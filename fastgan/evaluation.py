"""A snapshot measured beside real images: `fastgan eval`."""
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fastgan import plots
from fastgan.config import Config
from fastgan.data import ImageSet, open_source
from fastgan.errors import UserError
from fastgan.metrics import Evaluator
from fastgan.sample import draw_z, evaluating
from fastgan.snapshots import load_generator


@dataclass(frozen=True)
class Evaluation:
    """numbers: by their names (Evaluator.evaluate). notes: what a reader of them should know, a sentence each."""

    numbers: dict[str, float]
    notes: tuple[str, ...]

    def describe(self) -> str:
        """A line a number, then the notes."""
        width = max(map(len, self.numbers))
        return "\n".join([f"{name:<{width}}  {value:.6g}" for name, value in self.numbers.items()] + [f"note: {note}" for note in self.notes])


def evaluate_snapshot(snapshot: Path, metrics: str, data: str | None = None, features: str = "inception", device: str | None = None,
                      batch_size: int = 64, seed: int = 0, progress: bool = True) -> Evaluation:
    """Measure the generator of a snapshot, or of the newest one of a run folder.

    metrics, features, batch_size: as Evaluator has them. data: the real images, as fastgan train takes them; None = those it was trained on.
    device: None = cuda where there is one. seed: of z and of the classes. Raises UserError for anything of these that does not fit.
    """
    G, config = load_generator(snapshot)
    if config.model.architecture == "samples":
        raise UserError(f"{snapshot} makes samples of a density, no images: fastgan sample draws their histogram beside the density")
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = config.model
    real = open_source(data or config.data.source).read(model.img_resolution, model.img_channels, config.data.skip_bad, progress)
    evaluator = Evaluator(real, metrics, features, target, batch_size, progress)
    with evaluating(G):
        return Evaluation(evaluator.evaluate(image_maker(G.to(target), config, real, seed, target)), evaluator.notes)


def image_maker(G: torch.nn.Module, config: Config, real: ImageSet, seed: int, device: torch.device) -> Callable[[int], tuple]:
    """What Evaluator.evaluate calls: uint8 images of G in fp32, whatever mode it is in, and the classes asked for (None where G has none).

    Classes come as often as in the real set, or equally often where it has no labels. The same seed gives the same images, portion by portion.
    """
    generator, model = torch.Generator().manual_seed(seed), config.model
    num_classes = model.c_dim

    @torch.no_grad()
    def generate(num: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        z = draw_z(num, (model.z_dim,), model.z_distribution, generator, torch.device("cpu")).to(device)
        c = _draw_classes(num, num_classes, real, generator).to(device) if num_classes else None
        images = G(z, c) if num_classes else G(z)
        return plots.to_uint8(images, model.img_low, 1.0), c
    return generate


def _draw_classes(num: int, num_classes: int, real: ImageSet, generator: torch.Generator) -> torch.Tensor:
    if real.labels is None:
        return torch.randint(num_classes, (num,), generator=generator)
    return real.labels[torch.randint(real.num_images, (num,), generator=generator)]
