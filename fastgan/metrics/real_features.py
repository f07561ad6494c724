"""The data of the real images that metrics need, computed once and kept.

Another run on the same set starts from it.
"""
from collections.abc import Collection, Iterator

import torch
from torch import nn

from fastgan.data import ImageSet
from fastgan.data.image_set import spread
from fastgan.metrics.frechet import RunningMoments, Target, target
from fastgan.metrics.networks.cached import cached
from fastgan.progress import progress_bar

_RECIPE = 1  # counts up when the same images and weights give other statistics


class RealFeatures:
    """The features of a set's images in one network, on `device`.

    Results that were asked for once stay there. num: of images, spread over the set; more than
    there are means all of them. wanted: the nums whose features will be asked for, so that a
    Gaussian of as many costs no pass of its own.
    """

    def __init__(
        self,
        real: ImageSet,
        network: nn.Module,
        device: torch.device,
        batch_size: int,
        progress: bool = False,
        wanted: Collection[int] = (),
    ):
        self._real, self._network, self._device, self._batch_size, self._progress = (
            real,
            network,
            device,
            batch_size,
            progress,
        )
        self._wanted = {min(num, real.num_images) for num in wanted}
        self._targets, self._features = {}, {}

    def target(self, num: int) -> Target:
        """Return the Gaussian of the features of `num` images."""
        num = min(num, self._real.num_images)
        if num not in self._targets:
            kept = cached("moments", self._facts(num), lambda: self._compute_target(num))
            self._targets[num] = Target(kept["mean"].to(self._device), kept["root"].to(self._device))
        return self._targets[num]

    def features(self, num: int) -> torch.Tensor:
        """Return the features, float32 [num, num_features]."""
        num = min(num, self._real.num_images)
        if num not in self._features:
            kept = cached("features", self._facts(num), lambda: {"features": torch.cat(list(self._passes(num)))})
            self._features[num] = kept["features"].to(self._device)
        return self._features[num]

    def _facts(self, num: int) -> dict:
        """Return the facts that identify the features.

        The shape is among them beside the checksum, which is that of the bytes alone.
        """
        return {"images": self._real.checksum, "shape": tuple(self._real.images.shape), "num": num,
                "network": self._network.name,
                "weights": self._network.identity, "recipe": _RECIPE}  # fmt: skip

    def _compute_target(self, num: int) -> dict[str, torch.Tensor]:
        moments = RunningMoments(self._network.num_features, self._device)
        for features in self.features(num).split(self._batch_size) if num in self._wanted else self._passes(num):
            moments.add(features)
        gaussian = target(moments)
        return {"mean": gaussian.mean, "root": gaussian.root}

    def _passes(self, num: int) -> Iterator[torch.Tensor]:
        rows = torch.tensor(spread(self._real.num_images, num))
        with progress_bar(f"{self._network.name} on {num} real images", num, self._progress) as advance:
            for part in rows.split(self._batch_size):
                yield self._network(self._real.images[part].permute(0, 3, 1, 2).to(self._device))
                advance(len(part))
