"""Packed files: a set of decoded images in one file that is mapped, not read, and checksummed.

    0     8 bytes   b"FGPACKED"
    8     8 bytes   CRC-32 of bytes 16 to 4095, in hexadecimal
    16    to 4095   JSON, padded with spaces: version 1, shape [num_images, H, W, C],
                    labels true or false, details_bytes, details_crc32
    4096            images: uint8 in this shape, C = 1 (grey), 3 (RGB) or 4 (RGBA)
    then            labels: little-endian int64 [num_images], only where `labels` is true
    then            details_bytes of JSON: name; class_names, a list or null; skipped, the
                    files that were left out; labels_crc32; blocks, a list of
                    [number of images, CRC-32 of their bytes] in the order of the images

So numpy reads one in two lines, and nothing in it is ever unpickled:

    shape = json.loads(open("faces.fgp", "rb").read(4096)[16:])["shape"]
    images = np.memmap("faces.fgp", np.uint8, "r", 4096, shape)

`open_source` checks the sizes, the header, the labels and the details. Reading (each start of
`fastgan train`) and `fastgan pack --verify` check every image as well. CRC-32 finds any single
damaged byte for certain, other damage but for one case in four billion; it guards against disks and
cables, not against forgers. Opening takes milliseconds; all images take 0.28 s of CPU a GB, which
all cores share (3.3 GB/s on two busy Zen 4 cores; SHA-256, half as fast, was not worth it). So the
disk sets the pace of a large set, and a set that fits is in memory when the first step wants it.
"""
import json
import math
import mmap
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fastgan.data.image_set import ImageSet
from fastgan.data.images import BadImage, check_num_pixels
from fastgan.data.source import Piece, Source, image_set, in_order
from fastgan.errors import UserError
from fastgan.progress import progress_bar

MAGIC = b"FGPACKED"
IMAGES_AT = 4096
_JSON_AT = 16
_VERSION = 1
_BAR_BYTES = 1 << 30  # below this, checking takes less than a second even from a slow disk: no bar
_MAP_NORESERVE = 0x4000  # Linux's, which Python's mmap lacks


@dataclass(frozen=True)
class Contents:
    """The description of its images in a packed file.

    shape: [num_images, H, W, C]. blocks: (number of images, CRC-32) each, in order.
    """

    shape: tuple[int, int, int, int]
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None
    name: str
    skipped: tuple[str, ...]
    blocks: tuple[tuple[int, int], ...]


def seal(file: BinaryIO, contents: Contents) -> None:
    """Write everything around the images that lie in an unbuffered `file`.

    The header is written last: until then it is no packed file.
    """
    labels = b"" if contents.labels is None else contents.labels.astype("<i8").tobytes()
    details = json.dumps({
        "name": contents.name, "class_names": contents.class_names, "skipped": contents.skipped,
        "labels_crc32": zlib.crc32(labels), "blocks": contents.blocks,
    }).encode()
    header = json.dumps({
        "version": _VERSION, "shape": contents.shape, "labels": contents.labels is not None,
        "details_bytes": len(details), "details_crc32": zlib.crc32(details),
    }).encode().ljust(IMAGES_AT - _JSON_AT)
    file.seek(IMAGES_AT + math.prod(contents.shape))
    write_all(file, labels + details)
    os.fsync(file.fileno())
    file.seek(0)
    write_all(file, MAGIC + b"%08x" % zlib.crc32(header) + header)
    os.fsync(file.fileno())


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all bytes to an unbuffered file, whose own write may stop earlier."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[file.write(rest):]


