"""Which size images get, and which feed goes with which data."""
import numpy as np
import pytest
import torch

from fastgan.adapt import Signature
from fastgan.config import replace
from fastgan.data import GaussianFeed, ResidentFeed, open_source
from fastgan.errors import UserError
from fastgan.feeds import fit_to_data, open_feed
from fastgan.presets import preset

CPU = torch.device("cpu")


def images(num=6, side=16, channels=1, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, (num, side, side, channels)).astype(dtype)


def signature(*img_shape: int) -> Signature:
    return Signature((4,), img_shape, True, ())


def feed_for(data, *img_shape: int, batch_size: int = 4):
    config = replace(replace(preset("mlp"), "run.batch_size", batch_size), "run.seed", 7)
    return open_feed(data, signature(*img_shape), config, torch.Generator(CPU), progress=False)


@pytest.mark.parametrize(
    ("native", "dcgan", "mlp"),
    [(2, 16, 2), (16, 16, 16), (23, 16, 23), (24, 32, 24), (28, 32, 28), (40, 32, 40), (48, 64, 48), (64, 64, 64), (300, 64, 64)],
)
def test_images_get_their_own_size_as_far_as_the_networks_have_it(native, dcgan, mlp):
    source = open_source(images(side=native))
    assert fit_to_data(preset("dcgan"), source).model.img_resolution == dcgan
    assert fit_to_data(preset("mlp"), source).model.img_resolution == mlp


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_come_from_the_data(channels):
    assert fit_to_data(preset("dcgan"), open_source(images(channels=channels))).model.img_channels == channels


def test_what_was_asked_for_goes_before_the_data():
    config = replace(replace(preset("dcgan"), "model.img_resolution", 128), "model.img_channels", 3)
    assert fit_to_data(config, open_source(images())) == config
    assert fit_to_data(preset("gaussian1d"), None) == preset("gaussian1d")


@pytest.mark.parametrize(
    ("img_shape", "data_channels", "expected"),
    [
        ((1, 16, 16), 1, (16, 16, 1)),
        ((3, 16, 16), 1, (16, 16, 3)),
        ((1, 8, 8), 3, (8, 8, 1)),
        ((784,), 1, (28, 28, 1)),
        ((784,), 3, (28, 28, 1)),
        ((3072,), 3, (32, 32, 3)),
        ((3072,), 1, (32, 32, 3)),
        ((192,), 3, (8, 8, 3)),
    ],
)
def test_images_are_brought_to_the_shape_that_g_makes(img_shape, data_channels, expected):
    feed, image_set = feed_for(images(side=40, channels=data_channels), *img_shape)
    assert tuple(image_set.images.shape[1:]) == expected
    height, width, channels = expected
    batch = feed.next_batch()
    assert batch.shape == (4, channels, height, width)
    assert batch.dtype == torch.uint8


@pytest.mark.parametrize("img_shape", [(1, 16, 8), (2, 16, 16), (10,), (7, 7)])
def test_images_that_nothing_can_be_brought_to(img_shape):
    with pytest.raises(UserError, match="square images of 1 or 3 channels"):
        feed_for(images(), *img_shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, np.float32, np.float64])
def test_rows_of_floats_are_samples(dtype):
    samples = torch.randn(9, 3).to(dtype) if isinstance(dtype, torch.dtype) else np.random.default_rng(0).normal(size=(9, 3)).astype(dtype)
    feed, image_set = feed_for(samples, 3)
    assert isinstance(feed, ResidentFeed)
    assert image_set is None
    batch = feed.next_batch()
    assert batch.dtype == torch.float32
    rows = {tuple(row) for row in torch.as_tensor(samples, dtype=torch.float32).tolist()}
    assert {tuple(row) for row in batch.tolist()} <= rows


def test_samples_of_another_length_than_g_makes():
    with pytest.raises(UserError, match=r"samples of 3 features, but G makes \[2\]"):
        feed_for(torch.randn(9, 3), 2)


def test_the_gaussian_of_the_configuration():
    feed, image_set = open_feed(None, signature(1), preset("gaussian1d"), torch.Generator(CPU))
    assert isinstance(feed, GaussianFeed)
    assert image_set is None
    samples = torch.cat([feed.next_batch() for _ in range(200)])
    assert samples.mean().item() == pytest.approx(4, abs=5 * 1.25 / 20_000**0.5)
    assert samples.std().item() == pytest.approx(1.25, abs=0.05)


@pytest.mark.parametrize("data", [None, 3, {"images": 1}])
def test_no_data_is_not_taken_for_a_gaussian(data):
    with pytest.raises(UserError, match="give a name, a path, an array"):
        feed_for(data, 1, 16, 16)


def test_a_file_object_is_not_taken_for_a_source(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    with open(tmp_path / "x", "rb") as file, pytest.raises(UserError, match="give a name, a path"):
        feed_for(file, 1, 16, 16)


def test_a_batch_larger_than_the_set():
    assert feed_for(images(6), 1, 16, 16, batch_size=6)
    with pytest.raises(UserError, match="batch_size 7 does not fit a set of 6 images"):
        feed_for(images(6), 1, 16, 16, batch_size=7)


def test_an_opened_source_and_the_order_of_the_seed():
    ours, _ = feed_for(open_source(images()), 1, 16, 16)
    theirs, _ = feed_for(images(), 1, 16, 16)
    assert torch.equal(ours.next_batch(), theirs.next_batch())


def test_a_bar_is_shown_only_where_it_is_wanted(capsys):
    open_feed(images(), signature(1, 16, 16), replace(preset("mlp"), "run.batch_size", 4), torch.Generator(CPU), progress=False)
    assert capsys.readouterr() == ("", "")
    open_feed(images(), signature(1, 16, 16), replace(preset("mlp"), "run.batch_size", 4), torch.Generator(CPU))
    assert "6/6" in capsys.readouterr().err
