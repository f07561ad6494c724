"""The classifier that is trained on the spot."""
import pytest
import torch

from fastgan.metrics.networks import classifier
from fastgan.metrics.networks.classifier import Labelled, trained_classifier

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(classifier, "_STEPS", 40)
    monkeypatch.setattr(classifier, "_BATCH", 32)


def bars(num: int, channels: int = 1, side: int = 16) -> Labelled:
    """Make three classes: a bright bar on top, in the middle, at the bottom; elsewhere noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (num,), generator=generator)
    images = torch.randint(0, 100, (num, channels, side, side), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, label * side // 3:(label + 1) * side // 3] += 120
    return Labelled(images, labels, f"bars {num} {channels} {side}")


@pytest.mark.parametrize(("channels", "side"), [(1, 16), (3, 32), (1, 70)])
def test_it_learns_the_classes(channels, side):
    labelled = bars(300, channels, side)
    trained = trained_classifier(labelled, CPU)
    assert trained.accuracy > 0.95
    assert (trained.classify(labelled.images) == labelled.labels).double().mean() > 0.95
    features = trained(labelled.images[:5])
    assert features.shape == (5, trained.num_features)
    assert features.dtype == torch.float32


def test_it_is_trained_once(monkeypatch):
    first = trained_classifier(bars(100), CPU)
    monkeypatch.setattr(classifier, "_train", lambda *_: pytest.fail("trained again"))
    second = trained_classifier(bars(100), CPU)
    assert first.identity == second.identity
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("progress", [False, True])
def test_the_wait_is_said_where_bars_are_wanted(capsys, progress):
    trained_classifier(bars(100), CPU, progress)
    assert ("training a small classifier" in capsys.readouterr().err) == progress


def test_other_labels_make_another_one():
    labelled = bars(100)
    others = Labelled(labelled.images, 2 - labelled.labels, labelled.checksum)
    first, second = trained_classifier(labelled, CPU), trained_classifier(others, CPU)
    assert first.identity != second.identity
    assert (second.classify(labelled.images) == others.labels).double().mean() > 0.8


def test_training_leaves_the_generator_of_the_process_alone():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    trained_classifier(bars(60), CPU)
    assert torch.equal(torch.randn(3), expected)


def test_it_trains_where_gradients_are_off():
    with torch.no_grad():
        assert trained_classifier(bars(300), CPU).accuracy > 0.9


def test_few_images_do():
    assert trained_classifier(bars(3), CPU).classify(bars(3).images).shape == (3,)
