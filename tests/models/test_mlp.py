"""Fully connected networks for images and for samples."""
import math

import pytest
import torch

from fastgan.models.mlp import Discriminator, Generator, SampleDiscriminator, SampleGenerator


def num_parameters(*widths: int) -> int:
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True))


@pytest.mark.parametrize("img_shape", [(1, 28, 28), (3, 5, 5), (1, 1, 1)])
@pytest.mark.parametrize("hidden", [(), (6,), (6, 7)])
def test_images_and_logits(img_shape, hidden):
    torch.manual_seed(0)
    G = Generator(img_shape, 4, hidden, "relu", "torch", tanh=True)
    D = Discriminator(img_shape, hidden, "leaky_relu", "torch")
    img = G(torch.randn(3, 4))
    assert img.shape == (3, *img_shape)
    assert D(img).shape == (3,)
    assert sum(p.numel() for p in G.parameters()) == num_parameters(4, *hidden, math.prod(img_shape))
    assert sum(p.numel() for p in D.parameters()) == num_parameters(math.prod(img_shape), *hidden, 1)


def test_ds_parameters_keep_their_names():
    """Those of a stack with an activation at every second place: older snapshots load."""
    for D in (Discriminator((1, 4, 4), (5, 6), "relu", "torch"), SampleDiscriminator((5, 6), "elu")):
        assert list(D.state_dict()) == [f"layers.{i}.{name}" for i in (0, 2, 4) for name in ("weight", "bias")]


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu"])
def test_d_is_its_features_and_its_head(activation):
    torch.manual_seed(0)
    Ds = Discriminator((1, 4, 4), (5,), activation, "torch"), SampleDiscriminator((5,), activation)
    for D, x in zip(Ds, (torch.randn(3, 1, 4, 4), torch.randn(300, 1)), strict=True):
        features = D.features(x)
        assert features.shape == (3, 5)
        assert torch.equal(D(x), D.head(features))
        assert D.head.slope == {"relu": 0.0, "leaky_relu": 0.2, "elu": 1.0}[activation]


@pytest.mark.parametrize(("tanh", "low"), [(True, -1), (False, 0)])
def test_the_range_of_the_pixels(tanh, low):
    torch.manual_seed(0)
    G = Generator((1, 8, 8), 4, (16,), "relu", "torch", tanh)
    img = G(1000 * torch.randn(64, 4))
    assert img.min() == low
    assert img.max() == 1


def test_d_reads_any_memory_format():
    torch.manual_seed(0)
    D = Discriminator((3, 4, 4), (5,), "relu", "torch")
    img = torch.randn(2, 3, 4, 4)
    assert torch.equal(D(img.to(memory_format=torch.channels_last)), D(img))


def test_samples_are_unbounded():
    torch.manual_seed(0)
    G = SampleGenerator(1, (8, 8), "elu")
    assert G(torch.tensor([[0.0], [1e4]])).shape == (2, 1)
    assert G(torch.tensor([[-1e4], [1e4]])).abs().max() > 100


def test_a_set_is_judged_whatever_its_order_of_deviations():
    """One logit for each hundred samples, and no set sees another."""
    torch.manual_seed(0)
    D = SampleDiscriminator((8,), "elu")
    samples = torch.randn(300, 1)
    logits = D(samples)
    assert logits.shape == (3,)
    changed = samples.clone()
    changed[100:200] += 1
    assert torch.equal(D(changed) == logits, torch.tensor([True, False, True]))


def test_the_set_is_read_beside_its_squared_deviations():
    D = SampleDiscriminator((), "elu")
    (linear,) = D.layers
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[0, 100:] = 1 / 100
        linear.bias.zero_()
    samples = torch.randn(200, 1) * torch.tensor([[3.0]]) + 5
    assert torch.allclose(D(samples), samples.view(2, 100).var(1, unbiased=False), rtol=1e-5)
