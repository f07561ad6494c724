"""Values in the order of axes in which feeds keep them: one row a sample, without loss of precision."""
from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from fastgan.data.images import BadImage
from fastgan.data.sources.arrays import as_numpy, block_slices, nhwc_axes
from fastgan.data.tensors.scaling import Scaling
from fastgan.data.value_range import ValueRange, bounds, range_of
from fastgan.errors import UserError

Values = np.ndarray | torch.Tensor


class Layout:
    """How samples of one shape lie as rows of G's shape.

    item: the shape of one sample of the data. img_shape: of one sample of G: (C, H, W) or another.
    torch_order: where the channels of an image may be first or last, they are first. Images come to
    lie as [H, W, C], other samples as G makes them, and images of a G that makes flat ones as images.
    """

    def __init__(self, item: tuple[int, ...], img_shape: tuple[int, ...], torch_order: bool):
        img_shape = _unflattened(item, img_shape, torch_order) if len(img_shape) == 1 else img_shape
        last = (*img_shape[1:], img_shape[0])
        self.is_image = len(img_shape) == 3
        self._is_last = self.is_image and item == last and (item != img_shape or not torch_order)
        is_flat = len(img_shape) == 1 and math.prod(item) == img_shape[0]
        self.fits = self._is_last or is_flat or _without_ones(item) == _without_ones(img_shape)
        self._img_shape = img_shape
        self.row_shape = last if self.is_image else img_shape

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Return [n, *item] as [n, *row_shape], in the same memory where that is possible."""
        if self._is_last:
            return block
        block = block.reshape(len(block), *self._img_shape)
        return block.transpose(0, 2, 3, 1) if self.is_image else block


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _unflattened(item: tuple[int, ...], img_shape: tuple[int, ...], torch_order: bool) -> tuple[int, ...]:
    """Return (C, H, W) for images of as many values as G's flat ones, else G's own shape."""
    if math.prod(item) != img_shape[0] or len(item) not in (2, 3):
        return img_shape
    try:
        _, *axes = nhwc_axes((2, *item), torch_order)
    except BadImage:
        return img_shape
    height, width, channels = (1 if axis is None else item[axis - 1] for axis in axes)
    return channels, height, width


def is_torch(values: Values) -> bool:
    return isinstance(values, torch.Tensor)


def blocks_of(values: Values) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the values in blocks of about a megabyte, each as an array on the CPU."""
    itemsize = values.element_size() if is_torch(values) else values.itemsize
    for rows in block_slices(tuple(values.shape), np.dtype(f"V{itemsize}")):
        block = as_numpy(values[rows]) if is_torch(values) else values[rows]
        yield rows, block.astype(np.float32) if block.dtype == np.bool_ else block


def range_of_values(values: Values, asked: tuple[float, float] | None, origin: str) -> ValueRange:
    """Return the range that becomes [img_low, 1]. Raises UserError for what are no finite numbers."""
    is_float = values.is_floating_point() if is_torch(values) else values.dtype.kind == "f"
    is_flag = str(values.dtype).endswith("bool")
    if not (is_float or is_flag or "int" in str(values.dtype)):
        raise UserError(f"{origin} has values of {values.dtype}: give numbers, whole or floats")
    try:
        found = range_of((bounds(block) for _, block in blocks_of(values)), is_float or is_flag)
    except BadImage as reason:
        raise UserError(f"{origin}: {reason}") from reason
    return found if asked is None else ValueRange(*asked)


def rows_of(
    values: Values, layout: Layout, low: float, asked: tuple[float, float] | None, origin: str
) -> tuple[torch.Tensor, Scaling | None]:
    """Return values [num, *item] as rows: bytes as they are, anything else as float32 in [low, 1].

    asked: the range of the values that becomes [low, 1]; None = that of the set (value_range.py).
    """
    if values.dtype in (np.uint8, torch.uint8):
        whole = as_numpy(values) if is_torch(values) else values
        rows = np.ascontiguousarray(layout(whole))
        return torch.from_numpy(rows if rows.flags.writeable else rows.copy()), None
    scaling = Scaling(range_of_values(values, asked, origin), low, asked is not None)
    rows = torch.empty(len(values), *layout.row_shape)
    for where, block in blocks_of(values):
        rows[where] = scaling.apply(layout(block))
    return rows, scaling
