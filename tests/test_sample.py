"""Noise, and images from a generator."""
import contextlib

import pytest
import torch
from torch import nn

from fastgan.sample import draw_z, evaluating, generate_chunks

CPU = torch.device("cpu")


def z_of(distribution: str, num: int = 20_000, z_shape=(3,), seed: int = 0) -> torch.Tensor:
    return draw_z(num, z_shape, distribution, torch.Generator().manual_seed(seed), CPU)


@pytest.mark.parametrize(
    ("distribution", "low", "high", "mean", "std"),
    [("normal", -7, 7, 0, 1), ("uniform", -1, 1, 0, 3**-0.5), ("unit_uniform", 0, 1, 0.5, 12**-0.5)],
)
def test_the_law_of_z(distribution, low, high, mean, std):
    z = z_of(distribution)
    assert z.dtype == torch.float32
    assert low <= z.min() < z.max() <= high
    assert z.mean().item() == pytest.approx(mean, abs=5 * std / z.numel() ** 0.5)  # five standard errors
    assert z.std().item() == pytest.approx(std, rel=5 / (2 * z.numel()) ** 0.5)


def test_z_has_the_shape_that_g_takes_and_the_seed_decides_it():
    assert z_of("normal", 5, (4, 1, 1)).shape == (5, 4, 1, 1)
    assert torch.equal(z_of("uniform", seed=3), z_of("uniform", seed=3))
    assert not torch.equal(z_of("uniform", seed=3), z_of("uniform", seed=4))


def test_images_are_made_in_evaluation_mode_a_few_at_a_time_and_in_order():
    sizes = []

    class G(nn.Module):
        def forward(self, z):
            assert not self.training
            assert not torch.is_grad_enabled()
            sizes.append(len(z))
            return z.double() * 2

    network, z = G(), torch.randn(10, 3)
    images = generate_chunks(network, z, contextlib.nullcontext, chunk=4)
    assert torch.equal(images, z * 2)
    assert images.dtype == torch.float32
    assert sizes == [4, 4, 2]
    assert network.training


def test_the_precision_is_the_callers():
    network = nn.Linear(4, 4)
    rounded = generate_chunks(network, torch.ones(2, 4) / 3, lambda: torch.autocast("cpu", torch.bfloat16))
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, rounded.bfloat16().float())


def test_every_module_gets_its_own_mode_back():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    network[1].eval()

    def look_and_fail():
        with evaluating(network):
            assert not any(module.training for module in network.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look_and_fail()
    assert [module.training for module in network.modules()] == [True, True, False, True]
