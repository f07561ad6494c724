"""Conversion of any image to uint8 [img_resolution, img_resolution, img_channels] by one rule.

1. Upright (EXIF orientation), transparent parts over white, 16 bit to 8 by the high byte, any
   colour model to RGB.
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
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})
# Named one by one: some of Pillow's formats start other programs (EPS starts Ghostscript).
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
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
    if is_square and side <= img_resolution and channels in (1, img_channels):
        return _framed(picture, img_resolution, img_channels)
    images = (Image.fromarray(pixels[..., 0] if channels == 1 else pixels) for pixels in picture)
    return np.stack([_fit_image(image, img_resolution, img_channels) for image in images])


def plain(image: Image.Image, img_channels: int) -> Image.Image:
    """Apply the first two points of the rule, at the image's own size.

    Returns an upright, opaque, 8 bit image, grey ("L") or "RGB"; it may be `image`. Raises
    BadImage.
    """
    mode = "L" if img_channels == 1 else "RGB"
    with _pillow_errors():
        image = _opaque(_eight_bit(_upright(image)))
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
