import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import BY_DALI, BY_PILLOW, deep_colour_png, deep_colour_tiff
from PIL import Image

from fastgan.data.images import (
    ANIMATED,
    DEEP,
    SUFFIXES,
    TRANSLUCENT,
    BadImage,
    deep_values,
    fit,
    native_size,
    open_image,
    traits,
)

MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I"]
RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def one(image: Image.Image, img_resolution: int = 8, img_channels: int = 3) -> np.ndarray:
    return fit(image, img_resolution, img_channels)[0]


def colour_of(pixels: np.ndarray) -> tuple:
    flat = pixels.reshape(-1, pixels.shape[-1])
    assert (flat == flat[0]).all()
    return tuple(int(value) for value in flat[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 40), st.integers(6, 40), st.sampled_from(MODES), st.sampled_from([1, 3]))
def test_any_size_and_mode_becomes_a_square_of_uint8(width, height, mode, img_channels):
    assert fit(Image.new(mode, (width, height)), 8, img_channels).shape == (1, 8, 8, img_channels)
    assert fit(Image.new(mode, (width, height)), 8, img_channels).dtype == np.uint8


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "P", "YCbCr"])
def test_a_constant_colour_survives(mode):
    image = Image.new("RGB", (20, 14), RED).convert(mode)
    np.testing.assert_allclose(colour_of(one(image)), RED, atol=2)


def test_transparency_goes_over_white():
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    pixels = one(image)
    assert colour_of(pixels[:, :4]) == BLACK
    assert colour_of(pixels[:, 4:]) == WHITE
    assert colour_of(one(Image.new("LA", (8, 8), (0, 0)), img_channels=1)) == (255,)


def test_a_transparent_palette_entry_goes_over_white():
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert colour_of(one(open_image(encoded(palette, transparency=0)))) == WHITE


def test_sixteen_bits_without_a_set_give_the_high_byte():
    ramp = (np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    pixels = one(open_image(encoded(Image.fromarray(ramp))), img_channels=1)
    np.testing.assert_array_equal(pixels[..., 0], ramp >> 8)


@pytest.mark.parametrize(
    "data",
    [deep_colour_png(), *(deep_colour_tiff(order, deflated) for order in "<>" for deflated in (False, True))],
    ids=["png", "tiff", "deflated tiff", "big-endian tiff", "big-endian deflated tiff"],
)
def test_all_bits_of_sixteen_bit_colours_are_found(data):
    image = open_image(data)
    assert traits(image) == DEEP
    expected = np.random.default_rng(2).integers(0, 65536, (23, 37, 3))
    np.testing.assert_array_equal(deep_values(image, data), expected)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("16-bit png", DEEP), ("rgba png", TRANSLUCENT), ("transparent palette png", TRANSLUCENT),
     ("animated png", ANIMATED), ("webp", 0), ("gif", 0), ("cmyk jpeg", 0), ("pgm", 0)],
)
def test_traits_are_of_the_header(kind, expected):
    assert traits(open_image(BY_PILLOW[kind])) == expected


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, "blue")]
    image = open_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert traits(image) == ANIMATED
    np.testing.assert_allclose(colour_of(one(image)), RED, atol=3)


def test_two_views_of_a_jpeg_are_no_animation():
    assert traits(open_image(BY_DALI["two-image jpeg"])) == 0


@pytest.mark.parametrize(("kind", "suffix"), [("AVIF", ".avif"), ("JPEG2000", ".jp2")])
def test_newer_formats_are_read(kind, suffix):
    assert suffix in SUFFIXES
    np.testing.assert_allclose(colour_of(one(open_image(encoded(Image.new("RGB", (9, 9), RED), kind)))), RED, atol=3)


