import sys
import threading
from itertools import repeat

import numpy as np
import pytest
import torch
from image_files import BY_DALI, BY_PILLOW, encoded, picture
from PIL import Image

from fastgan.data import open_source
from fastgan.data.dali import files as dali_files
from fastgan.data.dali import pipeline as dali_pipeline
from fastgan.data.dali.files import EncodedFiles
from fastgan.data.dali.pipeline import Chunk, decode, graph, import_dali, refusing
from fastgan.data.images import fit, open_image
from fastgan.errors import UserError

CPU = torch.device("cpu")
ALL_KINDS = {**BY_DALI, **BY_PILLOW}


def write(folder, contents) -> None:
    for number, content in enumerate(contents):
        (folder / f"{number:03}.png").write_bytes(content)


def decoded(folder, img_resolution, img_channels, device=CPU, chunk=7, num_threads=1, bad_file=None) -> np.ndarray:
    """Return all images of a folder, int [n, img_resolution, img_resolution, img_channels]."""
    pytest.importorskip("nvidia.dali")
    files = EncodedFiles(open_source(folder), img_resolution, img_channels)
    chunks = (Chunk(rows.numpy(), np.zeros((len(rows), 3))) for rows in torch.arange(files.num_files).split(chunk))
    images = [part.cpu().int() for part in decode(files, chunks, device, num_threads, bad_file or refusing(files))]
    return torch.cat(images).numpy()


def read(folder, img_resolution, img_channels) -> np.ndarray:
    """Return what Pillow makes of all images of a folder, as `decoded` does."""
    return open_source(folder).read(img_resolution, img_channels).images.numpy().astype(int)


def fitted(contents, img_resolution, img_channels) -> np.ndarray:
    return np.concatenate([fit(open_image(content), img_resolution, img_channels) for content in contents]).astype(int)


@pytest.mark.parametrize("img_channels", [1, 3])
def test_every_kind_of_file_becomes_what_fit_makes_of_it(tmp_path, img_channels):
    same_size = [content for content in ALL_KINDS.values() if min(open_image(content).size) == 23]
    write(tmp_path, same_size)
    off = abs(decoded(tmp_path, 23, img_channels) - read(tmp_path, 23, img_channels))
    assert len(off) > 30
    assert off.max() <= (1 if img_channels == 1 else 0)
    assert (off > 0).mean() < 1e-3


@pytest.mark.parametrize("img_channels", [1, 3])
def test_resized_images_are_one_off_here_and_there(tmp_path, img_channels):
    write(tmp_path, ALL_KINDS.values())
    off = abs(decoded(tmp_path, 11, img_channels) - read(tmp_path, 11, img_channels))
    assert off.max() <= 1
    assert (off > 0).mean() < 0.02


@pytest.mark.parametrize("num_images", [1, 8, 40])
def test_images_of_one_size_are_resized_together(tmp_path, num_images):
    contents = [encoded(picture(50, 60, seed=seed)) for seed in range(num_images + 1)]
    write(tmp_path, contents)
    off = abs(decoded(tmp_path, 20, 3, chunk=32, num_threads=2) - fitted(contents, 20, 3))
    assert off.max() <= 1


def test_without_torchs_lanczos_pillow_resizes(tmp_path, monkeypatch):
    monkeypatch.setattr(dali_pipeline, "_HAS_LANCZOS", False)
    write(tmp_path, BY_DALI.values())
    np.testing.assert_array_equal(decoded(tmp_path, 11, 3), fitted(BY_DALI.values(), 11, 3))


def test_the_resizing_that_the_gpu_does_agrees_inside_and_nearly_at_the_border():
    dali = pytest.importorskip("nvidia.dali")
    import_dali(CPU)
    contents = [encoded(picture(64, 64, seed=seed)) for seed in range(6)] + [
        encoded(Image.effect_noise((64, 64), 90).convert("RGB"))
    ]
    batch = (
        [np.frombuffer(content, np.uint8) for content in contents],
        np.zeros((7, 2), np.int32),
        np.full((7, 2), 64, np.int32),
    )
    pipeline = dali.pipeline_def(graph)(dali, iter([batch]), 3, "cpu", 24, batch_size=7, num_threads=1, device_id=None)
    off = abs(pipeline.run()[0].as_array() - fitted(contents, 24, 3))
    assert off[:, 3:-3, 3:-3].max() <= 2
    assert (off[:, 3:-3, 3:-3] > 0).mean() < 0.02
    assert off.max() <= 16


