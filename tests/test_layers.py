"""Blocks that several models share."""
import pytest
import torch
from torch import nn

from fastgan.layers import activation, dcgan_init, linear, linear_stack


@pytest.mark.parametrize(("name", "at_minus_one"), [("relu", 0.0), ("leaky_relu", -0.2), ("elu", torch.expm1(torch.tensor(-1.0)).item())])
def test_activations(name, at_minus_one):
    assert activation(name)(torch.tensor([-1.0, 0.0, 2.0])).tolist() == pytest.approx([at_minus_one, 0, 2])


def test_a_stack_has_an_activation_between_its_layers_and_none_behind():
    stack = linear_stack((3, 4, 5, 2), "relu", "torch")
    assert [type(layer) for layer in stack] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [tuple(layer.weight.shape) for layer in stack if isinstance(layer, nn.Linear)] == [(4, 3), (5, 4), (2, 5)]


def test_xavier_relu_weights():
    torch.manual_seed(0)
    layer = linear(200, 300, "xavier_relu")
    assert layer.weight.std().item() == pytest.approx(0.1, rel=0.02)  # 1 / sqrt(200 / 2)
    assert not layer.bias.any()


def test_torchs_own_weights_are_left_alone():
    torch.manual_seed(0)
    ours = linear(20, 30, "torch")
    torch.manual_seed(0)
    assert torch.equal(ours.weight, nn.Linear(20, 30).weight)
    assert ours.bias.any()


def test_dcgan_init_is_about_convolutions_and_batchnorm():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 64, 4), nn.BatchNorm2d(64), nn.Linear(4, 4))
    network[1].bias.data.fill_(1)
    before = network[2].weight.clone()
    dcgan_init(network)
    assert network[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert 0.01 < network[1].weight.std() < 0.03
    assert network[1].weight.mean().item() == pytest.approx(1, abs=0.02)
    assert not network[1].bias.any()
    assert torch.equal(network[2].weight, before)
