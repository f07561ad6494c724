"""Stacked digits: a set of known modes, on which the collapse of a generator can be counted.

Source: Metz et al., 2017, arXiv 1611.02163.
"""
from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np

from fastgan.data.classes import classes_of
from fastgan.data.image_set import ImageSet
from fastgan.data.source import Piece, Source, digest
from fastgan.data.sources.arrays import block_slices
from fastgan.errors import UserError

PREFIX = "stacked:"
NUM_IMAGES = 60_000
_SEED = 0


class StackedSource(Source):
    """60 000 images whose three channels are three grey images of `base`, drawn at random.

    The draw is always the same. The label of an image is the number that has the three classes as
    its digits: 100 a + 10 b + c for ten classes, which gives 1000 modes, and k*k a + k b + c for k
    classes. base: a labelled source; its images are taken at their own resolution, and those in
    colour are made grey. Raises UserError for a base without labels, and for one with more modes
    (k^3) than images.
    """

    def __init__(self, base: Source):
        self._base, self._base_set = base, None
        self.name, self.origin, self.num_images = PREFIX + base.name, PREFIX + base.origin, NUM_IMAGES
        self._num_classes, names = classes_of(base)
        if self._num_classes**3 > NUM_IMAGES:
            raise UserError(f"{self.origin}: {self._num_classes} classes give {self._num_classes**3} modes for "
                            f"{NUM_IMAGES} images: stack a set of fewer classes, such as mnist")
        names = names or tuple(map(str, range(self._num_classes)))
        self.class_names = tuple(", ".join(chosen) for chosen in product(names, repeat=3))

    @property
    def native_resolution(self) -> int:
        return self._base.native_resolution

    @property
    def native_channels(self) -> int:
        return 3

    def prepare(self, progress: bool) -> None:
        self._read_base(False, progress)

    def notes(self, img_channels: int) -> tuple[str, ...]:
        return self._base.notes(1)

    def fingerprint(self) -> str | None:
        of_base = self._base.fingerprint()
        return None if of_base is None else digest([PREFIX, of_base, NUM_IMAGES, _SEED])

    def read(self, img_resolution: int, img_channels: int, skip_bad: bool = False, progress: bool = False) -> ImageSet:
        """Read the images as Source.read does; it is the base that may have bad images."""
        self._read_base(skip_bad, progress)
        return super().read(img_resolution, img_channels, skip_bad, progress)

    def pieces(self) -> Iterator[Piece]:
        images, digits = self._base_set.images.numpy(), self._base_set.labels.numpy()
        # The numbers of RandomState are promised never to change
        chosen = np.random.RandomState(_SEED).randint(0, len(images), (NUM_IMAGES, 3))
        labels = digits[chosen] @ np.array([self._num_classes**2, self._num_classes, 1])
        for rows in block_slices((NUM_IMAGES, *images.shape[1:3], 3), images.dtype):
            where = f"images {rows.start} to {rows.stop - 1} of {self.origin}"
            yield Piece(where, partial(_stack, images, chosen[rows]), labels[rows], rows.stop - rows.start)

    def _read_base(self, skip_bad: bool, progress: bool) -> None:
        if self._base_set is None:
            self._base.value_range = self.value_range
            base_set = self._base.read(self._base.native_resolution, 1, skip_bad, progress)
            if base_set.labels is None or base_set.labels.max() >= self._num_classes:
                raise UserError(
                    f"{self.origin}: there are {self._num_classes} class names, but its images do not have such "
                    "labels: fix the labels of the set"
                )
            self._base_set, self.skipped = base_set, base_set.skipped


def _stack(images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return uint8 [n, R, R, 3] from grey images and the numbers of the channels.

    The grey images are [num_images, R, R, 1], the numbers [n, 3].
    """
    return np.moveaxis(images[chosen, :, :, 0], 1, 3)
