"""Conversion of any image to uint8 [img_resolution, img_resolution, img_channels] by one rule.

1. Upright (EXIF orientation), transparent parts over white (unless img_channels = 4, which keeps
   them), any colour model to RGB. Images of more than 8 bits come scaled by the range that their
   set uses (fastgan/data/encoded.py); of one that comes without its set, the high byte is taken.
2. Grey (img_channels = 1) by Pillow's "L"; grey to colour by repeating the channel.
3. The centre square, of the side of the shorter side. That square is then
   - kept as it is, when its side is img_resolution;
   - resized down with antialiased Lanczos, when it is larger;
   - framed in black, when its side is at least 3/4 of img_resolution (28 -> 32, as is usual for
     MNIST);
   - refused, when it is smaller still: enlarging would teach the generator blur.
"""
import io
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

# Formats that a Pillow may be built without: (its name of the feature, suffixes, Pillow's format).
_OPTIONAL = (
    ("avif", frozenset({".avif"}), "AVIF"),
    ("jpg_2000", frozenset({".jp2", ".j2k", ".jpx", ".jpf", ".j2c"}), "JPEG2000"),
)
_BUILT = tuple(row for row in _OPTIONAL if features.check(row[0]))
SUFFIXES = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
}).union(*(suffixes for _, suffixes, _ in _BUILT))
# The suffixes that another build of Pillow would read
MISSING_SUFFIXES = frozenset().union(*(suffixes for _, suffixes, _ in _OPTIONAL)) - SUFFIXES
# Named one by one: some of Pillow's formats start other programs (EPS starts Ghostscript).
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", *(kind for _, _, kind in _BUILT))
_SEQUENCES = frozenset({"PNG", "WEBP", "GIF", "TIFF", "AVIF"})  # formats with frames or pages
# Pillow strips the low byte of 16-bit colours. The unpacker of the other byte order strips the high one.
_NOT_NATIVE = "RGB;16B" if sys.byteorder == "little" else "RGB;16L"
_OTHER_BYTE = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGB;16N": _NOT_NATIVE,  # what libtiff unpacks
    "RGBA;16N": f"RGBA{_NOT_NATIVE.removeprefix('RGB')}",
}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# What a set says about its images: some are animated, translucent, or of more than 8 bits
ANIMATED, TRANSLUCENT, DEEP = 1, 2, 4
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
# The errors of Pillow's readers on bytes that are not of their format.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,  # warnings are raised where the user turned them into errors
)


class BadImage(Exception):
    """One image that cannot be used; the message is the reason, without the image's name."""


def open_image(data: bytes) -> Image.Image:
    """Return the image in the bytes of a file: header read, pixels not decoded. Raises BadImage."""
    with _pillow_errors():
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    check_num_pixels(*image.size)
    return image


def check_num_pixels(width: int, height: int) -> None:
    """Raise BadImage for an image of more pixels than Pillow considers safe.

    The limit is Image.MAX_IMAGE_PIXELS, about 89 million.
    """
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise BadImage(
            f"claims {width}x{height} pixels, more than the {Image.MAX_IMAGE_PIXELS} that are taken for safe"
        )


def check_file_size(num_bytes: int) -> None:
    """Raise BadImage for a file larger than the largest allowed image without compression."""
    if Image.MAX_IMAGE_PIXELS is not None and num_bytes > 4 * Image.MAX_IMAGE_PIXELS:
        raise BadImage(f"claims {num_bytes} bytes, more than any image that is taken for safe")


def native_size(image: Image.Image) -> tuple[int, int]:
    """Return (shorter side in pixels, channels) of an image, from its header.

    channels: 1 for grey, 3 for anything else.
    """
    return min(image.size), 1 if image.mode in _GREY_MODES else 3


def traits(image: Image.Image) -> int:
    """Return ANIMATED, TRANSLUCENT and DEEP, added up, of an image that is not decoded yet."""
    try:
        is_animated = image.format in _SEQUENCES and image.is_animated
    except _DECODE_ERRORS:  # cut short behind its first frame
        is_animated = False
    return ANIMATED * is_animated + TRANSLUCENT * image.has_transparency_data + DEEP * _is_deep(image)


