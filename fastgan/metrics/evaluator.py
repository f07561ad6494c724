"""Metrics of a generator's images compared with a set of real ones.

Intermediate results that several metrics need, of either set, are computed once.
"""
from collections.abc import Callable, Iterable, Iterator

import torch

from fastgan.data import ImageSet
from fastgan.errors import UserError
from fastgan.metrics import kid, precision_recall
from fastgan.metrics.classifier_metrics import JUDGES
from fastgan.metrics.frechet import frechet_distance
from fastgan.metrics.generated import Generated, portions
from fastgan.metrics.names import Metric, counts, parse
from fastgan.metrics.networks.features import fp32_arithmetic, open_features
from fastgan.metrics.real_features import RealFeatures
from fastgan.progress import progress_bar


class Evaluator:
    """The measurement of generators against a set of real images.

    It is made once, and used as often as a training likes.

    real: the set, at the size of the generator's images. metrics:
    `fid5k,kid5k,pr5k,dc5k,accuracy5k,modes26k` (names.parse). features: the network by name
    (features.open_features). batch_size: images that go through the network at once. progress: bars
    on stderr. notes: facts for the reader of the numbers, a sentence each. num_generated: images
    that `evaluate` asks a generator for. Raises UserError for metrics and networks that are
    unknown, weights that are missing, and labels that are.
    """

    def __init__(
        self,
        real: ImageSet,
        metrics: str | Iterable[str],
        features: str = "inception",
        device: str | torch.device = "cpu",
        batch_size: int = 64,
        progress: bool = False,
    ):
        if real.img_shape[2] > 3:
            raise UserError(f"metrics compare grey or colour images, and those of {real.name} have an alpha channel")
        self.metrics = parse(metrics, real.num_images)
        self.num_generated = max(metric.num for metric in self.metrics)
        self._real, self._device, self._batch_size, self._progress = real, torch.device(device), batch_size, progress
        needs_features = any(metric.needs_features for metric in self.metrics)
        self._network = open_features(features, real, self._device, progress) if needs_features else None
        self._reals = RealFeatures(
            real, self._network, self._device, batch_size, progress, counts(self.metrics, "kid", "pr", "dc")
        )
        self._judges = {
            kind: make(real, self._device, progress) for kind, make in JUDGES.items() if counts(self.metrics, kind)
        }
        self._real_similarity: dict[int, float] = {}
        self.notes = (*self._notes(), *(judge.note for judge in self._judges.values()))

    def evaluate(self, generate: Callable[[int], torch.Tensor | tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
        """Return the numbers by their names.

        The names are fid5k, kid5k, precision5k, recall5k, density5k, coverage5k, accuracy5k,
        accuracy5k_class3, modes26k, modes26k_kl; those of networks other than Inception are
        fd_NETWORK_5k, precision_NETWORK_5k and so on. generate(n): n images, uint8 [n, C, H, W] on
        any device, or a pair of them and the classes asked for (int64 [n], or None). It is called
        with batch_size or less until there are num_generated. The first call also computes the data
        of the real images that the cache lacks.
        """
        generated = Generated(self.metrics, self._network, self._judges, self._device)
        with fp32_arithmetic():
            with progress_bar("measuring generated images", self.num_generated, self._progress) as advance:
                for num in portions(self.metrics, self._batch_size):
                    generated.add(*self._received(generate(num), num))
                    advance(num)
            return {name: value for metric in self.metrics for name, value in self._numbers(metric, generated).items()}

    def _received(
        self, answer: torch.Tensor | tuple[torch.Tensor, torch.Tensor], num: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        images, asked = answer if isinstance(answer, tuple) else (answer, None)
        height, width, channels = self._real.img_shape
        if images.dtype != torch.uint8 or images.shape != (num, channels, height, width):
            raise UserError(f"the generator gave {images.dtype} {list(images.shape)} and was asked for uint8 "
                            f"{[num, channels, height, width]}: fastgan.plots.to_uint8 makes uint8 of floats, and the "
                            "real images must be read at the generator's size")
        return images.to(self._device), asked

    def _numbers(self, metric: Metric, generated: Generated) -> dict[str, float]:
        if metric.kind in self._judges:
            numbers = self._judges[metric.kind].numbers(generated.verdicts(metric.kind, metric.num))
            return {metric.label("") + suffix: value for suffix, value in numbers.items()}
        compute = {
            "fid": self._frechet,
            "kid": self._kernel,
            "pr": self._precision_recall,
            "dc": self._density_coverage,
        }[metric.kind]
        return {
            metric.label(self._network.name, quantity): value for quantity, value in compute(metric, generated).items()
        }

    def _frechet(self, metric: Metric, generated: Generated) -> dict[str, float]:
        real = self._reals.target(self._real.num_images if metric.full else metric.num)
        return {"fid": frechet_distance(real, generated.moments[metric.num])}

    def _kernel(self, metric: Metric, generated: Generated) -> dict[str, float]:
        real = self._reals.features(metric.num)
        if metric.num not in self._real_similarity:
            self._real_similarity[metric.num] = kid.self_similarity(real)
        return {"kid": kid.kernel_distance(real, generated.features(metric.num), self._real_similarity[metric.num])}

    def _precision_recall(self, metric: Metric, generated: Generated) -> dict[str, float]:
        real, fake, k = self._reals.features(metric.num), generated.features(metric.num), precision_recall.PR_NEIGHBOURS
        return {"precision": precision_recall.precision(real, precision_recall.squared_radii(real, k), fake),
                "recall": precision_recall.precision(fake, precision_recall.squared_radii(fake, k), real)}  # fmt: skip

    def _density_coverage(self, metric: Metric, generated: Generated) -> dict[str, float]:
        real, k = self._reals.features(metric.num), precision_recall.DC_NEIGHBOURS
        density, coverage = precision_recall.density_and_coverage(
            real, precision_recall.squared_radii(real, k), generated.features(metric.num), k
        )
        return {"density": density, "coverage": coverage}

    def _notes(self) -> Iterator[str]:
        if self._network is None:
            return
        name, num_features = self._network.name, self._network.num_features
        if name != "inception":
            yield (
                f"{name} is not the Inception network of FID: its numbers compare generators with each other, not with "
                "papers"
            )
        for metric in self.metrics:
            if not metric.needs_features:
                continue
            num_real = self._real.num_images if metric.full else min(metric.num, self._real.num_images)
            if num_real < metric.num and not metric.full:
                yield f"{metric.label(name)} is measured beside all {num_real} real images, fewer than are generated"
            fewest = min(num_real, metric.num)
            if metric.kind == "fid" and fewest <= num_features:
                yield (f"{metric.label(name)} takes a covariance of {num_features} features from {fewest} images, "
                       "which is singular: the number is too high, and comparable only with those of as many images")
