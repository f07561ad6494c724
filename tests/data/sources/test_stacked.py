"""Three grey images as the channels of one, whose mode is known."""
import numpy as np
import pytest
import torch

from fastgan.data import classes_of, open_source
from fastgan.data.packing.pack import pack
from fastgan.data.sources import stacked
from fastgan.data.sources.packed_file import PackedSource
from fastgan.errors import UserError

NUM_BASE = 50


@pytest.fixture
def base(tmp_path):
    """Make images that show their number, of ten classes: number n is of class n % 10."""
    numbers = np.arange(NUM_BASE, dtype=np.uint8)
    np.savez(tmp_path / "base.npz", images=numbers[:, None, None] * np.ones((1, 5, 5), np.uint8), labels=numbers % 10)
    return f"stacked:{tmp_path / 'base.npz'}"


def test_each_channel_is_an_image_and_the_label_has_their_digits(base):
    source = open_source(base)
    assert (source.name, source.num_images, source.native_resolution, source.native_channels) == (
        "stacked:base.npz",
        60_000,
        5,
        3,
    )
    image_set = source.read(5, 3)
    assert image_set.images.shape == (60_000, 5, 5, 3)
    numbers = image_set.images[:, 0, 0].long()
    assert (image_set.images == numbers[:, None, None]).all()
    assert torch.equal(image_set.labels, numbers % 10 @ torch.tensor([100, 10, 1]))


def test_all_modes_and_all_images_are_there_about_as_often(base):
    image_set = open_source(base).read(5, 3)
    modes = image_set.labels.bincount(minlength=1000)
    assert len(modes) == 1000
    assert (modes - 60).abs().max() < 6 * 60**0.5
    for channel in range(3):
        shown = image_set.images[:, 0, 0, channel].long().bincount(minlength=NUM_BASE)
        assert (shown - 1200).abs().max() < 6 * 1200**0.5


def test_the_names_are_those_of_the_three_classes(base):
    num_classes, names = classes_of(open_source(base))
    assert num_classes == 1000
    assert (names[0], names[703]) == ("0, 0, 0", "7, 0, 3")
    assert open_source("stacked:mnist").class_names[999] == "9, 9, 9"
    assert open_source("stacked:fashion-mnist-10k").class_names[12] == "T-shirt/top, Trouser, Pullover"


def test_the_set_is_always_the_same(base):
    first, again = (open_source(base).read(5, 3) for _ in range(2))
    assert first.checksum == again.checksum
    assert first.images[0, 0, 0].tolist() == [44, 47, 0]  # of the frozen numbers of RandomState(0)


def test_other_numbers_of_classes(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((6, 5, 5), np.uint8), labels=[0, 1, 2, 0, 1, 2])
    source = open_source(f"stacked:{tmp_path / 'a.npz'}")
    assert len(source.class_names) == 27
    assert sorted(set(source.read(5, 3).labels.tolist())) == list(range(27))


def test_colour_is_made_grey_and_sizes_are_fitted(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.full((6, 28, 28, 3), 90, np.uint8), labels=[0, 1] * 3)
    image_set = open_source(f"stacked:{tmp_path / 'a.npz'}").read(32, 3)
    assert image_set.images.shape == (60_000, 32, 32, 3)
    assert (image_set.images[:, 2:30, 2:30] == 90).all()


def test_it_can_be_packed(base, tmp_path):
    pack(open_source(base), tmp_path / "out")
    ours, theirs = PackedSource(tmp_path / "out").read(5, 3), open_source(base).read(5, 3)
    assert torch.equal(ours.images, theirs.images)
    assert torch.equal(ours.labels, theirs.labels)
    assert ours.class_names == theirs.class_names


def test_the_fingerprint_is_that_of_the_base(base, tmp_path):
    before = open_source(base).fingerprint()
    assert before is not None
    assert before != open_source(tmp_path / "base.npz").fingerprint()
    np.savez(tmp_path / "base.npz", images=np.zeros((60, 5, 5), np.uint8), labels=np.arange(60) % 10)
    assert open_source(base).fingerprint() != before
    assert open_source("stacked:mnist").fingerprint() is None


def test_bad_images_of_the_base_are_named_or_left_out(tmp_path):
    for index in range(8):
        (tmp_path / "abc"[index % 2]).mkdir(exist_ok=True)
        path = tmp_path / "abc"[index % 2] / f"{index}.pgm"
        path.write_bytes(b"P5 5 5 255\n" + bytes([index] * 25) if index != 3 else b"broken")
    with pytest.raises(UserError, match=r"3\.pgm: "):
        open_source(f"stacked:{tmp_path}").read(5, 3)
    image_set = open_source(f"stacked:{tmp_path}").read(5, 3, skip_bad=True)
    assert [entry.partition(": ")[0][-5:] for entry in image_set.skipped] == ["3.pgm"]
    assert set(image_set.images.flatten().tolist()) == {0, 1, 2, 4, 5, 6, 7}


def test_what_cannot_be_stacked(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((6, 5, 5), np.uint8))
    with pytest.raises(UserError, match=r"a\.npy has no labels"):
        open_source(f"stacked:{tmp_path / 'a.npy'}")
    with pytest.raises(UserError, match="1000 classes give 1000000000 modes for 60000 images"):
        open_source("stacked:stacked:mnist")
    with pytest.raises(UserError, match="'mnits' .* did you mean 'mnist'"):
        open_source("stacked:mnits")


def test_names_of_classes_without_labels():
    source = open_source(np.zeros((6, 5, 5), np.uint8))
    source.class_names = ("a", "b")
    with pytest.raises(UserError, match="there are 2 class names, but its images do not have such labels"):
        stacked.StackedSource(source).prepare(False)
