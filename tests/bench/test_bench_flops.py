"""The useful work of a step, against counting by hand."""
import pytest
import torch

from fastgan.bench.flops import matmul, useful_flops
from fastgan.bench.step import gflop_per_step
from fastgan.bench.step_cases import make_case


def mlp_macs(z_dim, hidden, pixels):
    """Return the multiply-adds of one image.

    D on real, fake and fake again; G once; weight gradients of D for two passes, of G for one; the
    gradients between the layers.

    The end of D, a product with one column, is fused with the loss and not counted.
    """
    G, D = z_dim * hidden + hidden * pixels, pixels * hidden
    d_step = 2 * D + 2 * D
    g_step = G + D + D + G + hidden * pixels
    return d_step + g_step


def test_mlp():
    assert gflop_per_step(make_case("mlp", batch_size=4)) == pytest.approx(4 * 2 * mlp_macs(100, 256, 784) / 1e9)


def test_dcgan_wastes_no_gradients():
    # 2.275 GFLOP is the count with G's images reused and without D's weight gradients in G's step;
    # with the latter it is 2.482.
    assert gflop_per_step(make_case("dcgan", batch_size=2)) / 2 == pytest.approx(2.275, rel=1e-3)


def test_both_gradients_of_a_product_are_counted():
    weight = torch.randn(5, 7, requires_grad=True)
    x = torch.randn(3, 5, requires_grad=True)
    assert useful_flops(lambda: (x @ weight).sum().backward()) == 3 * 2 * 3 * 5 * 7


def test_every_gradient_of_a_grouped_convolution_has_the_products_of_the_convolution():
    x, weight = torch.randn(2, 6, 5, 4, requires_grad=True), torch.randn(9, 2, 3, 3, requires_grad=True)
    forward = 2 * 2 * 9 * 2 * 9 * 20  # both terms, images, filters, their channels, taps, pixels
    assert (
        useful_flops(lambda: torch.nn.functional.conv2d(x, weight, padding=1, groups=3).sum().backward()) == 3 * forward
    )


def test_a_network_whose_parameter_is_differentiated_by_is_counted():
    basis = torch.nn.Parameter(torch.randn(4, 4))
    layer = torch.nn.Linear(4, 4, bias=False)
    assert useful_flops(lambda: torch.autograd.grad(layer(basis).sum(), [basis, layer.weight])) == 3 * 2 * 64


def test_the_measured_product_is_the_counted_one(monkeypatch):
    monkeypatch.setattr("fastgan.bench.flops.MATMUL_SIZE", {"cpu": 32})
    call, flops = matmul(torch.float32, torch.device("cpu"))
    assert useful_flops(call) == flops
    assert call().isfinite().all()
