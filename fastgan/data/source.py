"""The common part of all sources of images.

Pieces of a source are decoded by a few threads, in order, into one uint8 array.
"""
from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from fastgan.data.image_set import ImageSet
from fastgan.data.images import BadImage, fit
from fastgan.errors import UserError
from fastgan.progress import progress_bar

Item = TypeVar("Item")

@dataclass(frozen=True)
class Piece:
    """A few images of a source (one file, or one block of an array), not yet decoded.

    where: its name in error messages. load: returns a Pillow image or uint8 [num_images, h, w, c];
    runs in a thread and may raise BadImage. labels: integers [num_images], or None.
    """

    where: str
    load: Callable[[], Image.Image | np.ndarray]
    labels: np.ndarray | None = None
    num_images: int = 1


class Source(ABC):
    """A set of images that has been examined but not decoded.

    name: short, for logs. origin: in full, for errors. num_images: as found, bad ones included.
    class_names: by class number, or None. why_no_labels: a sentence for a set whose labels cannot
    be used. skipped: files that were left out before. remedy: the user's way to deal with one bad
    image. value_range: the values that become 0 and 255 where they are no bytes, as the user asks;
    None = by the rule of fastgan/data/value_range.py.
    """

    name: str
    origin: str
    num_images: int
    class_names: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()
    remedy: str = ""
    why_no_labels: str = ""
    value_range: tuple[float, float] | None = None

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
        """Yield every image, in an order that never changes; called after `prepare`."""

    @cached_property
    def labels(self) -> np.ndarray | None:
        """Return the class numbers of all images as found, int64 [num_images], or None.

        None is for a set without classes. Called after `prepare`; decodes nothing.
        """
        return join_labels(self, [piece.labels for piece in self.pieces()])

    def prepare(self, progress: bool) -> None:  # noqa: B027  most sources have everything at hand
        """Bring files to this machine that are not there yet."""

    def notes(self, img_channels: int) -> tuple[str, ...]:
        """Return what was not read or was changed, a sentence each; complete after reading.

        img_channels: those that the images were read with.
        """
        return ()

    def fingerprint(self) -> str | None:
        """Return a digest that changes with the files of the source.

        It is a digest of their sizes and times of change, not of their content. None = there are no
        files.
        """
        return (
            digest([os.path.realpath(self.origin), self.num_images, file_facts(self.origin)])
            if os.path.exists(self.origin)
            else None
        )

    def read(self, img_resolution: int, img_channels: int, skip_bad: bool = False, progress: bool = False) -> ImageSet:
        """Decode every image to uint8 [img_resolution, img_resolution, img_channels].

        The rule is that of fastgan/data/images.py. skip_bad: leave out images that cannot be used
        and list them in `ImageSet.skipped`, instead of stopping at the first. Raises UserError for
        an image that cannot be used, for fewer than two usable images and for a set beyond the
        memory.
        """
        self.prepare(progress)
        collected = _Collector(self, img_resolution, img_channels)
        decode = partial(_decode, img_resolution=img_resolution, img_channels=img_channels)
        with progress_bar(f"reading {self.name}", self.num_images, progress) as advance:
            for piece, decoded in in_order(self.pieces(), decode, os.cpu_count() or 1):
                try:
                    collected.add(piece, decoded.result())
                except BadImage as reason:
                    if not skip_bad:
                        raise UserError(f"{piece.where}: {reason}{self.remedy}") from reason
                    collected.skip(piece, reason)
                advance(piece.num_images)
        return collected.finish()


def check_size(img_resolution: int, img_channels: int) -> None:
    """Raise UserError for a size that images cannot be brought to."""
    if img_channels not in (1, 3, 4) or img_resolution < 1:
        raise UserError(f"images of {img_channels} channels at resolution {img_resolution} are not supported: "
                        "img_channels is 1 (grey), 3 (colour) or 4 (with alpha), img_resolution at least 1")


def check_num_usable(source: Source, num_usable: int, skipped: Sequence[str]) -> None:
    """Raise UserError for a set of which less than two images could be used."""
    if num_usable < 2:
        raise UserError(f"{source.origin}: only {num_usable} of {source.num_images} images are usable, and a set "
                        f"needs 2; the first skipped one is {skipped[0]}")


def join_labels(source: Source, labels: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Return the labels of all pieces, int64 [num_images], or None for a set without labels.

    Raises UserError where some have none, or a negative one.
    """
    num_without = sum(part is None for part in labels)
    if num_without == len(labels):
        return None
    if num_without:
        raise UserError(f"{source.origin}: some images have a label and some have none; label all of them or none")
    joined = np.concatenate(labels).astype(np.int64)
    if joined.min() < 0:
        raise UserError(f"{source.origin}: the label {joined.min()} is negative; classes are numbered from 0")
    return joined


def digest(facts: object) -> str:
    """Return the SHA-256 of anything that JSON can hold, in hexadecimal."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def file_facts(path: str | os.PathLike) -> tuple[int, int] | None:
    """Return (size in bytes, time of change in ns) of a file, or None where stat fails."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _available_memory() -> int:
    """Return the bytes that Linux can give without ending processes.

    Elsewhere, return the number of bytes that can be addressed.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return sys.maxsize
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), sys.maxsize)


class _Collector:
    """The images as they arrive, packed without gaps, so that a skipped one costs no copy."""

    def __init__(self, source: Source, img_resolution: int, img_channels: int):
        check_size(img_resolution, img_channels)
        shape = (source.num_images, img_resolution, img_resolution, img_channels)
        needed, available = math.prod(shape), _available_memory()
        if needed > available:  # Linux would hand it out, and end the process when it is used
            raise UserError(f"{source.origin} at {shape[1:]} needs {needed / 1e9:.3g} GB of memory, and "
                            f"{available / 1e9:.3g} GB are free: pack it "
                            "into a file that is read from the disk as it is needed (fastgan pack), lower "
                            "img_resolution or use fewer images")
        self._images = np.empty(shape, np.uint8)
        self._source, self._labels, self._skipped, self._num_kept = source, [], [], 0

    def add(self, piece: Piece, decoded: np.ndarray) -> None:
        self._images[self._num_kept:self._num_kept + len(decoded)] = decoded
        self._num_kept += len(decoded)
        self._labels.append(piece.labels)

    def skip(self, piece: Piece, reason: BadImage) -> None:
        self._skipped.append(f"{piece.where}: {reason}")

    def finish(self) -> ImageSet:
        check_num_usable(self._source, self._num_kept, self._skipped)
        labels = join_labels(self._source, self._labels)
        skipped = (*self._source.skipped, *self._skipped)
        return image_set(self._images[:self._num_kept], labels, self._source.class_names, self._source.name, skipped)


def image_set(
    images: np.ndarray,
    labels: np.ndarray | None,
    class_names: tuple[str, ...] | None,
    name: str,
    skipped: tuple[str, ...],
) -> ImageSet:
    """Return an ImageSet in the memory of these arrays."""
    import torch  # here alone, since decoding works without torch

    return ImageSet(
        torch.from_numpy(images), None if labels is None else torch.from_numpy(labels), class_names, name, skipped
    )


def _decode(piece: Piece, img_resolution: int, img_channels: int) -> np.ndarray:
    return fit(piece.load(), img_resolution, img_channels)


def in_order(items: Iterable[Item], work: Callable[[Item], object], num_threads: int) -> Iterator[tuple[Item, Future]]:
    """Yield each item with the future of work(item), in the order of `items`.

    Only a few are in memory at a time.
    """
    waiting: deque[tuple[Item, Future]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > 2 * num_threads:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
