"""Opening of a user's data as a Source."""
from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastgan.data.images import SUFFIXES
from fastgan.data.source import Source
from fastgan.data.sources.archive import ZipSource, open_zip
from fastgan.data.sources.array_files import IMAGE_KEYS, LABEL_KEYS, idx_source, npy_source, npz_source
from fastgan.data.sources.arrays import array_source, tensor_source
from fastgan.data.sources.builtin import known_source
from fastgan.data.sources.folder import FolderSource, files_below, is_image_name, kind_of
from fastgan.data.sources.known_sets import KNOWN_SETS
from fastgan.data.sources.packed_file import MAGIC, PackedSource
from fastgan.data.sources.records.csv_labels import CSV_SUFFIXES, CsvSource
from fastgan.data.sources.records.parquet import parquet_source
from fastgan.data.sources.records.tar import TarSource, is_tar
from fastgan.data.sources.stacked import PREFIX, StackedSource
from fastgan.errors import UserError

if TYPE_CHECKING:
    import torch

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_IDX_STARTS = (_GZIP, b"\x00\x00\x08")  # gzip, and an idx file of bytes
_FILES_OF_DATASETS = ("dataset_info.json", "dataset_dict.json", "state.json")  # save_to_disk writes them
_COMPRESSED_TARS = (".tar.gz", ".tgz")


def open_source(
    data: str
    | os.PathLike
    | np.ndarray
    | torch.Tensor
    | tuple
    | Mapping
    | torch.utils.data.Dataset
    | torch.utils.data.DataLoader,
    value_range: tuple[float, float] | None = None,
) -> Source:
    """Look at `data` without decoding it.

    A name: fashion-mnist-10k (embedded), mnist, fashion-mnist, cifar10 (downloaded when read).
    Write ./mnist for a folder of that name. stacked: and a name or path: 60 000 images of three of
    its grey images each, for counting modes (see StackedSource): stacked:mnist. A path: a folder, a
    zip or a tar of images (a dataset.json, or class folders, where there are at least two, give
    labels), a folder of tars (WebDataset), a csv of files and labels, parquet or a folder of the
    datasets library, npy, npz, idx, idx.gz, or a file that `fastgan pack` made of any of these; the
    first bytes of a file give its kind. Files are taken in sorted order. An array [num_images, H,
    W], [num_images, H, W, C] or [num_images, C, H, W], or a tensor alike; other values than uint8
    are scaled to 8 bits (value_range.py), from `value_range` where it is given. With labels, one
    integer an image: a tuple (images, labels), or a dict with the keys of an npz: the images under
    images, x_train, x, arr_0 or data, the labels under labels, y_train or y. A map-style Dataset
    whose items are img or (img, label) (see DatasetSource), or a DataLoader, of which the dataset
    is taken. Raises UserError for data that are missing, of another kind, unsafe, or a single
    image.
    """
    source = _source_of(data)
    source.value_range = value_range
    if source.num_images < 2:
        raise UserError(
            f"{source.origin}: the number of images is {source.num_images}, and a set needs at least 2: add more images"
        )
    return source


def _source_of(data: object) -> Source:
    if isinstance(data, str) and data in KNOWN_SETS:
        return known_source(data)
    if isinstance(data, str) and data.startswith(PREFIX):
        return StackedSource(open_source(data.removeprefix(PREFIX)))
    if isinstance(data, str | os.PathLike):
        return _path_source(Path(data).expanduser())
    images, labels = with_labels_apart(data)
    if isinstance(images, np.ndarray):
        return array_source(images, labels=labels)
    return _torch_source(images, labels)


