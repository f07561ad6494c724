"""Penalties against their closed forms.

The critics have input gradients that are known everywhere, and numpy works out the matrices.
"""
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.gan import penalties

SHAPES = [(3, 2), (5, 1, 4, 4), (1, 3, 2, 6)]


def probe_like(img: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(img, requires_grad=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_slope_of_a_linear_critic_is_its_weight(shape):
    torch.manual_seed(0)
    img, weight, bias = (
        torch.randn(shape),
        torch.randn(shape[1:], requires_grad=True),
        torch.randn((), requires_grad=True),
    )
    grad_probe = probe_like(img)
    gradient = penalties.input_gradient(((img + grad_probe) * weight).flatten(1).sum(1) + bias, grad_probe)
    torch.testing.assert_close(gradient, weight.detach().expand(shape))

    squared, norm = weight.detach().square().sum(), weight.detach().norm()
    torch.testing.assert_close(penalties.squared_norms(gradient), squared.expand(shape[0]))
    torch.testing.assert_close(
        penalties.gradient_penalty(gradient), (norm - 1).square().expand(shape[0]), rtol=1e-5, atol=1e-6
    )

    # d |w|^2 / dw = 2 w; d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|: the gradient has a graph.
    (of_r1,) = torch.autograd.grad(penalties.squared_norms(gradient).mean(), weight, retain_graph=True)
    (of_gp,) = torch.autograd.grad(penalties.gradient_penalty(gradient).mean(), weight)
    torch.testing.assert_close(of_r1, 2 * weight.detach())
    torch.testing.assert_close(of_gp, 2 * (norm - 1) * weight.detach() / norm, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_slope_of_a_quadratic_critic_is_the_image(shape):
    """D(x) = a |x|^2 / 2 has the input gradient a x and R1 a^2 |x|^2.

    The derivative of R1 by a is 2 a |x|^2; every image has its own.
    """
    torch.manual_seed(1)
    img, a = torch.randn(shape), torch.tensor(1.7, requires_grad=True)
    grad_probe = probe_like(img)
    gradient = penalties.input_gradient(a * (img + grad_probe).square().flatten(1).sum(1) / 2, grad_probe)
    torch.testing.assert_close(gradient, 1.7 * img)
    squared = img.square().flatten(1).sum(1)
    torch.testing.assert_close(penalties.squared_norms(gradient), 1.7**2 * squared)
    torch.testing.assert_close(
        penalties.gradient_penalty(gradient), (1.7 * squared.sqrt() - 1).square(), rtol=1e-4, atol=1e-6
    )
    (by_a,) = torch.autograd.grad(penalties.squared_norms(gradient).sum(), a)
    torch.testing.assert_close(by_a, 2 * 1.7 * squared.sum())


def test_a_map_of_logits_has_the_slope_of_its_sum():
    img, grad_probe = torch.randn(4, 3), torch.zeros(4, 3, requires_grad=True)
    weights = torch.randn(3, 5)
    torch.testing.assert_close(
        penalties.input_gradient((img + grad_probe) @ weights, grad_probe), weights.sum(1).expand(4, 3)
    )


def test_the_slope_is_float32_in_whatever_the_critic_computes():
    img, grad_probe = torch.randn(4, 3), torch.zeros(4, 3, requires_grad=True)
    gradient = penalties.input_gradient(((img + grad_probe).bfloat16() * 3).sum(1), grad_probe)
    assert gradient.dtype == torch.float32
    assert torch.equal(gradient, torch.full((4, 3), 3.0))


def test_a_critic_of_constant_output_has_a_finite_penalty():
    """The root has no derivative at 0: the penalty is 1 there, and its gradient 0, not NaN."""
    gradient = torch.zeros(3, 2, requires_grad=True)
    value = penalties.gradient_penalty(gradient)
    torch.testing.assert_close(value, torch.ones(3), rtol=0, atol=1e-5)
    assert torch.equal(torch.autograd.grad(value.sum(), gradient)[0], torch.zeros(3, 2))


def test_points_between_real_and_fake():
    real, fake = torch.zeros(3, 2, 2, 2), torch.ones(3, 2, 2, 2)
    points = penalties.interpolate(real, fake, torch.tensor([0.0, 0.25, 1.0]).view(3, 1, 1, 1))
    assert points.flatten(1).unique(dim=1).tolist() == [[0.0], [0.25], [1.0]]  # one place for all pixels of an image
    assert penalties.interpolate(real, fake.bfloat16(), torch.rand(3, 1, 1, 1)).dtype == torch.float32
    flat = penalties.interpolate(torch.zeros(2, 3), torch.full((2, 3), 8.0), torch.tensor([[0.5], [0.125]]))
    assert flat[:, 0].tolist() == [4.0, 1.0]


@pytest.mark.parametrize("num_ws", [1, 3])
def test_path_lengths_of_a_linear_synthesis(num_ws):
    """The path length of img = sum over layers of A_l w_l does not depend on w.

    It is the root of the mean over layers of |A_l^T y|^2.
    """
    torch.manual_seed(2)
    maps, y = torch.randn(num_ws, 12, 5), torch.randn(4, 12)
    ws = torch.randn(4, num_ws, 5, requires_grad=True)
    img = torch.einsum("lpd,nld->np", maps, ws)
    (gradient,) = torch.autograd.grad((img * y).sum(), ws, create_graph=True)
    pulled_back = np.einsum("lpd,np->nld", maps.numpy(), y.numpy())
    expected = np.sqrt((pulled_back**2).sum(2).mean(1))
    np.testing.assert_allclose(penalties.path_lengths(gradient).detach().numpy(), expected, rtol=1e-5)


def test_path_lengths_where_nothing_moves_are_zero_with_a_gradient():
    gradient = torch.zeros(2, 3, 4, requires_grad=True)
    lengths = penalties.path_lengths(gradient)
    torch.testing.assert_close(lengths, torch.zeros(2), rtol=0, atol=1e-5)
    assert torch.isfinite(torch.autograd.grad(lengths.sum(), gradient)[0]).all()


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=3),
    st.integers(0, 100),
)
def test_orthogonality_is_numpys(shapes, seed):
    torch.manual_seed(seed)
    weights = [torch.randn(rows, columns, size, size) for rows, columns, size in shapes]
    expected = 0.0
    for weight in weights:
        matrix = weight.double().numpy().reshape(len(weight), -1)
        products = matrix @ matrix.T
        expected += ((products * (1 - np.eye(len(products)))) ** 2).sum()
    ours = penalties.orthogonality([*weights, torch.randn(7), torch.randn(())])  # vectors have no filters
    assert ours.shape == ()
    assert ours.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_orthogonal_filters_cost_nothing_and_their_lengths_are_free():
    rotation = torch.linalg.qr(torch.randn(4, 4))[0]
    assert penalties.orthogonality([3 * rotation]).item() == pytest.approx(0, abs=1e-9)
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    value = penalties.orthogonality([weight])
    assert value.item() == 2 * 11**2  # two products of 1 * 3 + 2 * 4
    # d / dW of 2 (w1 . w2)^2 is 4 (w1 . w2) (w2, w1).
    assert torch.autograd.grad(value, weight)[0].tolist() == [[4 * 11 * 3, 4 * 11 * 4], [4 * 11 * 1, 4 * 11 * 2]]


def test_orthogonality_of_nothing_but_vectors_is_zero():
    assert penalties.orthogonality([torch.randn(3)]).item() == 0


def test_clipping_is_in_place_and_of_every_weight():
    weights = [torch.tensor([-1.0, -0.01, 0.003, 0.02], requires_grad=True), torch.full((2, 1, 2, 2), math.inf)]
    places = [weight.data_ptr() for weight in weights]
    penalties.clip(weights, 0.01)
    assert torch.equal(weights[0], torch.tensor([-0.01, -0.01, 0.003, 0.01]))
    assert torch.equal(weights[1], torch.full((2, 1, 2, 2), 0.01))
    assert [weight.data_ptr() for weight in weights] == places
