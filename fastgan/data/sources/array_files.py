"""Files that hold arrays of images: npy, npz and idx (the format of MNIST), plain or gzipped.

Nothing is ever unpickled.
"""
import gzip
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fastgan.data.sources.archive import open_zip
from fastgan.data.sources.arrays import ArraySource, Blocks, array_source, block_slices, checked_labels, with_labels
from fastgan.errors import UserError

IMAGE_KEYS = ("images", "x_train", "x", "arr_0", "data")
LABEL_KEYS = ("labels", "y_train", "y")
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)
_IDX_UINT8 = 0x08


def npy_source(path: Path) -> ArraySource:
    """Return the images of an npy file, read through a memory map."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGE as error:
        raise UserError(f"{path} cannot be read ({error}): save it again as a plain uint8 array") from error
    return array_source(array, path.name, str(path))


def npz_source(path: Path, class_names: tuple[str, ...] | None = None) -> ArraySource:
    """Return the images of an npz file, with its labels where it has them.

    The images lie under images, x_train, x, arr_0 or data, else they are its only array of 3 or 4
    axes; the labels lie under labels, y_train or y.
    """
    headers = _npz_headers(path)
    image_key = _image_key(headers, path)
    label_key = next((key for key in LABEL_KEYS if key in headers), None)
    shape, fortran_order, dtype = headers[image_key]

    def labels() -> np.ndarray | None:
        return None if label_key is None else checked_labels(_load_member(path, label_key), shape[0], str(path))

    def blocks() -> Blocks:
        if fortran_order:  # its images do not lie one after another
            array = _load_member(path, image_key)
            return with_labels((array[rows] for rows in block_slices(shape, dtype)), labels())
        return with_labels(_npz_blocks(path, image_key, shape, dtype), labels())
    return ArraySource(path.name, str(path), shape, dtype, blocks, class_names, labels=labels)


def idx_source(path: Path, class_names: tuple[str, ...] | None = None) -> ArraySource:
    """Return the images of an idx file, with the labels of the file beside it.

    The names of the two are alike: train-images-idx3... and train-labels-idx1....
    """
    with _open_idx(path) as stream:
        shape = _idx_shape(stream, path)
    labels_path = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    has_labels = labels_path != path and labels_path.exists()

    def labels() -> np.ndarray | None:
        return checked_labels(_idx_array(labels_path), shape[0], str(labels_path)) if has_labels else None

    def blocks() -> Blocks:
        return with_labels(_idx_blocks(path, shape), labels())
    return ArraySource(path.name, str(path), shape, np.dtype(np.uint8), blocks, class_names, labels=labels)


def read_rows(stream: BinaryIO, shape: tuple[int, ...], dtype: np.dtype, path: Path) -> Iterator[np.ndarray]:
    """Yield the array that lies in C order in a stream, in blocks of about a megabyte.

    A stream that ends too early is a UserError naming `path`.
    """
    for rows in block_slices(shape, dtype):
        block_shape = (rows.stop - rows.start, *shape[1:])
        num_bytes = math.prod(block_shape) * dtype.itemsize
        try:
            data = stream.read(num_bytes)
        except _DAMAGE as error:
            raise UserError(f"{path} is damaged ({error}): copy or download it again") from error
        if len(data) < num_bytes:
            raise UserError(f"{path} is cut short: it ends before its last image; copy or download it again")
        yield np.frombuffer(data, dtype).reshape(block_shape)


def _npz_headers(path: Path) -> dict[str, tuple[tuple[int, ...], bool, np.dtype]]:
    with open_zip(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        return {key: _npy_header(archive, key, path) for key in keys}


def _npy_header(archive: zipfile.ZipFile, key: str, path: Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        with archive.open(f"{key}.npy") as stream:
            return _read_npy_header(stream)
    except _DAMAGE as error:
        raise UserError(
            f"{path}: the array {key!r} cannot be read ({error}): save the file again with numpy.savez"
        ) from error


def _read_npy_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    return (
        np.lib.format.read_array_header_1_0(stream)
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0(stream)
    )


def _image_key(headers: dict, path: Path) -> str:
    image_like = [key for key, (shape, _, dtype) in headers.items() if len(shape) in (3, 4) or dtype.hasobject]
    key = next((key for key in IMAGE_KEYS if key in image_like), image_like[0] if len(image_like) == 1 else None)
    if key is None:
        raise UserError(
            f"{path} holds the arrays {', '.join(sorted(headers)) or '(none)'}, and which are the images is unclear: "
            "name them 'images'"
        )
    if headers[key][2].hasobject:
        raise UserError(
            f"{path}: the array {key!r} holds pickled objects, which can run code and are never read; save it as a "
            "plain uint8 array"
        )
    return key


def _load_member(path: Path, key: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[key]
    except _DAMAGE as error:
        raise UserError(
            f"{path}: the array {key!r} cannot be read ({error}): save it again as a plain array of numbers"
        ) from error


def _npz_blocks(path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    with open_zip(path) as archive, archive.open(f"{key}.npy") as stream:
        _read_npy_header(stream)
        yield from read_rows(stream, shape, dtype, path)


def _open_idx(path: Path) -> BinaryIO:
    with open(path, "rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if is_gzip else open(path, "rb")


def _idx_shape(stream: BinaryIO, path: Path) -> tuple[int, ...]:
    try:
        zeros, type_code, num_axes = struct.unpack(">HBB", stream.read(4))
        shape = struct.unpack(f">{num_axes}I", stream.read(4 * num_axes))
    except _DAMAGE as error:
        raise UserError(f"{path} is not a whole idx file ({error}): copy or download it again") from error
    if zeros != 0 or type_code != _IDX_UINT8:
        raise UserError(f"{path} is not an idx file of bytes (type code {type_code:#x}); give uint8 images")
    return shape


def _idx_blocks(path: Path, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    with _open_idx(path) as stream:
        _idx_shape(stream, path)
        yield from read_rows(stream, shape, np.dtype(np.uint8), path)


def _idx_array(path: Path) -> np.ndarray:
    with _open_idx(path) as stream:
        shape = _idx_shape(stream, path)
    return np.concatenate([np.empty((0, *shape[1:]), np.uint8), *_idx_blocks(path, shape)])
