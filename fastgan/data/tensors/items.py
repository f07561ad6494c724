"""Data in memory as tensors by name: arrays, dicts and tuples of them, and data sets read once."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from fastgan.data.field_names import named
from fastgan.data.tensors.rows import Values
from fastgan.errors import UserError, first_line
from fastgan.progress import progress_bar


@dataclass(frozen=True)
class Fields:
    """values: name -> array or tensor [num, ...]. origin: in full, for errors. torch_order: images
    of several channels are [C, H, W] rather than [H, W, C].
    """

    values: dict[str, Values]
    origin: str
    torch_order: bool
    class_names: tuple[str, ...] | None = None

    @property
    def num_items(self) -> int:
        return len(next(iter(self.values.values())))


def fields_in_memory(data: object) -> Fields | None:
    """Return the fields of an array, a tensor, a dict or tuple of them, or a TensorDataset.

    None for data of other kinds. Raises UserError for fields of different lengths.
    """
    if isinstance(data, TensorDataset):
        return _checked(named(data.tensors), "the dataset TensorDataset", True)
    if isinstance(data, np.ndarray | torch.Tensor):
        is_tensor = isinstance(data, torch.Tensor)
        return _checked({"img": data}, "the tensor" if is_tensor else "the array", is_tensor)
    if not (isinstance(data, Mapping) and data) and not _is_tuple_of_fields(data):
        return None
    values = {name: _as_values(part, f"the field {name!r}") for name, part in named(data).items()}
    # A tensor among them: they are of torch
    return _checked(values, "the data", any(isinstance(part, torch.Tensor) for part in values.values()))


def is_map_style(data: object) -> bool:
    """Return True for a Dataset, or whatever has items by number and a length as it has."""
    strangers = str | bytes | Mapping | tuple | np.ndarray | torch.Tensor | IterableDataset
    return hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, strangers)


def first_item(dataset: Dataset) -> dict[str, torch.Tensor]:
    """Return the fields of the first item that are numbers."""
    return _item(dataset, 0)


def read_items(dataset: Dataset, skip_bad: bool = False, progress: bool = False) -> tuple[Fields, tuple[str, ...]]:
    """Return (the fields of all items of a map-style Dataset, those that were left out).

    Fields keep their dtypes; those that are no numbers are left out. skip_bad: leave out items that
    cannot be read, instead of stopping at the first. Raises UserError for items that differ in shape.
    """
    origin, num = f"the dataset {type(dataset).__name__}", len(dataset)
    first, skipped, kept = _item(dataset, 0), [], 0
    values = {name: torch.empty(num, *value.shape, dtype=value.dtype) for name, value in first.items()}
    with progress_bar(f"reading {type(dataset).__name__}", num, progress) as advance:
        for index in range(num):
            try:
                _put(values, kept, first if index == 0 else _item(dataset, index), f"item {index} of {origin}")
                kept += 1
            except UserError as error:
                if not skip_bad:
                    raise
                skipped.append(str(error))
            advance(1)
    classes = getattr(dataset, "classes", None)  # torchvision's name for them
    names = None if classes is None else tuple(map(str, classes))
    return Fields({name: value[:kept] for name, value in values.items()}, origin, True, names), tuple(skipped)


def as_tensor(value: object) -> torch.Tensor | None:
    """Return a number, an array, a Pillow image or a tensor as a tensor on the CPU.

    None for anything else, such as a text.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Image.Image):
        value = np.array(value)
        value = value[..., None] if value.ndim == 2 else value
        return torch.from_numpy(value).permute(2, 0, 1)  # as torch has images
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        return torch.from_numpy(np.array(value))
    return torch.tensor(value) if isinstance(value, bool | int | float) else None


def _item(dataset: Dataset, index: int) -> dict[str, torch.Tensor]:
    try:
        parts = named(dataset[index])
    except UserError:
        raise
    except Exception as error:  # whatever the user's own code raises
        origin = f"item {index} of the dataset {type(dataset).__name__}"
        raise UserError(f"{origin} cannot be read ({first_line(error)})") from error
    tensors = {name: as_tensor(part) for name, part in parts.items()}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _put(values: dict[str, torch.Tensor], row: int, item: dict[str, torch.Tensor], where: str) -> None:
    for name, rows in values.items():
        value = item.get(name)
        if value is None or value.shape != rows.shape[1:]:
            now = "no numbers" if value is None else f"the shape {list(value.shape)}"
            raise UserError(f"{where} has {now} as {name!r}, and the first item has {list(rows.shape[1:])}: give all "
                            "items the same shape, or a DataLoader whose collate_fn does")  # fmt: skip
        rows[row] = value


def _is_tuple_of_fields(data: object) -> bool:
    """Return True for (images, labels, ...): not for a tuple of single images, which is a set."""
    if not (isinstance(data, tuple) and len(data) > 1 and isinstance(data[0], np.ndarray | torch.Tensor)):
        return False
    if not all(isinstance(part, np.ndarray | torch.Tensor | list) for part in data):
        return False
    shapes = {tuple(part.shape) if hasattr(part, "shape") else (len(part),) for part in data}
    return data[0].ndim >= 2 and (len(shapes) > 1 or data[0].ndim >= 4)


def _as_values(part: object, origin: str) -> Values:
    try:
        values = part if isinstance(part, torch.Tensor) else np.asarray(part)
    except ValueError as error:
        raise UserError(f"{origin} is no array of numbers ({first_line(error)})") from error
    if values.ndim == 0 or (isinstance(values, np.ndarray) and values.dtype.kind not in "biufc"):
        raise UserError(f"{origin} is a {type(part).__name__}: give an array or a tensor of numbers, one row an item")
    return values


def _checked(values: dict[str, Values], origin: str, torch_order: bool) -> Fields:
    lengths = {name: len(value) for name, value in values.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"the fields of {origin} have different numbers of items, {lengths}: give one row an item")
    return Fields(values, origin, torch_order)
