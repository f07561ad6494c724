"""The fields of a data set that the user gives by name, as tensors."""
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from fastgan.errors import UserError

MOST_ITEMS = 10_000_000


def fields_of(data: object) -> dict[str, torch.Tensor]:
    """Return name -> [num_items, ...] on the CPU, with the dtypes that the data have.

    data: a dict of arrays or tensors; a map-style Dataset of dicts or tensors, read once; one array
    or tensor, under the name `img`; a name or path of images (open_source), as `img` and, where
    there are labels, `c`. uint8 images with channels last become [num, C, H, W]. Raises UserError
    for anything else.
    """
    if isinstance(data, str | Path):
        return _of_source(data)
    if isinstance(data, Dataset):
        data = _read(data)
    if isinstance(data, tuple) and len(data) == 2:
        data = {"img": data[0], "c": data[1]}
    if not isinstance(data, Mapping):
        data = {"img": data}
    return {name: _channels_first(_tensor(name, field)) for name, field in data.items()}


def _of_source(spec: str | Path) -> dict[str, torch.Tensor]:
    from fastgan.data import open_source

    source = open_source(spec)
    image_set = source.read(source.native_resolution, source.native_channels)
    fields = {"img": image_set.images.permute(0, 3, 1, 2)}
    return fields if image_set.labels is None else fields | {"c": image_set.labels}


def _read(dataset: Dataset) -> dict[str, torch.Tensor]:
    """Read a map-style Dataset once, item by item."""
    num = len(dataset)
    if not 0 < num <= MOST_ITEMS:
        raise UserError(f"the dataset {type(dataset).__name__} has {num} items: from 1 to {MOST_ITEMS} can be read")
    items = [dataset[index] for index in range(num)]
    if isinstance(items[0], tuple | list):
        names = ("img", "c", *(f"field{index}" for index in range(2, len(items[0]))))
        items = [dict(zip(names, item, strict=True)) for item in items]
    if not isinstance(items[0], Mapping):
        items = [{"img": item} for item in items]
    return {name: torch.stack([torch.as_tensor(item[name]) for item in items]) for name in items[0]}


def _tensor(name: str, field: object) -> torch.Tensor:
    try:
        return field.detach().cpu() if isinstance(field, torch.Tensor) else torch.from_numpy(np.asarray(field))
    except (TypeError, ValueError) as error:
        what = type(field).__name__
        raise UserError(f"the field {name!r} is a {what} that is no array of numbers: {error}") from error


def _channels_first(field: torch.Tensor) -> torch.Tensor:
    is_last = field.dtype == torch.uint8 and field.dim() == 4 and field.shape[3] in (1, 3, 4) and field.shape[1] > 4
    return field.permute(0, 3, 1, 2) if is_last else field
