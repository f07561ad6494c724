"""The Frechet distance against closed forms and scipy.

Moments that come in batches are compared with those of all features at once.
"""
import numpy as np
import pytest
import torch

from fastgan.metrics.frechet import RunningMoments, frechet_distance, target

CPU = torch.device("cpu")


def moments(features: torch.Tensor, batch: int = 64) -> RunningMoments:
    running = RunningMoments(features.shape[1], CPU)
    for part in features.split(batch):
        running.add(part)
    return running


def correlated(num: int, num_features: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(num_features, num_features, generator=generator)
    return torch.randn(num, num_features, generator=generator) @ mixing + torch.randn(num_features, generator=generator)


def distance(x: torch.Tensor, y: torch.Tensor) -> float:
    return frechet_distance(target(moments(x)), moments(y))


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_batches_give_the_moments_of_all_at_once(batch, offset):
    features = correlated(100, 5, 0) + offset
    running = moments(features, batch)
    assert running.num == 100
    np.testing.assert_allclose(running.mean(), features.double().mean(0), rtol=1e-13)
    np.testing.assert_allclose(running.covariance(), np.cov(features.double().numpy().T), rtol=1e-8, atol=1e-8)


def test_the_distance_of_a_set_to_itself_is_0():
    x = correlated(200, 16, 1)
    assert abs(distance(x, x)) < 1e-9
    few = correlated(5, 16, 1)  # a covariance of rank 4
    assert abs(distance(few, few)) < 1e-4


def test_in_one_dimension_means_and_deviations_differ_by_themselves():
    x, y = torch.tensor([[-1.0], [1.0]]), torch.tensor([[7.0], [13.0]])  # standard deviations sqrt(2) and sqrt(18)
    assert distance(x, y) == pytest.approx(10**2 + (2**0.5 - 18**0.5) ** 2)


def test_a_shift_adds_its_square():
    x = correlated(300, 8, 2)
    shift = torch.arange(8.0)
    assert distance(x, x + shift) == pytest.approx(shift.square().sum().item(), rel=1e-5)


def test_it_is_symmetric_and_does_not_depend_on_the_basis():
    x, y = correlated(300, 8, 3), correlated(200, 8, 4)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(5)))[0]
    assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-9)
    assert distance(x, y) == pytest.approx(distance(x @ rotation, y @ rotation), rel=1e-4)


@pytest.mark.parametrize(("num_x", "num_y"), [(400, 300), (400, 20), (20, 300)])
def test_it_is_what_the_root_of_the_product_gives(num_x, num_y):
    linalg = pytest.importorskip("scipy.linalg")
    x, y = correlated(num_x, 32, 6), correlated(num_y, 32, 7)
    cov_x, cov_y = (np.cov(features.double().numpy().T) for features in (x, y))
    # Scipy's root of a singular product is wrong: the papers' code then adds this to the diagonals
    if min(num_x, num_y) <= 32:
        cov_x, cov_y = (covariance + 1e-6 * np.eye(32) for covariance in (cov_x, cov_y))
    between = (x.double().mean(0) - y.double().mean(0)).square().sum().item()
    expected = between + np.trace(cov_x + cov_y - 2 * linalg.sqrtm(cov_x @ cov_y).real)
    assert distance(x, y) == pytest.approx(expected, rel=1e-3 if min(num_x, num_y) <= 32 else 1e-9)


def test_a_collapsed_set_has_the_variance_of_the_other_as_distance():
    x = correlated(300, 8, 8)
    collapsed = x.mean(0, keepdim=True).expand(50, -1)
    assert distance(x, collapsed) == pytest.approx(moments(x).covariance().trace().item(), rel=1e-4)
