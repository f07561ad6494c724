"""What all sources of images share: pieces decoded by a few threads, in order, into one uint8 array."""
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image

from fastgan.data.bars import progress_bar
from fastgan.data.image_set import ImageSet
from fastgan.data.images import BadImage, fit
from fastgan.errors import UserError


@dataclass(frozen=True)
class Piece:
    """A few images of a source (one file, or one block of an array), not yet decoded.

    where: what an error calls it. load: gives a Pillow image or uint8 [num_images, h, w, c]; runs in a thread and may raise BadImage.
    labels: integers [num_images], or None.
    """

    where: str
    load: Callable[[], Image.Image | np.ndarray]
    labels: np.ndarray | None = None
    num_images: int = 1


class Source(ABC):
    """A set of images that has been looked at but not decoded.

    name: short, for logs. origin: in full, for errors. num_images: as found, bad ones included.
    class_names: by class number, or None. remedy: what the user can do about one bad image.
    """

    name: str
    origin: str
    num_images: int
    class_names: tuple[str, ...] | None = None
    remedy: str = ""

    @property
    @abstractmethod
    def native_resolution(self) -> int:
        """The shorter side of the first image, in pixels."""

    @property
    @abstractmethod
    def native_channels(self) -> int:
        """1 when the first image is grey, else 3."""

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """Every image, in an order that never changes."""

    def read(self, img_resolution: int, img_channels: int, skip_bad: bool = False, progress: bool = False) -> ImageSet:
        """Decode every image to uint8 [img_resolution, img_resolution, img_channels] by the rule of fastgan/data/images.py.

        skip_bad: leave out images that cannot be used and list them in `ImageSet.skipped`, instead of stopping at the first.
        Raises UserError for an image that cannot be used, for fewer than two usable images and for a set beyond the memory.
        """
        collected = _Collector(self, img_resolution, img_channels)
        decode = partial(_decode, img_resolution=img_resolution, img_channels=img_channels)
        with progress_bar(f"reading {self.name}", self.num_images, progress) as advance:
            for piece, decoded in _in_order(self.pieces(), decode):
                try:
                    collected.add(piece, decoded.result())
                except BadImage as reason:
                    if not skip_bad:
                        raise UserError(f"{piece.where}: {reason}{self.remedy}") from reason
                    collected.skip(piece, reason)
                advance(piece.num_images)
        return collected.finish()


class _Collector:
    """The images as they arrive, packed without gaps, so that a skipped one costs no copy."""

    def __init__(self, source: Source, img_resolution: int, img_channels: int):
        if img_channels not in (1, 3) or img_resolution < 1:
            raise UserError(f"images of {img_channels} channels at resolution {img_resolution} are not made: "
                            "img_channels is 1 (grey) or 3 (colour), img_resolution at least 1")
        shape = (source.num_images, img_resolution, img_resolution, img_channels)
        try:
            self._images = np.empty(shape, np.uint8)
        except (MemoryError, ValueError) as error:
            raise UserError(f"{source.origin} at {shape[1:]} needs more memory than there is: lower img_resolution or use fewer images") from error
        self._source, self._labels, self._skipped, self._num_kept = source, [], [], 0

    def add(self, piece: Piece, decoded: np.ndarray) -> None:
        self._images[self._num_kept:self._num_kept + len(decoded)] = decoded
        self._num_kept += len(decoded)
        self._labels.append(piece.labels)

    def skip(self, piece: Piece, reason: BadImage) -> None:
        self._skipped.append(f"{piece.where}: {reason}")

    def finish(self) -> ImageSet:
        if self._num_kept < 2:
            raise UserError(f"{self._source.origin}: only {self._num_kept} of {self._source.num_images} images could be used and a set needs 2; "
                            f"the first that was left out is {self._skipped[0]}")
        images = torch.from_numpy(self._images[:self._num_kept])
        return ImageSet(images, self._joined_labels(), self._source.class_names, self._source.name, tuple(self._skipped))

    def _joined_labels(self) -> torch.Tensor | None:
        num_without = sum(labels is None for labels in self._labels)
        if num_without == len(self._labels):
            return None
        if num_without:
            raise UserError(f"{self._source.origin}: some images have a label and some have none; label all of them or none")
        labels = np.concatenate(self._labels).astype(np.int64)
        if labels.min() < 0:
            raise UserError(f"{self._source.origin}: the label {labels.min()} is negative; classes are numbered from 0")
        return torch.from_numpy(labels)


def _decode(piece: Piece, img_resolution: int, img_channels: int) -> np.ndarray:
    return fit(piece.load(), img_resolution, img_channels)


def _in_order(pieces: Iterator[Piece], work: Callable[[Piece], np.ndarray]) -> Iterator[tuple[Piece, Future]]:
    """Each piece with the future of work(piece), in the order of `pieces`; only a few are in memory at a time."""
    num_threads = os.cpu_count() or 1
    waiting: deque[tuple[Piece, Future]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for piece in pieces:
            waiting.append((piece, pool.submit(work, piece)))
            if len(waiting) > 2 * num_threads:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
