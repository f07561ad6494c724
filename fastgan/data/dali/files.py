"""Encoded image files as DALI receives them.

The module finds the files that DALI decodes as Pillow does, and the square to take of each.
"""
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image

from fastgan.data.images import fit, open_image, plain
from fastgan.data.sources.folder import FileSource
from fastgan.errors import UserError

_UNSEEN, _BY_DALI, _BY_PILLOW = range(3)
_DIRECT_MODES = frozenset({"1", "L", "P", "RGB"})
_END_MARKS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
# A PNG may have its orientation here; the chunk may lie behind the pixels.
_PNG_ORIENTATIONS = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif")
_PNG_BIT_DEPTH = 24  # the byte that holds it


@dataclass(frozen=True)
class Encoded:
    """One image as DALI takes it.

    data: uint8 [num_bytes], a file. corner: (top, left) and side, in pixels: the square of it, once
    upright.
    """

    data: np.ndarray
    corner: tuple[int, int]
    side: int


class EncodedFiles:
    """The files of a source, each with the square that becomes an image of img_resolution.

    random_crop: 1 = the centre square, of the side of the shorter side; below it a square at a
    random place, whose side is random between random_crop times the shorter side (but at least
    img_resolution, as nothing is enlarged) and the whole of it. Files that DALI would not decode as
    `fit` does are decoded here, by `fit`, and handed to DALI as the bytes of an uncompressed file:
    transparency, 16 bit, CMYK, animations, formats other than JPEG and PNG, images to be framed in
    black, files without an end mark (cut short: Pillow decides), and the files that
    `leave_to_pillow` names. The kind of a file is determined when it is first needed, in 0.05 ms,
    and remembered in 9 bytes.
    """

    def __init__(self, source: FileSource, img_resolution: int, img_channels: int, random_crop: float = 1.0):
        if not 0 < random_crop <= 1:
            raise UserError(
                f"random_crop {random_crop} is no share of the shorter side: give a number above 0 and at most 1"
            )
        if img_channels not in (1, 3):
            raise UserError(f"DALI decodes to 1 or 3 channels, not {img_channels}: choose another data.backend")
        self.source, self.img_resolution, self.img_channels, self._random_crop = (
            source,
            img_resolution,
            img_channels,
            random_crop,
        )
        self.num_files = source.num_images
        self._ways = np.full(source.num_images, _UNSEEN, np.uint8)
        self._sizes = np.zeros((source.num_images, 2), np.int32)  # (height, width) as DALI decodes it, upright

    def encoded(self, row: int, uniform: np.ndarray) -> Encoded:
        """Return file number `row`.

        uniform: three numbers in [0, 1), for side, top and left of a random square. Raises
        BadImage. May run in any thread.
        """
        data = self.source.read_member(self.source.members[row])
        if self._ways[row] == _UNSEEN:
            self._look_at(row, data)
        if self._ways[row] == _BY_PILLOW:
            return self._by_pillow(row, data, uniform)
        top, left, side = self._square(*self._sizes[row].tolist(), uniform)
        return Encoded(np.frombuffer(data, np.uint8), (top, left), side)

    def leave_to_pillow(self, rows: np.ndarray) -> bool:
        """Have Pillow decode these files from now on; return False when it did already."""
        is_news = bool((self._ways[rows] != _BY_PILLOW).any())
        self._ways[rows] = _BY_PILLOW
        return is_news

    def where(self, row: int) -> str:
        """Return the name of a file in error messages."""
        return self.source.where(self.source.members[row])

    def blank(self) -> Encoded:
        """Return a black image, the replacement of one that is left out."""
        return self._uncompressed(np.zeros((self.img_resolution, self.img_resolution, self.img_channels), np.uint8))

    def _look_at(self, row: int, data: bytes) -> None:
        image = open_image(data)
        if min(image.size) < self.img_resolution or not _is_direct(image, data):
            self._ways[row] = _BY_PILLOW
            return
        # Not asked of a PNG: Pillow would decode its pixels first. Turned ones are left to Pillow.
        is_turned = image.format != "PNG" and image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        self._sizes[row] = image.size if is_turned else image.size[::-1]
        self._ways[row] = _BY_DALI

    def _by_pillow(self, row: int, data: bytes, uniform: np.ndarray) -> Encoded:
        image = plain(self.source.open_image(row, data), self.img_channels)
        if self._random_crop < 1:
            top, left, side = self._square(image.height, image.width, uniform)
            image = image.crop((left, top, left + side, top + side))
        return self._uncompressed(fit(image, self.img_resolution, self.img_channels)[0])

    def _square(self, height: int, width: int, uniform: np.ndarray) -> tuple[int, int, int]:
        """Return (top, left, side) of the square to take of an image."""
        shorter = min(height, width)
        if self._random_crop == 1:
            return (height - shorter) // 2, (width - shorter) // 2, shorter
        smallest = min(shorter, max(round(self._random_crop * shorter), self.img_resolution))
        side = smallest + int(uniform[0] * (shorter - smallest + 1))
        return int(uniform[1] * (height - side + 1)), int(uniform[2] * (width - side + 1)), side

    def _uncompressed(self, pixels: np.ndarray) -> Encoded:
        header = f"P{5 if self.img_channels == 1 else 6} {self.img_resolution} {self.img_resolution} 255\n"  # PGM, PPM
        return Encoded(np.frombuffer(header.encode() + pixels.tobytes(), np.uint8), (0, 0), self.img_resolution)


def _is_direct(image: Image.Image, data: bytes) -> bool:
    """Return True where DALI decodes a file as Pillow does, but for orientations.

    The rule was found by experiment; the tests repeat the experiment.
    """
    end_mark = _END_MARKS.get(image.format)
    if image.mode not in _DIRECT_MODES or end_mark is None or end_mark not in data[-32:]:
        return False
    if image.format == "PNG":
        is_still = not image.is_animated and not any(mark in data for mark in _PNG_ORIENTATIONS)
        return is_still and data[_PNG_BIT_DEPTH] <= 8 and not image.has_transparency_data
    return _has_plain_orientation(image)


def _has_plain_orientation(image: Image.Image) -> bool:
    """Return True where a JPEG has its orientation in the Exif data, where DALI reads it.

    Return False where it is in XMP.
    """
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        return exif.get(ExifTags.Base.Orientation, 1) == image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # whatever Pillow raises on damaged Exif data
        return False
