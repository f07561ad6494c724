"""Every image of a source in memory, at one size: the result of reading it."""
from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A whole set of images of one size.

    images: uint8 [num_images, H, W, C], contiguous, C = 1 (grey), 3 (RGB) or 4 (RGBA). Those of a
    packed file stay in the file, which is mapped. labels: int64 [num_images], class numbers from 0,
    or None for a set without classes. class_names: the name of each class number, or None where the
    source gives none. name: the name of the set in logs. skipped: the files that were left out,
    each with its reason ("cats/7.png: is cut short").
    """

    images: torch.Tensor
    labels: torch.Tensor | None
    class_names: tuple[str, ...] | None
    name: str
    skipped: tuple[str, ...] = ()

    @property
    def num_images(self) -> int:
        return len(self.images)

    @property
    def img_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return tuple(self.images.shape[1:])

    def sample(self, num: int) -> torch.Tensor:
        """Return `num` images spread over the set, or all of a smaller set: uint8 [n, H, W, C]."""
        return self.images[spread(self.num_images, num)]

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the bytes of `images`, in hexadecimal; computed at first use."""
        return hashlib.sha256(self.images.numpy()).hexdigest()


def spread(num_images: int, num: int) -> list[int]:
    """Return the numbers of `num` images from the first to the last at equal distances.

    Return those of all images where there are fewer.
    """
    num = min(num, num_images)
    return [index * (num_images - 1) // max(num - 1, 1) for index in range(num)]
