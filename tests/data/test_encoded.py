"""What a source of image files says about them, and the scaling of those of more than 8 bits."""
import numpy as np
import pytest
from image_files import deep_colour_png, encoded, picture, translucent
from PIL import Image

from fastgan.data import encoded as encoded_sources
from fastgan.data import open_source
from fastgan.data.packing.decoders import in_processes, in_threads
from fastgan.data.packing.pack import pack
from fastgan.errors import UserError


def deep(low: int, high: int, side: int = 23) -> bytes:
    ramp = np.linspace(low, high, side * side).round().astype(np.uint16).reshape(side, side)
    return encoded(Image.fromarray(ramp))


@pytest.fixture
def folder(tmp_path):
    """Return a function that writes files into a folder, and returns the folder."""
    def write(**files: bytes):
        for name, content in files.items():
            (tmp_path / name.replace("_", ".")).write_bytes(content)
        return tmp_path
    return write


def test_the_range_is_that_of_all_deep_images(folder):
    path = folder(a_png=encoded(picture(23, 23, "L")), b_png=deep(100, 2000), c_png=deep(0, 4095))
    source = open_source(path)
    images = source.read(23, 1).images.numpy()[..., 0]
    np.testing.assert_array_equal(images[0], np.asarray(picture(23, 23, "L")))
    assert (images[1, 0, 0], images[1, -1, -1]) == (6, 125)
    assert (images[2, 0, 0], images[2, -1, -1]) == (0, 255)
    assert source.notes(1) == (
        "2 files of more than 8 bits: values from 0 to 4095 (those that the set uses; data.range=LOW,HIGH sets others) "
        "become 0 to 255",)


def test_the_range_that_is_asked_for_needs_no_scan(folder, monkeypatch):
    monkeypatch.setattr(encoded_sources, "_bounds_of", lambda one: pytest.fail("scanned"))
    source = open_source(folder(a_png=deep(0, 1000), b_png=deep(0, 2000)), (0, 4000))
    assert source.read(23, 1).images.amax((1, 2, 3)).tolist() == [64, 128]
    assert source.notes(1) == ("2 files of more than 8 bits: values from 0 to 4000 become 0 to 255",)


def test_sets_of_8_bits_are_never_scanned(folder, monkeypatch):
    monkeypatch.setattr(encoded_sources, "_bounds_of", lambda one: pytest.fail("scanned"))
    source = open_source(folder(a_png=encoded(picture()), b_jpg=encoded(picture(), "JPEG")), (0, 4000))
    source.read(23, 3)
    assert source.notes(3) == ("data.range was not used, as no image was found that has more than 8 bits",)


def test_float_tiffs_colours_of_48_bits_and_bad_files_take_part(folder):
    floats = Image.fromarray(np.linspace(-3, 5, 23 * 23, dtype=np.float32).reshape(23, 23))
    source = open_source(folder(a_tif=encoded(floats, "TIFF"), b_tif=encoded(floats, "TIFF"), c_png=b"no image"))
    images = source.read(23, 1, skip_bad=True).images
    assert (int(images.min()), int(images.max())) == (0, 255)
    (note,) = source.notes(1)
    assert note.startswith("2 files of more than 8 bits: values from -3 to 5")


def test_colours_of_48_bits_are_scaled_with_all_their_bits(folder):
    source = open_source(folder(a_png=deep_colour_png(), b_png=deep_colour_png()), (0, 4080))
    values = np.random.default_rng(2).integers(0, 65536, (23, 37, 3))[:, 7:30]
    expected = np.clip(np.rint(values / 16), 0, 255)
    np.testing.assert_array_equal(source.read(23, 3).images[0].numpy(), expected)


@pytest.mark.parametrize("value_range", [None, (0, 4095)])
def test_processes_scale_as_threads_do(folder, tmp_path, value_range):
    path = folder(a_png=deep(0, 500), b_png=encoded(translucent().crop((0, 0, 23, 23))), c_png=deep(50, 3000))
    sources = [open_source(path, value_range) for _ in range(2)]
    for source, decode, name in zip(sources, (in_threads(1), in_processes(1)), "tp", strict=True):
        pack(source, tmp_path / f"{name}.fgp", decode=decode)
    assert (tmp_path / "t.fgp").read_bytes() == (tmp_path / "p.fgp").read_bytes()
    assert sources[0].notes(3) == sources[1].notes(3)
    assert len(sources[0].notes(3)) == 2


def test_a_packing_with_another_range_begins_anew(folder, tmp_path):
    path, said = folder(a_png=deep(0, 500), b_png=deep(0, 500), c_png=b"no image"), []
    for value_range in (None, (0, 4095)):
        with pytest.raises(UserError, match="not an image"):
            pack(open_source(path, value_range), tmp_path / "out.fgp", decode=one_good_block, say=said.append)
    assert said == [f"{tmp_path / 'out.fgp'} was started with other images, another size or another decoder: "
                    "starting again"]


def one_good_block(source, target, start):
    blocks = list(in_threads(1)(source, target, start))
    yield type(blocks[0])(1, blocks[0].images[:1], None)
    yield from blocks


def test_what_is_no_image_is_counted_by_kind(folder):
    path = folder(a_png=encoded(picture()), b_png=encoded(picture()), a_txt=b"", b_txt=b"", readme=b"")
    (path / ".DS_Store").write_bytes(b"")
    (path / "C.PSD").write_bytes(b"")
    source = open_source(path)
    assert source.notes(3) == (
        f"5 files in {path.name} not read as images: 2 .txt, 1 .psd, 1 hidden, 1 without a suffix",)


def test_many_kinds_are_cut_short_and_missing_decoders_are_named(folder, monkeypatch):
    monkeypatch.setattr(encoded_sources, "MISSING_SUFFIXES", frozenset({".k1"}))
    path = folder(a_png=encoded(picture()), b_png=encoded(picture()))
    for kind in range(12):
        (path / f"x.k{kind}").write_bytes(b"")
    (note,) = open_source(path).notes(3)
    assert note.startswith(f"12 files in {path.name} not read as images: 1 .k0, 1 .k1, ")
    assert note.endswith("4 of other kinds; this build of Pillow cannot read .k1: install a newer one")


def test_animations_and_alpha_are_said(folder):
    moving = encoded(picture(), "WEBP", save_all=True, append_images=[picture(seed=3)])
    source = open_source(folder(a_webp=moving, b_png=encoded(translucent())))
    source.read(23, 3)
    assert source.notes(3) == (
        "1 file with several frames or pages: the first is taken",
        "1 file with an alpha channel: it is laid over white (--channels 4 keeps it)",
    )
    assert len(source.notes(4)) == 1
