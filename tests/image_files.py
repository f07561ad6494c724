"""Image files of every kind that the code distinguishes, made with Pillow."""
import io
import struct
import zlib

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def picture(height: int = 23, width: int = 37, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Return a picture with shades, edges and strong colours."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", orientation: int | None = None, **options) -> bytes:
    """Return the bytes of an image file."""
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][ORIENTATION] = orientation
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def translucent(mode: str = "RGBA") -> Image.Image:
    image = picture().convert("RGBA")
    image.putalpha(picture(mode="L", seed=1))
    return image.convert(mode)


def deep_colour_png() -> bytes:
    """Return a PNG of 16 bits a channel, which Pillow cannot write: its rows are packed here."""
    pixels = np.random.default_rng(2).integers(0, 65536, (23, 37, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 37, 23, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def deep_colour_tiff(order: str = "<", deflated: bool = False) -> bytes:
    """Return a TIFF of 16 bits a channel, which Pillow cannot write. order: < or >, of its bytes."""
    pixels = np.random.default_rng(2).integers(0, 65536, (23, 37, 3)).astype(f"{order}u2").tobytes()
    data = zlib.compress(pixels) if deflated else pixels
    data += b"\0" * (len(data) % 2)
    depths_at = 8 + len(data) + 2 + 10 * 12 + 4
    numbers = [(256, 37), (257, 23), (258, None), (259, 8 if deflated else 1), (262, 2), (273, 8), (277, 3), (278, 23),
               (279, len(data)), (284, 1)]  # fmt: skip
    tags = [struct.pack(f"{order}HHII", tag, 4, 1, value) if value is not None else
            struct.pack(f"{order}HHII", tag, 3, 3, depths_at) for tag, value in numbers]  # fmt: skip
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
    return start + data + struct.pack(f"{order}H", 10) + b"".join(tags) + struct.pack(f"{order}IHHH", 0, 16, 16, 16)


def late_orientation_png() -> bytes:
    """Return a PNG whose orientation follows the pixels."""
    whole = encoded(picture())
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return whole[:-12] + _chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + whole[-12:]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def xmp_orientation_jpeg() -> bytes:
    """Return a JPEG turned by XMP, which Pillow reads and DALI does not."""
    return encoded(picture(), "JPEG", xmp=b'<x:xmpmeta><rdf tiff:Orientation="6"/></x:xmpmeta>')


BY_DALI = {
    "png": encoded(picture()),
    "grey png": encoded(picture(mode="L")),
    "palette png": encoded(picture(mode="P")),
    "two-colour png": encoded(picture(mode="1")),
    "portrait png": encoded(picture(41, 24)),
    "square png": encoded(picture(23, 23)),
    "jpeg 4:2:0": encoded(picture(), "JPEG", subsampling=2),
    "jpeg 4:2:2": encoded(picture(), "JPEG", subsampling=1),
    "jpeg 4:4:4": encoded(picture(), "JPEG", subsampling=0, quality=95),
    "coarse jpeg": encoded(picture(), "JPEG", quality=10),
    "progressive jpeg": encoded(picture(), "JPEG", progressive=True),
    "grey jpeg": encoded(picture(mode="L"), "JPEG"),
    "rgb jpeg": encoded(picture(), "JPEG", keep_rgb=True),
    "portrait jpeg": encoded(picture(40, 23), "JPEG"),
    "jpeg with a trailer": encoded(picture(), "JPEG") + b"\0" * 9,
    "two-image jpeg": encoded(picture(), "MPO", save_all=True, append_images=[picture(seed=3)]),
    **{f"jpeg turned by {orientation}": encoded(picture(), "JPEG", orientation) for orientation in range(10)},
    "progressive jpeg turned": encoded(picture(), "JPEG", 6, progressive=True),
}
BY_PILLOW = {
    "rgba png": encoded(translucent()),
    "la png": encoded(translucent("LA")),
    "transparent palette png": encoded(picture(mode="P"), transparency=3),
    "transparent colour png": encoded(Image.new("RGB", (37, 23), (1, 2, 3)), transparency=(1, 2, 3)),
    "16-bit png": encoded(Image.fromarray(np.arange(23 * 37, dtype=np.uint16).reshape(23, 37) * 70)),
    "48-bit png": deep_colour_png(),
    "turned png": encoded(picture(), orientation=6),
    "late turned png": late_orientation_png(),
    "animated png": encoded(picture(), save_all=True, append_images=[picture(seed=3)]),
    "png without its end": encoded(picture())[:-12],
    "cmyk jpeg": encoded(picture(mode="CMYK"), "JPEG"),
    "jpeg turned by xmp": xmp_orientation_jpeg(),
    "webp": encoded(picture(), "WEBP"),
    "gif": encoded(picture(mode="P"), "GIF"),
    "bmp": encoded(picture(), "BMP"),
    "tiff": encoded(picture(), "TIFF", orientation=6),
    "pgm": encoded(picture(mode="L"), "PPM"),
}
