"""Metrics of a generator.

They are moments, modes of a mixture, classes, modes of stacked digits, or a Frechet distance.
"""
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from fastgan import plots
from fastgan.bench.quality.training_cases import is_stacked
from fastgan.config import Config
from fastgan.data import ImageSet
from fastgan.evaluation import image_maker
from fastgan.metrics import Evaluator, mixture_coverage
from fastgan.run.feeds import centres_of
from fastgan.run.sampler import draw_z, evaluating

NUM_SAMPLES = 10_000  # of a density
SEED = 1_000_000  # of the z that generators are measured with: always the same ones
WITHOUT_LABELS = "efficientnet_lite0"  # features for sets whose classes nobody knows
ONE_CLASS = re.compile(r"_class\d+$")


@dataclass(frozen=True)
class Meter:
    """measure(G): numbers by their names, the first one the metric of the preset.

    note: a remark for a reader of the numbers.
    """

    measure: Callable[[nn.Module], dict[str, float]]
    note: str = ""


def make_meter(config: Config, real: ImageSet | None, device: torch.device, num_images: str = "2k") -> Meter:
    """Return the meter for a complete configuration.

    G is measured in evaluation mode and fp32, and training's random numbers stay as they are.

    real: the set at the size of G's images, None where G makes samples of a density. num_images: of
    a Frechet distance and of the accuracy of classes. Raises UserError where a set has no labels
    and there are no weights of features for it.
    """
    meter = _density_meter(config, device) if real is None else _image_meter(config, real, device, num_images)

    def measure(G: nn.Module) -> dict[str, float]:
        with torch.random.fork_rng(), evaluating(G):
            return meter.measure(G)
    return Meter(measure, meter.note)


def _density_meter(config: Config, device: torch.device) -> Meter:
    model, generator = config.model, torch.Generator().manual_seed(SEED)
    z = draw_z(NUM_SAMPLES, (model.z_dim,), model.z_distribution, generator, torch.device("cpu")).to(device)

    @torch.no_grad()
    def samples(G: nn.Module) -> torch.Tensor:
        return G(z).float()

    if config.data.source == "gaussian":
        return Meter(lambda G: plots.moments(samples(G)))
    centres, std = centres_of(config.data.source)
    return Meter(lambda G: mixture_coverage(samples(G), centres.to(device), std))


def _image_meter(config: Config, real: ImageSet, device: torch.device, num_images: str) -> Meter:
    kinds = (
        ("modes",)
        if is_stacked(config.data.source)
        else ("accuracy" + num_images, "fid" + num_images)[not config.model.c_dim :]
    )
    evaluator = Evaluator(real, kinds, "classifier" if real.labels is not None else WITHOUT_LABELS, device)
    return Meter(
        lambda G: with_worst_class(evaluator.evaluate(image_maker(G, config, real, SEED, device))),
        "; ".join(evaluator.notes),
    )


def with_worst_class(numbers: dict[str, float]) -> dict[str, float]:
    """Replace the numbers of each class by the lowest of the classes, `accuracy2k_worst`."""
    of_classes = {name: value for name, value in numbers.items() if ONE_CLASS.search(name)}
    others = {name: value for name, value in numbers.items() if name not in of_classes}
    return others | {ONE_CLASS.sub("_worst", name): min(of_classes.values()) for name in list(of_classes)[:1]}
