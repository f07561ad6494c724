"""The facts about its real images that a run needs beside the feed.

They are the same for a set that was decoded in advance and for one that was not.
"""
import contextlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from fastgan.data.image_set import spread
from fastgan.data.images import BadImage, fit
from fastgan.data.source import Source


class RealSet(Protocol):
    """A set of images of one size. An ImageSet is one."""

    @property
    def name(self) -> str:
        """The name of the set in logs."""

    @property
    def num_images(self) -> int | None:
        """The number of images, without those that were left out; None where it is unknown."""

    @property
    def labels(self) -> torch.Tensor | None:
        """int64 [num_images] on the CPU, class numbers from 0, or None without classes."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The name of each class number, or None where the source gives none."""

    @property
    def img_shape(self) -> tuple[int, ...]:
        """(H, W, C), or the shape of a sample that is no image."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """The files that were left out, each with its reason."""

    def sample(self, num: int) -> torch.Tensor:
        """Return `num` images spread over the set, or all of a smaller set: uint8 [n, H, W, C].

        Samples that are no bytes come as D sees them, float32.
        """


@dataclass(frozen=True, eq=False)
class EncodedSet:
    """A RealSet whose images are decoded when they are asked for.

    source: of `num_images` files that can be used, and of the `skipped` ones. labels: of those that
    can be used.
    """

    source: Source
    num_images: int
    img_shape: tuple[int, int, int]
    skipped: tuple[str, ...] = ()
    labels: torch.Tensor | None = None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.source.class_names

    def sample(self, num: int) -> torch.Tensor:
        """Return a sample as RealSet does.

        In place of a file that cannot be decoded comes the next one that can, if there is one.
        """
        wanted, num_owed, images = set(spread(self.source.num_images, min(num, self.num_images))), 0, []
        for index, piece in enumerate(self.source.pieces()):
            num_owed += index in wanted
            if num_owed:
                with contextlib.suppress(BadImage):
                    images.append(fit(piece.load(), self.img_shape[0], self.img_shape[2]))
                    num_owed -= 1
        return torch.from_numpy(np.concatenate(images))
