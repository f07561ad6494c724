"""A training of own networks whose layers were replaced, beside the same one of torch's layers."""
import copy

import numpy as np
import pytest
import torch
from torch import nn

from fastgan import Trainer
from fastgan.nn.convolutions import ConvTranspose2d
from fastgan.ops.dispatch import autotune


@pytest.fixture(autouse=True)
def references(monkeypatch):
    """Use the reference operators; which implementations run is tested elsewhere."""
    monkeypatch.setattr(autotune, "_is_fixed", False)
    monkeypatch.setattr(autotune, "_fastest", lambda *args: autotune.Times(autotune.REFERENCE, {}, {}))


class Generator(nn.Module):
    """As people write it."""

    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(6, 16, 4, 1, 0, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
            nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(True),
            nn.ConvTranspose2d(8, 1, 4, 2, 1, bias=False), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.main(z)


class Discriminator(nn.Module):
    """As people write it."""

    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, 8, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(16, 1, 4, 1, 0, bias=False), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, img: torch.Tensor) -> torch.Tensor:
        return self.main(img).view(-1)


def trainer(G: nn.Module, D: nn.Module, **options) -> Trainer:
    images = np.random.default_rng(0).integers(0, 256, (32, 16, 16), dtype=np.uint8)
    options = {"compile": False, "amp": False, "optimizer": "rmsprop", "lr": 1e-4, **options}
    return Trainer(copy.deepcopy(G), copy.deepcopy(D), images, batch_size=8, progress=False, **options)


@pytest.mark.parametrize("options", [{}, {"gp_weight": 1.0, "loss": "wasserstein"}], ids=["cross-entropy", "penalty"])
def test_it_trains_as_the_networks_of_torch_do_up_to_rounding(options):
    torch.manual_seed(0)
    G, D = Generator(), Discriminator()
    ours, theirs = trainer(G, D, **options), trainer(G, D, accelerate=False, **options)
    assert type(ours.state.G.main[0]) is ConvTranspose2d
    assert type(theirs.state.G.main[0]) is nn.ConvTranspose2d
    for each in (ours, theirs):
        each.fit(steps=4)
    for name in ("G", "D"):
        networks = getattr(ours.state, name).state_dict(), getattr(theirs.state, name).state_dict()
        assert list(networks[0]) == list(networks[1])
        for key, value in networks[0].items():
            torch.testing.assert_close(value, networks[1][key], rtol=1e-3, atol=1e-4, msg=f"{name}.{key} differs")


def test_it_says_which_layers_were_replaced():
    D = Discriminator()
    D.main[2] = nn.utils.parametrizations.spectral_norm(D.main[2])
    notes = trainer(Generator(), D).notes
    assert "of G, 5 layers run fused operators (2 BatchNorm2d, 3 ConvTranspose2d)" in notes
    assert (
        "of D, 3 layers run fused operators (1 BatchNorm2d, 2 Conv2d); 1 are left to torch "
        "(main.2: its weight is parametrized)" in notes
    )
    assert not [note for note in trainer(Generator(), D, accelerate=False).notes if "layers run" in note]


def test_a_discriminator_with_batch_norm_sees_real_and_fake_in_one_pass():
    """Each half has statistics of its own, as in two passes."""
    assert trainer(Generator(), Discriminator()).state.one_pass
    assert not trainer(Generator(), Discriminator(), accelerate=False).state.one_pass
