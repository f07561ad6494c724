"""Images that come as numbers: numpy arrays, torch tensors, and the files that hold them."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from fastgan.data.images import BadImage, check_num_pixels
from fastgan.data.source import Piece, Source, join_labels
from fastgan.data.value_range import BYTES, ValueRange, bounds, range_of
from fastgan.errors import UserError

if TYPE_CHECKING:
    import torch

Blocks = Iterable[tuple[np.ndarray, np.ndarray | None]]

_BLOCK_BYTES = 1 << 20
_ROUNDING = 1e-3  # how far outside its range a float may lie and still be taken for a rounding error


class ArraySource(Source):
    """Images of one shape and dtype, read block by block.

    A file therefore never lies in memory as a whole. shape: [num_images, H, W] or
    [num_images, H, W, C] or [num_images, C, H, W], C from 1 (grey) to 4 (RGBA); where both fit, the
    last axis is taken for the channels, or the second with `torch_order`. dtype: uint8, or other
    integers or floats, scaled by the rule of value_range.py. blocks: called for every pass, gives
    (images, labels or None) in order. labels: gives those of all images, [num_images] integers or
    None; None = they come with the blocks alone.
    """

    def __init__(self, name: str, origin: str, shape: tuple[int, ...], dtype: np.dtype, blocks: Callable[[], Blocks],
                 class_names: tuple[str, ...] | None = None, torch_order: bool = False,
                 labels: Callable[[], np.ndarray | None] | None = None):
        self.name, self.origin, self.class_names = name, origin, class_names
        self.blocks, self._dtype, self._torch_order, self._labels = blocks, dtype, torch_order, labels
        try:
            check_dtype(dtype)
            _, *self._image_shape = nhwc_shape(shape, torch_order)
        except BadImage as reason:
            raise UserError(f"{origin}: {reason}") from reason
        self.num_images = shape[0]

    @property
    def native_resolution(self) -> int:
        return min(self._image_shape[:2])

    @property
    def native_channels(self) -> int:
        return 1 if self._image_shape[2] <= 2 else 3

    @cached_property
    def labels(self) -> np.ndarray | None:
        return super().labels if self._labels is None else join_labels(self, [self._labels()])

    def pieces(self) -> Iterator[Piece]:
        start, scale = 0, self._range
        for block, labels in self.blocks():
            stop = start + len(block)
            yield Piece(
                f"images {start} to {stop - 1} of {self.origin}",
                partial(to_uint8, block, scale, self._torch_order),
                labels,
                len(block),
            )
            start = stop

    @cached_property
    def _range(self) -> ValueRange:
        if self._dtype == np.uint8:
            return BYTES
        try:
            found = range_of((bounds(block) for block, _ in self.blocks()), self._dtype.kind == "f")
        except BadImage as reason:
            raise UserError(f"{self.origin}: {reason}") from reason
        return found if self.value_range is None else ValueRange(*self.value_range)

    def notes(self, img_channels: int) -> tuple[str, ...]:
        notes = []
        if self._image_shape[2] in (2, 4) and img_channels != 4:
            notes.append(f"the alpha channel of {self.name} is laid over white: --channels 4 keeps it")
        if self._dtype != np.uint8:
            rest = "" if self.value_range else "; data.range=LOW,HIGH sets others"
            notes.append(f"the {self._dtype.name} values of {self.name} {self._range} become 0 to 255, with 8 bits each"
                         f"{rest}")
        elif self.value_range:
            notes.append("data.range was not used, as the images have 8 bits already")
        return tuple(notes)


def array_source(
    array: np.ndarray, name: str = "array", origin: str = "the array", labels: np.ndarray | None = None
) -> ArraySource:
    """Return a source of the images of a numpy array (see ArraySource for its shape and dtype).

    labels: one an image (see checked_labels).
    """
    labels = None if labels is None else checked_labels(labels, len(array), origin)

    def blocks() -> Blocks:
        return with_labels((array[rows] for rows in block_slices(array.shape, array.dtype)), labels)
    return ArraySource(name, origin, array.shape, array.dtype, blocks, labels=lambda: labels)


def tensor_source(tensor: torch.Tensor, labels: np.ndarray | None = None) -> ArraySource:
    """Return a source of the images of a torch tensor on any device.

    The tensor is [num_images, C, H, W], in torch's order (see ArraySource). labels: see
    array_source.
    """
    dtype = np.dtype(np.float32) if tensor.is_floating_point() else np.dtype(str(tensor.dtype).removeprefix("torch."))
    labels = None if labels is None else checked_labels(labels, len(tensor), "the tensor")

    def blocks() -> Blocks:
        return with_labels((as_numpy(tensor[rows]) for rows in block_slices(tuple(tensor.shape), dtype)), labels)

    return ArraySource(
        "tensor", "the tensor", tuple(tensor.shape), dtype, blocks, torch_order=True, labels=lambda: labels
    )


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor's values as a numpy array; floats of any width as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def block_slices(shape: tuple[int, ...], dtype: np.dtype) -> Iterator[slice]:
    """Return slices of the first axis, of about a megabyte each."""
    step = max(1, _BLOCK_BYTES // max(1, math.prod(shape[1:]) * dtype.itemsize))
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def with_labels(blocks: Iterable[np.ndarray], labels: np.ndarray | None) -> Blocks:
    """Pair each block with its part of the labels."""
    start = 0
    for block in blocks:
        yield block, None if labels is None else labels[start:start + len(block)]
        start += len(block)


def checked_labels(labels: np.ndarray, num_images: int, origin: str) -> np.ndarray:
    """Return the labels as [num_images] integers.

    They are given as integers or as floats that are whole numbers; anything else is a UserError.
    """
    numbers = labels.astype(np.int64) if labels.dtype.kind == "f" and np.isfinite(labels).all() else labels
    if (
        numbers.dtype.kind not in "iu"
        or (numbers != labels).any()
        or labels.shape not in ((num_images,), (num_images, 1))
    ):
        raise UserError(
            f"{origin}: the labels are {labels.dtype} {list(labels.shape)}, but one integer an image, [{num_images}], "
            "is needed"
        )
    return numbers.reshape(-1)


def check_dtype(dtype: np.dtype) -> None:
    """Raise BadImage unless the dtype is a float, or an integer of at most 32 bits."""
    if dtype.kind != "f" and not (dtype.kind in "iu" and dtype.itemsize <= 4):
        raise BadImage(f"the values are {dtype}: convert them to uint8, uint16 or floats")


def nhwc_axes(shape: tuple[int, ...], torch_order: bool) -> tuple[int, int, int, int | None]:
    """Return the image, row, column and channel axes of an array (None when it has no channels).

    Raises BadImage.
    """
    if len(shape) == 3 and 0 < shape[2] <= 4:
        raise BadImage(
            f"shape {list(shape)} looks like a single image, and a set needs at least 2: stack them into [num_images, "
            "H, W, C]"
        )
    if len(shape) == 3 and min(shape) > 0:
        return 0, 1, 2, None
    if len(shape) == 4 and min(shape) > 0:
        for channel_axis in (1, 3) if torch_order else (3, 1):
            if shape[channel_axis] <= 4:
                return (0, 1, 2, 3) if channel_axis == 3 else (0, 2, 3, 1)
    raise BadImage(
        f"shape {list(shape)} is not that of images: give [num_images, H, W], or [num_images, H, W, C] or "
        "[num_images, C, H, W], C <= 4"
    )


def nhwc_shape(shape: tuple[int, ...], torch_order: bool) -> tuple[int, int, int, int]:
    """Return the shape [num_images, H, W, C] of an array of images.

    Raises BadImage for another shape, and for images too large to be safe.
    """
    num_images, height, width, channels = (1 if axis is None else shape[axis] for axis in nhwc_axes(shape, torch_order))
    check_num_pixels(width, height)
    return num_images, height, width, channels


def lower_bound(block: np.ndarray) -> float:
    """Return 0.0 when all values of a float block are in [0, 1], -1.0 when they are in [-1, 1].

    Raises BadImage for others, for NaN and for other dtypes.
    """
    if block.dtype.kind != "f":
        raise BadImage(f"the values are {block.dtype}: convert them to uint8, or to floats in [0, 1] or [-1, 1]")
    low, high = bounds(block)
    if low < -1 - _ROUNDING or high > 1 + _ROUNDING:
        raise BadImage(
            f"float values from {low:g} to {high:g} are neither in [0, 1] nor in [-1, 1]: rescale them, or convert "
            "them to uint8"
        )
    return -1.0 if low < -_ROUNDING else 0.0


def to_uint8(block: np.ndarray, value_range: ValueRange, torch_order: bool) -> np.ndarray:
    """Convert a block of images of any accepted shape and dtype to uint8 [n, H, W, C]."""
    *image_axes, channel_axis = nhwc_axes(block.shape, torch_order)
    block = block[..., None] if channel_axis is None else block.transpose(*image_axes, channel_axis)
    return block if block.dtype == np.uint8 else value_range.to_uint8(block)
