"""The facts about its images that a run has are the same with and without decoding in advance."""
import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.data import open_source
from fastgan.data.image_set import spread
from fastgan.data.real_set import EncodedSet


@pytest.fixture
def folder(tmp_path):
    """Make nine images of 12x10, of which numbers 0, 4 and 8 are cut short."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 10, 12, 3), np.uint8)
    for index in range(9):
        Image.fromarray(pixels[index]).save(tmp_path / f"{index}.png")
    for index in (0, 4, 8):
        (tmp_path / f"{index}.png").write_bytes((tmp_path / f"{index}.png").read_bytes()[:60])
    return tmp_path


@pytest.mark.parametrize(
    ("num", "shown"), [(1, [1]), (2, [1]), (3, [1, 5]), (6, [1, 2, 3, 5, 6]), (100, [1, 2, 3, 5, 6])]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_files_that_cannot_be_decoded_are_replaced_by_the_next_one(folder, num, shown, channels):
    source = open_source(folder)
    decoded = source.read(8, channels, skip_bad=True)
    encoded = EncodedSet(source, 6, (8, 8, channels), decoded.skipped)
    assert (encoded.num_images, encoded.img_shape, encoded.skipped) == (
        decoded.num_images,
        decoded.img_shape,
        decoded.skipped,
    )
    numbers = [1, 2, 3, 5, 6, 7]
    assert torch.equal(encoded.sample(num), decoded.images[[numbers.index(number) for number in shown]])


def test_without_bad_files_both_show_the_same(folder):
    for index in (0, 4, 8):
        (folder / f"{index}.png").unlink()
    source = open_source(folder)
    decoded = source.read(8, 3)
    for num in (1, 2, 4, 6, 100):
        assert torch.equal(EncodedSet(source, 6, (8, 8, 3)).sample(num), decoded.sample(num))
        assert len(decoded.sample(num)) == min(num, 6)


def test_classes_are_those_of_the_source(tmp_path):
    for index in range(6):
        (tmp_path / "ab"[index % 2]).mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "ab"[index % 2] / f"{index}.png")
    source = open_source(tmp_path)
    decoded, encoded = source.read(8, 1), EncodedSet(source, 6, (8, 8, 1), labels=torch.from_numpy(source.labels))
    assert torch.equal(encoded.labels, decoded.labels)
    assert (encoded.class_names, encoded.name) == (decoded.class_names, decoded.name) == (("a", "b"), tmp_path.name)


def test_a_sample_is_spread_from_the_first_to_the_last():
    assert spread(9, 3) == [0, 4, 8]
    assert spread(9, 1) == [0]
    assert spread(3, 9) == [0, 1, 2]