class PackedSource(Source):
    """The images of a packed file.

    Reading them at their own size copies nothing; the file must not be written to meanwhile.

    skipped: the files that were left out when it was packed. Raises UserError for a file that is
    cut short or damaged.
    """

    def __init__(self, path: Path):
        self.origin = str(path)
        try:
            with open(path, "rb") as file:
                self._shape, num_label_bytes, details_crc32 = self._header(file)
                self._bytes = _mapped(file)
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}): check its name and your permission to read it"
            ) from error
        labels_at = IMAGES_AT + math.prod(self._shape)
        self._images = self._bytes[IMAGES_AT:labels_at].reshape(self._shape)
        labels, details = self._bytes[labels_at:labels_at + num_label_bytes], self._bytes[labels_at + num_label_bytes:]
        self._check(zlib.crc32(details) == details_crc32, "its details were altered")
        self._contents = self._read_details(bytes(details), labels)
        self.name, self.num_images = self._contents.name, self._shape[0]
        self.class_names, self.labels, self.skipped = (
            self._contents.class_names,
            self._contents.labels,
            self._contents.skipped,
        )

    @property
    def native_resolution(self) -> int:
        return min(self._shape[1:3])

    @property
    def native_channels(self) -> int:
        return self._shape[3]

    def pieces(self) -> Iterator[Piece]:
        """Yield the blocks of the file, each checked when it is loaded."""
        for start, stop, crc32 in self._blocks():
            labels = None if self._contents.labels is None else self._contents.labels[start:stop]
            yield Piece(
                f"images {start} to {stop - 1} of {self.origin}",
                partial(self._load, start, stop, crc32),
                labels,
                stop - start,
            )

    def read(self, img_resolution: int, img_channels: int, skip_bad: bool = False, progress: bool = False) -> ImageSet:
        """Read the images as Source.read does.

        Images of the file's own size are checked, and stay in the file, which is mapped
        copy-on-write.
        """
        if (img_resolution, img_resolution, img_channels) == self._shape[1:]:
            self.verify(progress)
            return image_set(self._images, self._contents.labels, self.class_names, self.name, self.skipped)
        return super().read(img_resolution, img_channels, skip_bad, progress)

    def verify(self, progress: bool = False) -> None:
        """Check every image; raise UserError for the first that was altered.

        progress: show a bar, for a file above a GiB.
        """
        shown = progress and self._images.nbytes > _BAR_BYTES
        with progress_bar(f"checking {self.name}", self.num_images, shown) as advance:
            for (start, stop, _), checked in in_order(
                self._blocks(), lambda block: self._load(*block), os.cpu_count() or 1
            ):
                checked.result()
                advance(stop - start)

    def _blocks(self) -> Iterator[tuple[int, int, int]]:
        """Yield (first image, last image + 1, CRC-32) of every block."""
        start = 0
        for num_images, crc32 in self._contents.blocks:
            yield start, start + num_images, crc32
            start += num_images

    def _load(self, start: int, stop: int, crc32: int) -> np.ndarray:
        block = self._images[start:stop]
        self._check(zlib.crc32(block) == crc32, f"images {start} to {stop - 1} were altered")
        return block

    def _check(self, is_right: bool, what: str) -> None:
        if not is_right:
            raise UserError(f"{self.origin} is damaged ({what}): copy it again, or pack the set again")

    def _header(self, file: BinaryIO) -> tuple[tuple[int, int, int, int], int, int]:
        """Return (shape, bytes of the labels, CRC-32 of the details).

        All of them are possible and agree with the size of the file.
        """
        head, size = file.read(IMAGES_AT), os.fstat(file.fileno()).st_size
        self._check(len(head) == IMAGES_AT, f"it is cut short after {len(head)} bytes")
        self._check(head.startswith(MAGIC), "it does not begin as a packed file does")
        self._check(head[len(MAGIC):_JSON_AT] == b"%08x" % zlib.crc32(head[_JSON_AT:]), "its header was altered")
        header = self._json(head[_JSON_AT:])
        if header.get("version") != _VERSION:
            raise UserError(
                f"{self.origin} is of version {header.get('version')!r} and this fastgan reads version {_VERSION}: "
                "pack the set again"
            )
        shape, has_labels, details_bytes, details_crc32 = (
            header.get(key) for key in ("shape", "labels", "details_bytes", "details_crc32")
        )
        is_shape = (
            isinstance(shape, list)
            and len(shape) == 4
            and all(_is_count(length) and length for length in shape)
            and shape[3] in (1, 3, 4)
        )
        are_possible = isinstance(has_labels, bool) and _is_count(details_bytes) and _is_count(details_crc32)
        self._check(is_shape and are_possible, "its header holds impossible values")
        try:
            check_num_pixels(shape[2], shape[1])
        except BadImage as reason:
            raise UserError(f"{self.origin}: {reason}") from reason
        num_label_bytes = 8 * shape[0] * has_labels
        expected = IMAGES_AT + math.prod(shape) + num_label_bytes + details_bytes
        self._check(size == expected, f"it has {size} bytes where its header says {expected}")
        return tuple(shape), num_label_bytes, details_crc32

    def _read_details(self, encoded: bytes, labels: np.ndarray) -> Contents:
        details = self._json(encoded)
        name, class_names, skipped, labels_crc32, blocks = (
            details.get(key) for key in ("name", "class_names", "skipped", "labels_crc32", "blocks"))
        are_texts = isinstance(name, str) and (class_names is None or _are(str, class_names)) and _are(str, skipped)
        are_blocks = _are(list, blocks) and all(
            len(block) == 2 and all(map(_is_count, block)) and block[0] for block in blocks
        )
        self._check(are_texts and are_blocks, "its details hold impossible values")
        self._check(
            sum(num_images for num_images, _ in blocks) == self._shape[0], "its checksums are not those of its images"
        )
        self._check(zlib.crc32(labels) == labels_crc32, "its labels were altered")
        numbers = labels.view("<i8").astype(np.int64) if len(labels) else None
        self._check(numbers is None or numbers.min() >= 0, "its labels hold impossible values")
        class_names = None if class_names is None else tuple(class_names)
        return Contents(self._shape, numbers, class_names, name, tuple(skipped), tuple(map(tuple, blocks)))

    def _json(self, encoded: bytes) -> dict:
        try:
            values = json.loads(encoded)
        except (ValueError, RecursionError):
            values = None
        self._check(isinstance(values, dict), "what should be JSON is not")
        return values


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63  # isinstance takes True for a number


def _are(kind: type, values: Sequence) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _mapped(file: BinaryIO) -> np.ndarray:
    """Return the bytes of a file, uint8 [size], mapped copy-on-write.

    torch wants memory that can be written; the file itself does not change.
    """
    if sys.platform != "linux":
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    # Without NORESERVE Linux refuses to map a file larger than the memory in this way.
    return np.frombuffer(mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE | _MAP_NORESERVE), np.uint8)