def deep_values(image: Image.Image, data: bytes) -> np.ndarray:
    """Return all bits of an upright image that is DEEP: numbers [H, W], or uint16 [H, W, 3 or 4].

    data: the bytes of its file. Raises BadImage.
    """
    with _pillow_errors():
        rawmode = _rawmode(image)
        if rawmode not in _OTHER_BYTE:
            return np.asarray(_upright(image))
        low = Image.open(io.BytesIO(data), formats=_FORMATS)
        low.tile = [tile._replace(args=_with_rawmode(tile.args, _OTHER_BYTE[rawmode])) for tile in low.tile]
        high, low = (np.asarray(_upright(part)).astype(np.uint16) for part in (image, low))
        return high << 8 | low


def fit(picture: Image.Image | np.ndarray, img_resolution: int, img_channels: int) -> np.ndarray:
    """Apply the rule above to one Pillow image, or to a block of images.

    A block is uint8 [n, h, w, c] with c from 1 (grey) to 4 (RGBA). Returns uint8
    [n, img_resolution, img_resolution, img_channels], n = 1 for a Pillow image; it may be `picture`
    itself, or read-only. Raises BadImage.
    """
    if isinstance(picture, Image.Image):
        return _fit_image(picture, img_resolution, img_channels)[None]
    side, _, channels = picture.shape[1:]
    is_square = picture.shape[1] == picture.shape[2]
    is_ready = channels == img_channels or (channels == 1 and img_channels == 3)
    if is_square and side <= img_resolution and is_ready:
        return _framed(picture, img_resolution, img_channels)
    images = (Image.fromarray(pixels[..., 0] if channels == 1 else pixels) for pixels in picture)
    return np.stack([_fit_image(image, img_resolution, img_channels) for image in images])


def plain(image: Image.Image, img_channels: int) -> Image.Image:
    """Apply the first two points of the rule, at the image's own size.

    Returns an upright 8 bit image, "L", "RGB" or (with 4 channels) "RGBA"; it may be `image`.
    Raises BadImage.
    """
    mode = _MODES[img_channels]
    with _pillow_errors():
        image = _eight_bit(_upright(image))
        image = image if img_channels == 4 else _opaque(image)
        # Pillow's functions copy the image even where they change nothing: without these copies a
        # 64x64 PNG takes 100 us instead of 137.
        return image if image.mode == mode else image.convert(mode)


def _fit_image(image: Image.Image, img_resolution: int, img_channels: int) -> np.ndarray:
    image = plain(image, img_channels)
    with _pillow_errors():
        if image.width != image.height:
            image = _centre_square(image)
        if image.width > img_resolution:
            image = image.resize((img_resolution, img_resolution), Image.Resampling.LANCZOS)
        pixels = np.asarray(image)
    return _framed(pixels.reshape(1, image.height, image.width, img_channels), img_resolution, img_channels)[0]


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # a PNG may have its orientation behind the pixels
    return image if image.getexif().get(ExifTags.Base.Orientation, 1) == 1 else ImageOps.exif_transpose(image)


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16") or _rawmode(image) in _OTHER_BYTE


def _rawmode(image: Image.Image) -> str | None:
    """Return the layout of the pixels in the file, or None where Pillow names none."""
    args = image.tile[0].args if getattr(image, "tile", None) else None
    rawmode = args[0] if isinstance(args, tuple) and args else args
    return rawmode if isinstance(rawmode, str) else None


def _with_rawmode(args: str | tuple, rawmode: str) -> str | tuple:
    return rawmode if isinstance(args, str) else (rawmode, *args[1:])


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise BadImage("holds floating-point pixels: save it with 8 or 16 bits")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise BadImage("holds pixels of more than 16 bits: save it with 8 or 16 bits")
    return Image.fromarray((pixels >> 8).astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")


def _centre_square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _framed(block: np.ndarray, img_resolution: int, img_channels: int) -> np.ndarray:
    side = block.shape[1]
    if 4 * side < 3 * img_resolution:
        raise BadImage(f"is {side} pixels on its shorter side, too small for img_resolution {img_resolution}: "
                       f"the largest that would work is {side * 4 // 3}")
    if side == img_resolution and block.shape[3] == img_channels:
        return block
    framed = np.zeros((len(block), img_resolution, img_resolution, img_channels), np.uint8)
    start = (img_resolution - side) // 2
    framed[:, start:start + side, start:start + side] = block  # one channel is repeated by broadcasting
    return framed


@contextmanager
def _pillow_errors() -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        raise BadImage("is not an image of a known kind") from error
    except _DECODE_ERRORS as error:
        raise BadImage(f"cannot be decoded ({error})") from error
