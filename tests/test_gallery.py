"""Samples of a run by class, and what is refused."""
import gans
import pytest
import torch

from fastgan import adapt
from fastgan.errors import UserError
from fastgan.gallery import Gallery


def gallery_of(preset: str) -> Gallery:
    config = gans.tiny_config(preset)
    networks, model = gans.tiny_networks(config), config.model
    signature = adapt.inspect(networks.G, networks.D, model.z_dim, config.run.batch_size, gans.CPU, model.c_dim)
    return Gallery(config, signature, networks, gans.FP32, (1, 16, 16))


def test_samples_are_of_all_classes_in_turn_or_of_those_asked_for():
    gallery = gallery_of("cgan")
    in_turn = gallery.samples(4, seed=0)
    assert torch.equal(in_turn, gallery.samples(4, 0, torch.tensor([0, 1, 2, 0])))
    assert torch.equal(gallery.samples(4, 0, 1), gallery.samples(4, 0, torch.tensor([1, 1, 1, 1])))
    assert torch.equal(in_turn[1], gallery.samples(4, 0, 1)[1])


@pytest.mark.parametrize("labels", [3, -1, torch.tensor([0, 1]), torch.tensor([0, 1, 2, 3]), torch.tensor([0.0, 1.0, 2.0, 0.0])], ids=str)
def test_classes_that_are_none(labels):
    with pytest.raises(UserError, match=r"c is one class, or int64 \[4\], from 0 to 2"):
        gallery_of("cgan").samples(4, 0, labels)


def test_without_classes_none_is_taken():
    with pytest.raises(UserError, match="trained without classes"):
        gallery_of("mlp").samples(4, 0, 1)
