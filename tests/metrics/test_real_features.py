"""Statistics of real images: right, and computed once for the same images, network and number."""
import numpy as np
import pytest
import torch

from fastgan.data import ImageSet
from fastgan.metrics.real_features import RealFeatures

torch.manual_seed(0)
IMAGES = torch.randint(0, 256, (20, 4, 6, 1), dtype=torch.uint8)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))


class Corners:
    """A network for these tests: two corners of an image."""

    num_features, name = 2, "corners"

    def __init__(self, identity="a"):
        self.identity, self.seen = identity, []

    def __call__(self, images):
        self.seen.append(len(images))
        return torch.stack([images[:, 0, 0, 0], images[:, 0, -1, -1]], 1).float()


def reals(network, images=IMAGES, batch_size=8, wanted=()):
    return RealFeatures(ImageSet(images, None, None, "set"), network, CPU, batch_size, wanted=wanted)


def test_all_images_are_seen_in_batches():
    network = Corners()
    features = reals(network).features(99)
    assert torch.equal(features, torch.stack([IMAGES[:, 0, 0, 0], IMAGES[:, -1, -1, 0]], 1).float())
    assert network.seen == [8, 8, 4]


def test_fewer_are_spread_over_the_set():
    features = reals(Corners()).features(3)
    assert torch.equal(features[:, 0], IMAGES[[0, 9, 19], 0, 0, 0].float())


def test_the_gaussian_is_that_of_the_features():
    real = reals(Corners())
    features, gaussian = real.features(20).double(), real.target(20)
    np.testing.assert_allclose(gaussian.mean, features.mean(0))
    np.testing.assert_allclose(gaussian.root @ gaussian.root, np.cov(features.numpy().T), rtol=1e-9)
    torch.testing.assert_close(gaussian.root, gaussian.root.T)


def test_features_that_are_wanted_anyhow_give_the_same_gaussian(monkeypatch, tmp_path):
    gaussian = reals(Corners()).target(10)
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "another"))
    torch.testing.assert_close(reals(Corners(), wanted=[10]).target(10).root, gaussian.root)


def test_a_wanted_number_costs_one_pass():
    network = Corners()
    real = reals(network, wanted=[99])
    real.target(20)
    real.features(20)
    assert sum(network.seen) == 20


def test_another_run_starts_from_what_was_kept():
    first, second = Corners(), Corners()
    for network in (first, second):
        real = reals(network)
        for _ in range(2):
            real.target(20)
            real.features(10)
    assert sum(first.seen) == 30
    assert second.seen == []


@pytest.mark.parametrize(("identity", "images", "num"), [
    ("b", IMAGES, 20), ("a", IMAGES + 1, 20), ("a", IMAGES.view(20, 6, 4, 1), 20), ("a", IMAGES, 19)])  # fmt: skip
def test_other_weights_images_shapes_and_numbers_are_others(identity, images, num):
    reals(Corners()).target(20)
    network = Corners(identity)
    reals(network, images).target(num)
    assert sum(network.seen) == num