def with_labels_apart(data: object) -> tuple[object, np.ndarray | None]:
    """Split data into (images or samples, labels).

    They are the parts of a tuple (array, labels) or of a dict with the keys of an npz; anything
    else gives (data, None).
    """
    if isinstance(data, Mapping):
        images, labels = (next((data[key] for key in keys if key in data), None) for keys in (IMAGE_KEYS, LABEL_KEYS))
        if not _is_array(images):
            raise UserError(f"data is a dict of {', '.join(map(str, data)) or 'nothing'}: "
                            "give an array or tensor of images under 'images', and their labels under 'labels'")
    elif isinstance(data, tuple) and len(data) == 2 and _is_array(data[0]) and not _is_array(data[1], least_axes=3):
        images, labels = data
    else:
        return data, None
    return images, None if labels is None else np.asarray(labels.cpu() if hasattr(labels, "cpu") else labels)


def _is_array(value: object, least_axes: int = 2) -> bool:
    """Return True for a numpy array or a torch tensor of that many axes, without loading torch."""
    return hasattr(value, "dtype") and getattr(value, "ndim", 0) >= least_axes


def _torch_source(data: object, labels: np.ndarray | None) -> Source:
    import torch.utils.data  # here alone, since paths work without torch

    from fastgan.data.sources.torch_sets import DatasetSource

    if isinstance(data, torch.Tensor):
        return tensor_source(data, labels)
    if isinstance(data, torch.utils.data.DataLoader):
        return _source_of(data.dataset)
    if isinstance(data, torch.utils.data.IterableDataset):
        raise UserError(
            f"{type(data).__name__} is an IterableDataset, which cannot be read in any order: give a map-style Dataset"
        )
    if not hasattr(data, "__getitem__") or isinstance(data, bytes):
        raise UserError(
            f"data is a {type(data).__name__}: give a name, a path, an array, a tensor, a Dataset or a DataLoader"
        )
    return DatasetSource(data)


def _path_source(path: Path) -> Source:
    if path.is_dir():
        return _folder_source(path)
    start = _first_bytes(path)
    if start == MAGIC:
        return PackedSource(path)
    if start.startswith(b"PK"):
        return npz_source(path) if _is_npz(path) else ZipSource(path)
    if start.startswith(b"\x93NUMPY"):
        return npy_source(path)
    if start.startswith(_GZIP) and path.name.lower().endswith(_COMPRESSED_TARS):
        raise UserError(f"{path} is compressed, so its images cannot be read where they lie: gunzip it first")
    if start.startswith(_IDX_STARTS):
        return idx_source(path)
    if is_tar(path):
        return TarSource(path, [path])
    if path.suffix.lower() in CSV_SUFFIXES:
        return CsvSource(path)
    if start.startswith(_PARQUET) or path.suffix.lower() == ".arrow":
        return parquet_source(path, [path])
    if path.suffix.lower() in SUFFIXES:
        raise UserError(f"{path} is a single file, and a set needs at least 2 images: give the folder of the images")
    raise UserError(
        f"{path} has an unknown format: give a folder, a zip or a tar of images, a csv of files and labels, or an npy, "
        "npz, idx, idx.gz, parquet or packed file"
    )


def _folder_source(folder: Path) -> Source:
    files = files_below(folder)
    if not any(map(is_image_name, files)):
        for suffix, open_files in ((".tar", TarSource), (".parquet", parquet_source), (".arrow", parquet_source)):
            paths = sorted(folder / file for file in files if kind_of(file) == suffix)
            if paths:
                others = Counter(kind_of(file) for file in files if file.name not in _FILES_OF_DATASETS)
                del others[suffix]
                return open_files(folder, paths, others)
    return FolderSource(folder, files)


def _first_bytes(path: Path) -> bytes:
    if not path.exists():
        raise UserError(_no_such_data(str(path)))
    if not path.is_file():
        raise UserError(f"{path} is neither a file nor a folder: give a folder or a file of images")
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give yourself permission to read it") from error


def _is_npz(path: Path) -> bool:
    with open_zip(path) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def _no_such_data(given: str) -> str:
    nearest = difflib.get_close_matches(given.lower(), KNOWN_SETS, n=1)
    suggestion = (
        f"did you mean {nearest[0]!r}?"
        if nearest
        else f"the names are {', '.join(KNOWN_SETS)}, and stacked: before any of them."
    )
    return f"{given!r} is neither a path that exists nor the name of a known set; {suggestion}"
