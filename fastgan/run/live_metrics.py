"""`--metrics`: quality of G's images, measured every few ticks of training.

G is measured against the real images of the run.
"""
import time
from dataclasses import dataclass

import torch

from fastgan import plots
from fastgan.config import Config
from fastgan.data import ImageSet
from fastgan.data.real_set import RealSet
from fastgan.data.tensors.tensor_set import TensorSet
from fastgan.errors import UserError
from fastgan.gan.train_state import TrainState
from fastgan.metrics import Evaluator
from fastgan.metrics.names import is_of_one_class
from fastgan.nn.pair.inspect_pair import untouched
from fastgan.run.sampler import Sampler, draw_classes

# Added to the run's seed: every measurement has the same z and classes, from a random stream other
# than training's and the grid's
SEED = 2_000_003


@dataclass(frozen=True)
class Measurement:
    """One measurement. numbers: by their names (Evaluator.evaluate). seconds: its duration."""

    numbers: dict[str, float]
    seconds: float

    def describe(self) -> str:
        """Return the numbers in a line, without those of single classes."""
        return ", ".join(f"{name} {value:.4g}" for name, value in self.numbers.items() if not is_of_one_class(name))


class LiveMetrics:
    """The metrics of the generator of samples, in the precision of the run.

    Measuring changes nothing that training depends on. real_set: of the run, wholly in memory.
    notes: for readers of the numbers, a sentence each. seconds: duration of all measurements.
    Raises UserError for metrics and features that Evaluator refuses, and for runs that cannot be
    measured.
    """

    def __init__(self, config: Config, real_set: RealSet | None, sampler: Sampler, state: TrainState):
        real = _whole_set(real_set)
        self._config, self._gallery, self._networks, self._labels = config, sampler, state, real.labels
        self._device, self.seconds = state.totals.tensor.device, 0.0
        with untouched():
            self._evaluator = Evaluator(real, config.run.metrics, config.run.features, self._device)
        self.notes = self._evaluator.notes
        if not config.model.c_dim and any(metric.kind == "accuracy" for metric in self._evaluator.metrics):
            raise UserError(
                "--metrics accuracy needs a conditional generator: leave it out, or train with --cond"
            )

    def is_due(self, tick: int, last: bool) -> bool:
        """Return True after every metric_ticks ticks, and after the last one."""
        return last or tick % self._config.run.metric_ticks == 0

    def measure(self) -> Measurement:
        """Measure now. Waits for the device."""
        started, seed = time.perf_counter(), self._config.run.seed + SEED
        z_generator = torch.Generator(self._device).manual_seed(seed)
        class_generator = torch.Generator().manual_seed(seed)
        model = self._config.model

        def generate(num: int) -> tuple[torch.Tensor, torch.Tensor | None]:
            labels = draw_classes(num, model.c_dim, self._labels, class_generator) if model.c_dim else None
            return plots.to_uint8(self._gallery.samples(num, z_generator, labels), model.img_low, 1.0), labels

        with untouched(self._networks.G_ema):
            torch.manual_seed(seed)  # of noise that G adds by itself
            numbers = self._evaluator.evaluate(generate)
        measurement = Measurement(numbers, time.perf_counter() - started)
        self.seconds += measurement.seconds
        return measurement


def _whole_set(real_set: RealSet | None) -> ImageSet:
    if real_set is None:
        raise UserError("--metrics needs images, and this run learns samples of a density: leave it out")
    if isinstance(real_set, TensorSet):
        return real_set.image_set()
    if not isinstance(real_set, ImageSet):
        raise UserError("--metrics needs all real images in memory, and --data-backend dali decodes them on demand: "
                        "leave it out, "
                        "give another --data-backend, or measure snapshots with fastgan eval")  # fmt: skip
    return real_set