def test_a_random_square_of_a_turned_jpeg_is_taken_from_the_upright_image(tmp_path):
    pytest.importorskip("nvidia.dali")
    write(tmp_path, [encoded(picture(), "JPEG", orientation) for orientation in (1, 3, 6, 8)])
    files = EncodedFiles(open_source(tmp_path), 23, 3, random_crop=0.9)
    uniform = np.array([0, 0, 0.7])
    chunk = Chunk(np.arange(4), np.tile(uniform, (4, 1)))
    for row, image in enumerate(next(decode(files, [chunk], CPU, 1, refusing(files))).numpy()):
        (top, left), side = files.encoded(row, uniform).corner, files.encoded(row, uniform).side
        assert (top, left, side) == (0, 10, 23) if row < 2 else (0, 0, 23)
        upright = np.asarray(open_image((tmp_path / "000.png").read_bytes()))
        turned = np.rot90(upright, {0: 0, 1: 2, 2: -1, 3: 1}[row])
        np.testing.assert_array_equal(image, turned[top:top + side, left:left + side])


def test_what_dali_refuses_and_pillow_takes_is_decoded_by_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(dali_files, "_is_direct", lambda image, data: True)  # DALI does not decode GIF
    contents = [encoded(picture(seed=seed), "GIF" if seed in (5, 11) else "PNG") for seed in range(16)]
    write(tmp_path, contents)
    np.testing.assert_array_equal(decoded(tmp_path, 23, 3, chunk=2), fitted(contents, 23, 3))


def test_a_file_that_neither_decodes_is_named(tmp_path):
    contents = [encoded(picture(seed=seed)) for seed in range(9)]
    contents[6] = contents[6][:60] + bytes(40) + contents[6][100:]
    write(tmp_path, contents)
    with pytest.raises(
        UserError, match=r"006\.png: cannot be decoded .*; mend or remove it, or leave such files out with skip_bad"
    ):
        decoded(tmp_path, 23, 3, chunk=2)


def test_a_file_of_no_use_is_told_and_becomes_black(tmp_path):
    contents = [encoded(picture(seed=seed)) for seed in range(9)]
    write(tmp_path, contents)
    (tmp_path / "004.png").write_bytes(b"no picture")
    bad = {}
    images = decoded(tmp_path, 23, 3, chunk=2, bad_file=bad.__setitem__)
    assert {row: str(reason) for row, reason in bad.items()} == {4: "is not an image of a known kind"}
    assert not images[4].any()
    np.testing.assert_array_equal(np.delete(images, 4, 0), fitted([*contents[:4], *contents[5:]], 23, 3))


def test_what_is_not_asked_for_any_more_leaves_no_thread(tmp_path):
    pytest.importorskip("nvidia.dali")
    write(tmp_path, [encoded(picture())] * 20)
    before = threading.active_count()
    files = EncodedFiles(open_source(tmp_path), 23, 3)
    images = decode(files, repeat(Chunk(np.arange(20), np.zeros((20, 3)))), CPU, 1, refusing(files))
    next(images)
    assert threading.active_count() > before
    images.close()
    assert threading.active_count() == before


def test_nothing_is_printed(tmp_path, capfd):
    write(tmp_path, ALL_KINDS.values())
    decoded(tmp_path, 11, 3)
    assert capfd.readouterr() == ("", "")


def test_without_dali_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(UserError, match=r"pip install 'fastgan\[dali\]'"):
        import_dali(CPU)


def test_without_a_gpu_none_is_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="decoding on cuda:1 needs a CUDA device"):
        import_dali(torch.device("cuda:1"))


@pytest.mark.gpu
@pytest.mark.parametrize("img_channels", [1, 3])
def test_the_gpu_decodes_png_exactly_and_jpeg_with_its_own_rounding(tmp_path, img_channels):
    contents = [encoded(picture(64, 64, seed=seed)) for seed in range(4)] + [
        encoded(picture(64, 64, seed=seed), "JPEG") for seed in range(4)
    ]
    write(tmp_path, contents)
    off = abs(decoded(tmp_path, 64, img_channels, torch.device("cuda")) - fitted(contents, 64, img_channels))
    assert off[:4].max() <= (1 if img_channels == 1 else 0)
    assert off[4:].mean() <= 1
    assert off.max() <= 16


@pytest.mark.gpu
def test_the_gpu_and_the_cpu_agree_on_every_kind(tmp_path):
    write(tmp_path, ALL_KINDS.values())
    off = abs(decoded(tmp_path, 11, 3, torch.device("cuda")) - decoded(tmp_path, 11, 3))
    assert off.mean((1, 2, 3)).max() <= 3
    assert off.max() <= 24
