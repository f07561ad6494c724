"""A snapshot measured from end to end, by the classifier of the embedded set."""
import dataclasses

import gans
import pytest
import torch

from fastgan import evaluation
from fastgan.data import ImageSet
from fastgan.errors import UserError
from fastgan.evaluation import Evaluation, evaluate_snapshot, image_maker
from fastgan.metrics.networks import classifier
from fastgan.run.folder import RunFolder

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(classifier, "_STEPS", 3)


def saved(folder, name: str):
    config = gans.tiny_config(name)
    return RunFolder(folder, config, resume_nimg=0).write_snapshot(gans.tiny_networks(config).weights(), 1000)


@pytest.fixture
def small_data(tmp_path):
    """Make a labelled set without a folder: 40 images of two classes in an npz."""
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16), np.uint8)
    np.savez(tmp_path / "small.npz", images=pixels, labels=np.arange(40) % 2)
    return str(tmp_path / "small.npz")


@pytest.mark.parametrize("name", ["dcgan", "mlp"])
def test_a_snapshot_is_measured(tmp_path, small_data, name):
    path = saved(tmp_path / "run", name)
    result = evaluate_snapshot(
        path, "fid20,kid20,pr20,dc20", small_data, "classifier", "cpu", batch_size=8, progress=False
    )
    assert list(result.numbers) == ["fd_classifier_20", "kd_classifier_20", "precision_classifier_20",
                                    "recall_classifier_20",
                                    "density_classifier_20", "coverage_classifier_20"]  # fmt: skip
    assert all(value == value for value in result.numbers.values())
    assert "singular" in result.describe()
    same = evaluate_snapshot(path.parent, "fid20", small_data, "classifier", "cpu", batch_size=8, progress=False)
    assert same.numbers["fd_classifier_20"] == result.numbers["fd_classifier_20"]
    other = evaluate_snapshot(path, "fid20", small_data, "classifier", "cpu", batch_size=8, seed=1, progress=False)
    assert other.numbers["fd_classifier_20"] != result.numbers["fd_classifier_20"]


def test_without_data_those_of_the_training_are_taken(tmp_path, monkeypatch):
    opened = []

    def noted(source, value_range):
        opened.append((source, value_range))
        raise UserError("enough")
    monkeypatch.setattr(evaluation, "open_source", noted)
    with pytest.raises(UserError, match="enough"):
        evaluate_snapshot(saved(tmp_path, "mlp"), "fid20")
    assert opened == [(gans.tiny_config("mlp").data.source, None)]


@pytest.mark.parametrize("name", ["gaussian1d", "ring8"])
def test_samples_of_a_density_are_no_images(tmp_path, name):
    with pytest.raises(UserError, match="generates samples of a density, not images"):
        evaluate_snapshot(saved(tmp_path, name), "fid20")


def test_the_result_as_lines():
    text = Evaluation({"fid5k": 12.3456789, "precision5k": 0.5}, ("few images",)).describe()
    assert text.splitlines() == ["fid5k        12.3457", "precision5k  0.5", "note: few images"]


class Conditional(torch.nn.Module):
    """Images that are as bright as the class asked for."""

    def forward(self, z, c):
        return (c / 4 * 2 - 1).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def test_a_conditional_generator_is_asked_for_the_classes_of_the_set():
    config = gans.tiny_config("cgan-mlp", model__c_dim=4)
    labels = torch.tensor([1, 1, 1, 3])
    real = ImageSet(torch.zeros(4, 2, 2, 1, dtype=torch.uint8), labels, None, "set")
    images, c = image_maker(Conditional(), config, real, 0, CPU)(400)
    assert images.dtype == torch.uint8
    assert images.shape == (400, 1, 2, 2)
    assert torch.equal(images[:, 0, 0, 0], (c / 4 * 255).round().to(torch.uint8))
    share = torch.bincount(c, minlength=4) / 400
    assert share[[0, 2]].eq(0).all()
    assert abs(share[1] - 0.75) < 0.1
    unlabelled = dataclasses.replace(real, labels=None)
    _, c = image_maker(Conditional(), config, unlabelled, 0, CPU)(400)
    assert torch.bincount(c, minlength=4).min() > 60


def test_an_unconditional_generator_is_asked_for_no_class():
    config = gans.tiny_config("mlp")
    G = gans.tiny_networks(config).G
    images, c = image_maker(G, config, None, 0, CPU)(3)
    assert c is None
    assert images.shape[0] == 3
