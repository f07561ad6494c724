"""A folded convolution compared with the convolution and the BatchNorm that it replaces."""
import pytest
import torch
from torch.nn import functional

from fastgan.metrics.networks.convolutions import FoldedConv, folded_convolutions, linear, relu, relu6


@pytest.mark.parametrize("activation", [relu, relu6, linear])
@pytest.mark.parametrize("gamma", [1.0, "random"])
@pytest.mark.parametrize(
    ("kernel", "padding", "groups"), [(3, 1, 1), ((1, 7), (0, 3), 1), (3, (0, 1, 0, 1), 6), (1, 0, 1)]
)
def test_it_computes_the_same(activation, gamma, kernel, padding, groups):
    torch.manual_seed(0)
    conv = FoldedConv(6, 12, kernel, stride=2, padding=padding, groups=groups, activation=activation)
    weight, beta, mean, var = torch.randn_like(conv.weight), torch.randn(12), torch.randn(12), torch.rand(12) + 0.1
    gamma = torch.randn(12) if gamma == "random" else gamma
    conv.fold(weight, gamma, beta, mean, var, 1e-3)
    x = 3 * torch.randn(2, 6, 8, 9)
    padded = functional.pad(x, padding) if isinstance(padding, tuple) and len(padding) == 4 else x
    y = functional.conv2d(padded, weight, None, 2, 0 if padded is not x else padding, 1, groups)
    scale = gamma if isinstance(gamma, torch.Tensor) else torch.ones(12)
    expected = activation(functional.batch_norm(y, mean, var, scale, beta, False, 0.1, 1e-3))
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-4)


def test_they_are_found_in_the_order_of_making():
    inner = torch.nn.Sequential(FoldedConv(2, 3, 1), FoldedConv(3, 4, 1))
    network = torch.nn.Sequential(FoldedConv(1, 2, 1), inner, FoldedConv(4, 5, 1))
    assert [conv.weight.shape[0] for conv in folded_convolutions(network)] == [2, 3, 4, 5]
