"""The data that metrics keep of the generated images; the images themselves are not kept.

They are running moments, the features of the first images, and verdicts.
"""
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from fastgan.metrics.classifier_metrics import Judge
from fastgan.metrics.frechet import RunningMoments
from fastgan.metrics.names import Metric, counts


class Generated:
    """Data of the generated images, added by `add` portion by portion.

    No portion may extend across a number of images that a metric asks for (see `portions`).
    """

    def __init__(
        self, metrics: Sequence[Metric], network: nn.Module | None, judges: Mapping[str, Judge], device: torch.device
    ):
        self._network, self._judges, self._num = network, judges, 0
        self.moments = {num: RunningMoments(network.num_features, device) for num in counts(metrics, "fid")}
        self._num_kept = max(counts(metrics, "kid", "pr", "dc"), default=0)
        self._num_featured = max(self._num_kept, *self.moments, 0)
        self._num_judged = {kind: max(counts(metrics, kind)) for kind in judges}
        self._features, self._verdicts = [], {kind: [] for kind in judges}

    def add(self, images: torch.Tensor, asked: torch.Tensor | None) -> None:
        """Add a portion of images, uint8 [N, C, H, W] on the device.

        asked: the classes asked for, int64 [N], or None.
        """
        if self._num < self._num_featured:
            self._add_features(self._network(images))
        for kind, judge in self._judges.items():
            if self._num < self._num_judged[kind]:
                self._verdicts[kind].append(judge.judge(images, asked))
        self._num += len(images)

    def features(self, num: int) -> torch.Tensor:
        """Return the features of the first images, float32 [num, num_features].

        num is at most the number that kid, pr and dc ask for.
        """
        self._features = [torch.cat(self._features)]
        return self._features[0][:num]

    def verdicts(self, kind: str, num: int) -> torch.Tensor:
        """Return int64 [num, ...] of the first images, by the classifier of this kind of metric."""
        return torch.cat(self._verdicts[kind])[:num]

    def _add_features(self, features: torch.Tensor) -> None:
        for num, moments in self.moments.items():
            if self._num < num:
                moments.add(features)
        if self._num < self._num_kept:
            self._features.append(features)


def portions(metrics: Sequence[Metric], batch_size: int) -> list[int]:
    """Return the numbers of images to ask a generator for, batch_size or less each.

    Every number that a metric asks for is the sum of the first ones.
    """
    wanted, done, sizes = counts(metrics, *{metric.kind for metric in metrics}), 0, []
    for num in wanted:
        whole, rest = divmod(num - done, batch_size)
        sizes += [batch_size] * whole + [rest] * (rest > 0)
        done = num
    return sizes
