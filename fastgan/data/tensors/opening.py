"""Opening of data that lie in memory, as the samples of a G of any shape."""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from fastgan.data.feeds.order import check_batch_size
from fastgan.data.field_names import LABEL_NAMES, img_and_label, others_said
from fastgan.data.source import Source
from fastgan.data.sources.arrays import checked_labels
from fastgan.data.tensors.items import Fields, fields_in_memory, first_item, is_map_style, read_items
from fastgan.data.tensors.rows import Layout, Values, is_torch, rows_of
from fastgan.data.tensors.tensor_set import TensorSet
from fastgan.errors import UserError


@dataclass(frozen=True)
class Target:
    """What the networks take. img_shape: of one sample of G. low: the lowest value; the highest is 1.

    value_range: asked for (data.range), or None. c_dim: classes, or width of vectors as labels.
    """

    img_shape: tuple[int, ...]
    low: float = -1.0
    value_range: tuple[float, float] | None = None
    c_dim: int = 0

    @property
    def has_plain_images(self) -> bool:
        """True for square images of 1 or 3 channels, or flat ones: any image can be fitted to them."""
        if len(self.img_shape) == 3:
            return self.img_shape[0] in (1, 3) and self.img_shape[1] == self.img_shape[2]
        sides = (math.isqrt(self.img_shape[0] // channels) for channels in (1, 3))
        squares = [channels * side * side for channels, side in zip((1, 3), sides, strict=True)]
        return len(self.img_shape) == 1 and self.img_shape[0] in squares


def open_tensors(
    data: object, target: Target, skip_bad: bool = False, progress: bool = False
) -> tuple[TensorSet, tuple[str, ...]] | None:
    """Return (the samples of `data` as they are fed, notes), where they have the shape of G's samples.

    None for data of other kinds, and for images in bytes that are fitted to G's size. A map-style
    Dataset is read once. Raises UserError for data in memory that G's samples cannot be compared with.
    """
    fields, skipped = fields_in_memory(data), ()
    if fields is None and is_map_style(data) and not isinstance(data, Source) and len(data) > 1:
        first = first_item(data)
        peeked = Fields({name: value[None] for name, value in first.items()}, f"the dataset {_name(data)}", True)
        if not first or not _is_exact(peeked, target):
            return None
        fields, skipped = read_items(data, skip_bad, progress)
    if fields is None or not _is_exact(fields, target):
        return None
    return _tensor_set(fields, target, _name(data), skipped)


def vector_width(data: object) -> int:
    """Return the length of labels that are vectors of floats, 0 for other labels and other data."""
    fields = fields_in_memory(data)
    return 0 if fields is None else _vector_width(fields)


def _vector_width(fields: Fields) -> int:
    label = next((name for name in LABEL_NAMES if name in fields.values), None)
    labels = None if label is None else fields.values[label]
    if labels is None or labels.ndim != 2 or labels.shape[1] < 2:
        return 0
    labels = torch.as_tensor(labels)
    is_one_hot = bool(((labels == 0) | (labels == 1)).all()) and bool((labels.sum(1) == 1).all())
    return labels.shape[1] if labels.is_floating_point() and not is_one_hot else 0


def as_pair(data: object, c_dim: int) -> object:
    """Return a dict or a long tuple of fields as open_source takes it: images, or (images, labels).

    Anything else is returned as it is. c_dim: 0 = labels that are no class numbers are left out.
    """
    is_pair = isinstance(data, tuple) and len(data) == 2
    is_plain = is_pair or isinstance(data, TensorDataset | np.ndarray | torch.Tensor)
    fields = None if is_plain else fields_in_memory(data)
    if fields is None:
        return data
    img, label = img_and_label(fields.values, fields.origin)
    images, labels = fields.values[img], None if label is None else fields.values[label]
    is_number = labels is not None and tuple(labels.shape) in ((len(images),), (len(images), 1))
    return (images, labels) if is_number or (c_dim and labels is not None) else images


def read_once_said(data: object) -> tuple[str, ...]:
    """Return a note for a map-style Dataset, whose random transforms are drawn only once."""
    if not is_map_style(data) or isinstance(data, Source | TensorDataset | list):
        return ()
    return (
        f"{_name(data)} is read once into memory, with one draw of its random transforms: give a DataLoader, without "
        "cache=True, to draw them anew in every epoch",
    )


def is_live(data: object) -> bool:
    """Return True for what is iterated rather than read: a DataLoader, or an IterableDataset."""
    return isinstance(data, DataLoader | IterableDataset)


def cached(data: object) -> object:
    """Return the data set of a DataLoader, to be read once. Raises UserError for a stream."""
    dataset = data.dataset if isinstance(data, DataLoader) else data
    if isinstance(dataset, IterableDataset):
        raise UserError(f"cache=True reads items by number, and {_name(dataset)} has none: leave it out")
    return dataset


def _is_exact(fields: Fields, target: Target) -> bool:
    """Return True where samples are kept as they are. Raises UserError where they fit in no way."""
    images = fields.values[img_and_label(fields.values, fields.origin)[0]]
    if images.ndim < 2:
        raise UserError(f"{fields.origin} has single numbers as images: give [num, ...], one row a sample")
    item, is_bytes = tuple(images.shape[1:]), images.dtype in (np.uint8, torch.uint8)
    if is_bytes and target.has_plain_images and not _vector_width(fields):
        return False
    if Layout(item, target.img_shape, fields.torch_order).fits:
        return True
    if target.has_plain_images:
        return False
    raise UserError(
        f"{fields.origin} has samples of shape {list(item)}, and G makes {list(target.img_shape)}: give samples of "
        "that shape"
    )


def _tensor_set(
    fields: Fields, target: Target, name: str, skipped: tuple[str, ...]
) -> tuple[TensorSet, tuple[str, ...]]:
    img, label = img_and_label(fields.values, fields.origin)
    images = fields.values[img]
    check_batch_size(2, len(images))
    layout = Layout(tuple(images.shape[1:]), target.img_shape, fields.torch_order)
    if images.ndim == 2 and len(target.img_shape) == 1 and target.value_range is None:
        rows, scaling = torch.as_tensor(images, dtype=torch.float32).cpu(), None  # samples of a density
    else:
        rows, scaling = rows_of(images, layout, target.low, target.value_range, fields.origin)
    labels = None if label is None else labels_of(fields.values[label], target.c_dim, fields.origin)
    others = [field for field in fields.values if field not in (img, label)]
    if label is not None and labels is None:
        others.insert(0, label)
    scaled = () if scaling is None else (scaling.describe(fields.origin),)
    tensor_set = TensorSet(rows, labels, name, len(rows), scaling, fields.class_names, skipped)
    return tensor_set, (*scaled, *others_said(others, fields.origin))


def labels_of(values: Values, c_dim: int, origin: str) -> torch.Tensor | None:
    """Return labels as int64 [num], or as float32 [num, c_dim] where they are vectors.

    None for those that an unconditional run does not need and that are no class numbers.
    """
    if c_dim > 1 and values.ndim == 2 and values.shape[1] == c_dim:
        return torch.as_tensor(values).float().cpu()
    labels = values.detach().cpu().numpy() if is_torch(values) else values
    try:
        return torch.from_numpy(checked_labels(labels, len(labels), origin).astype(np.int64))
    except UserError:
        if c_dim:
            raise
        return None


def _name(data: object) -> str:
    is_array = isinstance(data, np.ndarray | torch.Tensor)
    return ("tensor" if is_torch(data) else "array") if is_array else type(data).__name__
