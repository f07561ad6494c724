"""Networks by name."""
import dataclasses

import gans
import pytest
import torch

from fastgan import models
from fastgan.config import replace
from fastgan.config.presets import PRESETS
from fastgan.models import dcgan, mlp
from fastgan.nn import GaussianNoise
from fastgan.nn.layers import Head

KINDS = {"dcgan": (dcgan.Generator, dcgan.Discriminator), "mlp": (mlp.Generator, mlp.Discriminator),
         "samples": (mlp.SampleGenerator, mlp.SampleDiscriminator),
         "points": (mlp.PointGenerator, mlp.PointDiscriminator)}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_the_networks_of_an_architecture(name):
    model = gans.tiny_config(name).model
    G, D = models.build(model)
    if model.architecture in KINDS and not model.c_dim:
        assert (type(G), type(D)) == KINDS[model.architecture]
    for network in (G, D):
        assert all(
            parameter.dtype == torch.float32 and parameter.device.type == "cpu" for parameter in network.parameters()
        )
        assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_torchs_seed_decides_the_weights(name):
    model = gans.tiny_config(name).model

    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat(
            [parameter.detach().flatten() for network in models.build(model) for parameter in network.parameters()]
        )

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_sizes_come_from_the_configuration():
    model = replace(
        replace(gans.tiny_config("dcgan", model__z_dim=5), "model.img_channels", 3), "model.img_resolution", 32
    ).model
    G, D = models.build(model)
    assert G(torch.randn(2, 5)).shape == (2, 3, 32, 32)
    assert D(torch.randn(2, 3, 32, 32)).shape == (2,)
    assert G[-1][0].in_channels == model.ngf
    assert D[0][0].out_channels == model.ndf


NOISY = ["dcgan", "cgan", "mlp", "cgan-mlp", "gaussian1d", "ring8"]
LAYERS = (torch.nn.Linear, torch.nn.Conv2d, Head)


@pytest.mark.parametrize("name", NOISY)
def test_noise_is_on_the_inputs_of_all_layers_of_D_but_the_first(name):
    """Without training it changes nothing, and without noise there is no trace of it."""
    model = gans.tiny_config(name).model
    torch.manual_seed(0)
    plain = models.build(model)[1].eval()
    torch.manual_seed(0)
    noisy = models.build(dataclasses.replace(model, D_noise=0.1, D_noise_kimg=5.0))[1].eval()
    noises = [layer for layer in noisy.modules() if isinstance(layer, GaussianNoise)]
    assert len(noises) == sum(isinstance(layer, LAYERS) for layer in plain.modules()) - 1
    assert all((layer.std, layer.kimg) == (0.1, 5.0) for layer in noises)
    assert not any(isinstance(layer, GaussianNoise) for layer in plain.modules())
    state = gans.tiny_networks(gans.tiny_config(name))
    img = torch.rand(100, *state.img_shape)
    args = () if not model.c_dim else (torch.arange(100) % model.c_dim,)
    torch.testing.assert_close(noisy(img, *args).flatten(), plain(img, *args).flatten())
    assert not torch.allclose(noisy.train()(img, *args), noisy(img, *args))


@pytest.mark.parametrize("norm", ["none", "spectral", "instance"])
def test_noise_goes_with_any_normalisation_of_dcgan(norm):
    model = gans.tiny_config("dcgan", model__D_norm=norm, model__D_noise=0.1).model
    D = models.build(model)[1]
    assert isinstance(D.head[1], GaussianNoise)
    assert D(torch.rand(2, model.img_channels, 16, 16)).shape == (2,)
