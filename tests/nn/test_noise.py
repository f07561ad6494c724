"""Gaussian noise between layers: while training alone, of the given size, and annealed in the step."""
import gans
import pytest
import torch

from fastgan.gan.step import update
from fastgan.nn import GaussianNoise


def test_noise_is_added_while_training_alone():
    torch.manual_seed(0)
    layer, x = GaussianNoise(0.5), torch.full((64, 100), 3.0)
    noise = layer(x) - x
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(0.5, rel=0.03)
    assert not torch.equal(layer(x) - x, noise)
    assert torch.equal(layer.eval()(x), x)


def test_the_scale_and_the_dtype_are_kept():
    layer, x = GaussianNoise(0.5), torch.zeros(1000, dtype=torch.bfloat16)
    layer.scale.fill_(0.1)
    assert layer(x).dtype == torch.bfloat16
    assert layer(x).float().std().item() == pytest.approx(0.05, rel=0.2)


def test_the_gradient_passes_through():
    x = torch.ones(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(GaussianNoise(1.0)(x).sum(), x)
    assert torch.equal(gradient, torch.ones(3))


def test_the_step_anneals_the_noise():
    config = gans.tiny_config("mlp", model__D_noise=0.3, model__D_noise_kimg=0.032)
    state, inputs = gans.tiny_networks(config), gans.random_inputs(config)
    layers = [layer for layer in state.D.modules() if isinstance(layer, GaussianNoise)]
    scales = []
    for _ in range(6):
        update(state, inputs)
        scales.append(layers[0].scale.item())
    assert scales == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0], abs=1e-6)
    assert all(layer.scale.item() == 0 for layer in layers)


def test_constant_noise_stays():
    config = gans.tiny_config("mlp", model__D_noise=0.3)
    state = gans.tiny_networks(config)
    update(state, gans.random_inputs(config))
    assert not state.counts_images
    assert all(layer.scale.item() == 1 for layer in state.D.modules() if isinstance(layer, GaussianNoise))


def test_a_D_with_noise_runs_on_real_and_fake_images_separately():
    assert gans.tiny_networks(gans.tiny_config("mlp")).one_pass
    assert not gans.tiny_networks(gans.tiny_config("mlp", model__D_noise=0.3)).one_pass
