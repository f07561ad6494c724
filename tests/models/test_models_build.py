"""Networks by name."""
import gans
import pytest
import torch

from fastgan import models
from fastgan.config import replace
from fastgan.config.presets import PRESETS
from fastgan.models import dcgan, mlp

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
