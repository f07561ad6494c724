"""Sources of encoded images: the bytes of PNG, JPEG and other files, wherever these lie.

Images of more than 8 bits are scaled by the range that all of them use. It is found by one pass
over the files, which is made when the first such image is met: sets without any pay nothing.
"""
from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from fastgan.data.images import (
    ANIMATED,
    DEEP,
    MISSING_SUFFIXES,
    TRANSLUCENT,
    BadImage,
    deep_values,
    native_size,
    open_image,
    traits,
)
from fastgan.data.source import Piece, Source, in_order
from fastgan.data.value_range import ValueRange, bounds, range_of
from fastgan.errors import UserError

_MOST_KINDS = 8  # named in a notice


class Encoded(NamedTuple):
    """One encoded image. where: its name in errors. read: returns its bytes, or raises BadImage."""

    where: str
    read: Callable[[], bytes]


class EncodedSource(Source):
    """Images that come as the bytes of image files.

    left_out: what lies beside the images and is not read, as the number of each kind. traits: those
    of each image that was decoded (images.traits), uint8 [num_images].
    """

    remedy = "; mend or remove it, or leave such files out with skip_bad"

    def __init__(self, name: str, origin: str, num_images: int, left_out: Mapping[str, int] | None = None):
        self.name, self.origin, self.num_images, self.left_out = name, origin, num_images, left_out or {}
        self.traits = np.zeros(num_images, np.uint8)
        self._scanned: ValueRange | None = None
        self._scanning = threading.Lock()

    @abstractmethod
    def encoded(self) -> Iterator[Encoded]:
        """Yield every image, in an order that never changes."""

    @property
    def native_resolution(self) -> int:
        return self._native_size[0]

    @property
    def native_channels(self) -> int:
        return self._native_size[1]

    def pieces(self) -> Iterator[Piece]:
        for index, one in enumerate(self.encoded()):
            labels = None if self.labels is None else self.labels[index:index + 1]
            yield Piece(one.where, partial(self._load, index, one.read), labels)

    def _load(self, index: int, read: Callable[[], bytes]) -> Image.Image:
        return self.open_image(index, read())

    def open_image(self, index: int, data: bytes) -> Image.Image:
        """Return image number `index` from its bytes, scaled to 8 bits where it has more.

        May run in any thread. Raises BadImage.
        """
        image = open_image(data)
        self.traits[index] = traits(image)
        return scaled(image, data, self.deep_range) if self.traits[index] & DEEP else image

    @property
    def known_range(self) -> ValueRange | None:
        """The range of the values of more than 8 bits, or None where no one asked for it yet."""
        return self._scanned if self.value_range is None else ValueRange(*self.value_range)

    @property
    def deep_range(self) -> ValueRange:
        """The range of the values of more than 8 bits; found by reading all files at first use."""
        with self._scanning:
            if self.known_range is None:
                self._scanned = self._scan()
        return self.known_range

    def _scan(self) -> ValueRange:
        found = [found.result() for _, found in in_order(self.encoded(), _bounds_of, os.cpu_count() or 1)]
        parts = [part for part in found if part is not None]
        if not parts:  # the one that is asked for is bad: its turn to be reported comes
            return ValueRange(0.0, 1.0)
        return range_of((part for part, _ in parts), any(is_float for _, is_float in parts))

    def notes(self, img_channels: int) -> tuple[str, ...]:
        count = {trait: int(np.count_nonzero(self.traits & trait)) for trait in (ANIMATED, TRANSLUCENT, DEEP)}
        notes = [_left_out_note(self.left_out, self.name)] if self.left_out else []
        if count[ANIMATED]:
            notes.append(f"{_files(count[ANIMATED])} with several frames or pages: the first is taken")
        if count[TRANSLUCENT] and img_channels != 4:
            notes.append(
                f"{_files(count[TRANSLUCENT])} with an alpha channel: it is laid over white (--channels 4 keeps it)"
            )
        if count[DEEP]:
            rest = "" if self.value_range else " (those that the set uses; data.range=LOW,HIGH sets others)"
            notes.append(f"{_files(count[DEEP])} of more than 8 bits: values {self.deep_range}{rest} become 0 to 255")
        elif self.value_range:
            notes.append("data.range was not used, as no image was found that has more than 8 bits")
        return tuple(notes)

    @cached_property
    def _native_size(self) -> tuple[int, int]:
        reason = None
        for one in self.encoded():  # a bad first file may be one that skip_bad will leave out
            try:
                return native_size(open_image(one.read()))
            except BadImage as error:
                reason = reason or f"{one.where}: {error}"
        raise UserError(
            f"none of the {self.num_images} files in {self.origin} can be read as an image; the first is {reason}"
        )


def scaled(image: Image.Image, data: bytes, value_range: ValueRange) -> Image.Image:
    """Return an image of more than 8 bits (of the bytes `data`), upright, with 8. Raises BadImage."""
    values = deep_values(image, data)
    colours = value_range.to_uint8(_finite(values[..., :3] if values.ndim == 3 else values))
    alpha = [(values[..., 3:] >> 8).astype(np.uint8)] if values.ndim == 3 and values.shape[2] == 4 else []
    return Image.fromarray(np.concatenate([colours, *alpha], -1) if alpha else colours)


def _finite(values: np.ndarray) -> np.ndarray:
    bounds(values)
    return values


def _bounds_of(one: Encoded) -> tuple[ValueRange, bool] | None:
    """Return (the bounds of an image of more than 8 bits, whether they are floats), else None."""
    try:
        data = one.read()
        image = open_image(data)
        if not traits(image) & DEEP:
            return None
        values = deep_values(image, data)
        return bounds(values[..., :3] if values.ndim == 3 else values), values.dtype.kind == "f"
    except BadImage:
        return None


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"


def _left_out_note(left_out: Mapping[str, int], name: str) -> str:
    ranked = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    kinds = [f"{number} {kind}" for kind, number in ranked[:_MOST_KINDS]]
    rest = sum(number for _, number in ranked[_MOST_KINDS:])
    listed = ", ".join(kinds + [f"{rest} of other kinds"] * bool(rest))
    missing = ", ".join(sorted(left_out.keys() & MISSING_SUFFIXES))
    hint = f"; this build of Pillow cannot read {missing}: install a newer one" if missing else ""
    return f"{_files(sum(left_out.values()))} in {name} not read as images: {listed}{hint}"
