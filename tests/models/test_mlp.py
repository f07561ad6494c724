"""Fully connected networks for images and for samples."""
import math

import pytest
import torch
from model_checks import check_gradients_reach_every_parameter, check_one_graph, check_penalty
from torch import nn

from fastgan.models.mlp import (
    ConditionalDiscriminator,
    ConditionalGenerator,
    Discriminator,
    Generator,
    PointDiscriminator,
    PointGenerator,
    SampleDiscriminator,
    SampleGenerator,
)


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
    """The names are those of a stack with an activation at every second place.

    Older snapshots load.
    """
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
    """D gives one logit for each hundred samples, and no set sees another."""
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


class Classless(nn.Module):
    """A network as the checks call it, with a class, which it does not use."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, c: None) -> torch.Tensor:
        return self.network(x)


def conditional_pair(img_shape: tuple[int, int, int] = (1, 4, 4), c_dim: int = 3) -> tuple:
    """Make (G, D, z, c)."""
    torch.manual_seed(0)
    G, D = ConditionalGenerator(img_shape, 5, c_dim, (6, 8)), ConditionalDiscriminator(img_shape, c_dim, (7, 6))
    return G, D, torch.randn(4, 5), torch.tensor([0, 2, 1, 2]) % c_dim


@pytest.mark.parametrize("img_shape", [(1, 28, 28), (3, 5, 4), (1, 1, 1)])
@pytest.mark.parametrize("c_dim", [1, 10])
def test_images_and_logits_by_class(img_shape, c_dim):
    G, D, z, c = conditional_pair(img_shape, c_dim)
    img = G(z, c)
    assert img.shape == (4, *img_shape)
    assert -1 <= img.min() <= img.max() <= 1
    assert D(img, c).shape == (4,)


def test_the_class_changes_images_and_logits():
    G, D, z, c = conditional_pair()
    G.eval(), D.eval()
    img, other = G(z, c), (c + 1) % 3
    assert ((img - G(z, other)).abs().amax((1, 2, 3)) > 1e-3).all()
    assert ((D(img, c) - D(img, other)).abs() > 1e-5).all()


def test_the_sizes_of_the_conditional_recipe():
    """The widths for 28x28 digits of ten classes.

    An embedding of 10 beside z and pixels; BatchNorm behind all maps of G but the first and the
    last.
    """
    G, D = ConditionalGenerator((1, 28, 28), 100, 10), ConditionalDiscriminator((1, 28, 28), 10)
    norms = [module for module in G.modules() if isinstance(module, nn.BatchNorm1d)]
    assert [norm.num_features for norm in norms] == [256, 512, 1024]
    assert all(norm.eps == 1e-5 for norm in norms)
    assert sum(p.numel() for p in G.parameters()) == 100 + num_parameters(110, 128, 256, 512, 1024, 784) + 2 * (
        256 + 512 + 1024
    )
    assert sum(p.numel() for p in D.parameters()) == 100 + num_parameters(794, 512, 512, 512, 1)
    assert [module.p for module in D.modules() if isinstance(module, nn.Dropout)] == [0.4, 0.4]


def test_dropout_while_training_alone():
    _, D, z, c = conditional_pair()
    img = torch.randn(4, 1, 4, 4)
    assert not torch.equal(D(img, c), D(img, c))
    D.eval()
    assert torch.equal(D(img, c), D(img, c))


def test_every_parameter_of_the_conditional_pair_has_a_gradient():
    G, D, z, c = conditional_pair()
    check_gradients_reach_every_parameter(G, D.eval(), z, c)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu"])
def test_points_and_their_logits(activation):
    torch.manual_seed(0)
    G, D = PointGenerator(3, (8, 7), activation), PointDiscriminator((6, 5), activation)
    points = G(100 * torch.randn(9, 3))
    assert points.shape == (9, 2)
    assert points.abs().max() > 1
    logits = D(points)
    assert logits.shape == (9,)
    torch.testing.assert_close(D(points[3:4]), logits[3:4])
    assert torch.equal(D.head(D.features(points)), logits)
    assert sum(p.numel() for p in G.parameters()) == num_parameters(3, 8, 7, 2)
    assert sum(p.numel() for p in D.parameters()) == num_parameters(2, 6, 5, 1)
    check_gradients_reach_every_parameter(Classless(G), Classless(D), torch.randn(9, 3), None)


@pytest.mark.parametrize(
    ("make_D", "shape"),
    [
        (lambda: Classless(Discriminator((3, 4, 4), (8, 8, 8), "relu", "torch")), (3, 3, 4, 4)),
        (lambda: Classless(PointDiscriminator((8, 8), "elu")), (5, 2)),
        (lambda: ConditionalDiscriminator((1, 4, 4), 3, (7, 6)).eval(), (4, 1, 4, 4)),
    ],
)
def test_ds_can_be_penalised(make_D, shape):
    """The critics of WGAN-GP, without any normalisation."""
    torch.manual_seed(0)
    D, img = make_D(), torch.randn(shape)
    c = torch.tensor([0, 2, 1, 2]) if isinstance(D, ConditionalDiscriminator) else None
    check_penalty(D, img, c)
    D.eval()
    check_one_graph(D, img, c)