def test_four_channels_keep_the_alpha():
    pixels = np.random.default_rng(5).integers(0, 256, (8, 8, 4), np.uint8)
    np.testing.assert_array_equal(one(Image.fromarray(pixels), img_channels=4), pixels)
    assert colour_of(one(Image.new("L", (8, 8), 7), img_channels=4)) == (7, 7, 7, 255)
    framed = one(Image.new("RGBA", (6, 6), (9, 9, 9, 9)), img_channels=4)
    assert framed[0, 0].tolist() == [0, 0, 0, 0]


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (16, 8), "black")
    image.paste(RED, (0, 0, 16, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise: the red upper half becomes the right half
    pixels = one(open_image(encoded(image, exif=exif)))
    assert colour_of(pixels[:, 5:]) == RED
    assert colour_of(pixels[:, :3]) == BLACK


@pytest.mark.parametrize("size", [(24, 8), (8, 24)])
def test_the_centre_square_is_taken(size):
    image = Image.new("RGB", size, "black")
    left, top = (size[0] - 8) // 2, (size[1] - 8) // 2
    image.paste(RED, (left, top, left + 8, top + 8))
    assert colour_of(one(image)) == RED


def test_an_image_of_the_right_size_is_kept_to_the_bit():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(one(Image.fromarray(pixels)), pixels)


def test_resizing_down_is_antialiased():
    chequered = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    np.testing.assert_allclose(one(Image.fromarray(chequered), 16, 1), 127.5, atol=2)


def test_three_quarters_are_framed_in_black():
    pixels = one(Image.new("L", (28, 28), 200), 32, 1)
    assert colour_of(pixels[2:30, 2:30]) == (200,)
    assert pixels.sum() == 200 * 28 * 28


@pytest.mark.parametrize(("side", "img_resolution", "fits"), [
    (24, 32, True), (23, 32, False), (3, 4, True), (2, 4, False), (28, 37, True), (28, 38, False),
])
def test_smaller_than_three_quarters_is_refused_with_the_largest_that_works(side, img_resolution, fits):
    image = Image.new("L", (side, side + 9))
    if fits:
        assert fit(image, img_resolution, 1).shape[1] == img_resolution
        return
    with pytest.raises(BadImage, match=f"is {side} pixels .* works? is {side * 4 // 3}$"):
        fit(image, img_resolution, 1)
    assert fit(image, side * 4 // 3, 1).shape[1] == side * 4 // 3


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("height", "width", "img_resolution"), [(8, 8, 8), (7, 7, 8), (20, 20, 8), (12, 9, 8)])
@pytest.mark.parametrize("img_channels", [1, 3])
def test_a_block_equals_its_images_one_by_one(channels, height, width, img_resolution, img_channels):
    block = np.random.default_rng(1).integers(0, 256, (3, height, width, channels), np.uint8)
    alone = [
        one(Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels), img_resolution, img_channels)
        for pixels in block
    ]
    np.testing.assert_array_equal(fit(block, img_resolution, img_channels), alone)


def test_grey_to_colour_repeats_and_colour_to_grey_is_pillows():
    grey = np.random.default_rng(2).integers(0, 256, (8, 8), np.uint8)
    np.testing.assert_array_equal(one(Image.fromarray(grey)), np.repeat(grey[..., None], 3, -1))
    colour = Image.fromarray(np.random.default_rng(3).integers(0, 256, (8, 8, 3), np.uint8))
    np.testing.assert_array_equal(one(colour, img_channels=1)[..., 0], np.asarray(colour.convert("L")))


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("I;16", 1), ("RGB", 3), ("P", 3), ("CMYK", 3)]
)
def test_native_size_is_of_the_header(mode, channels):
    assert native_size(Image.new(mode, (30, 20))) == (20, channels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_file_is_a_bad_image(kind):
    noise = Image.fromarray(np.random.default_rng(4).integers(0, 256, (32, 32, 3), np.uint8))
    data = encoded(noise, kind)
    with pytest.raises(BadImage):
        fit(open_image(data[:len(data) // 2]), 8, 3)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_decode_or_are_a_bad_image(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "AVIF", "JPEG2000"]))
    content = bytearray(encoded(Image.new("RGB", (12, 12), RED), kind))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    content = content[:data.draw(st.integers(0, len(content)))]
    with contextlib.suppress(BadImage):
        image = open_image(bytes(content))
        assert 0 <= traits(image) < 8
        assert fit(image, 8, 3).shape == (1, 8, 8, 3)


def test_postscript_is_not_opened():
    with pytest.raises(BadImage, match="known kind"):
        open_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")


def test_floats_and_wide_integers_are_refused():
    with pytest.raises(BadImage, match="floating-point"):
        one(Image.new("F", (8, 8)))
    with pytest.raises(BadImage, match="more than 16 bits"):
        one(Image.new("I", (8, 8), 70000))


def test_a_decompression_bomb_is_refused(monkeypatch):
    data = encoded(Image.new("1", (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1599)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(BadImage, match="claims 40x40 pixels"):
        open_image(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(BadImage, match="bomb"):
        open_image(data)
