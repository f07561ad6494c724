"""Uniform numbers turned into others."""
import pytest
import torch

from fastgan.augment.draws import between, integers, normals, per_image

EDGES = torch.tensor([0.0, 1 - 2**-24])  # the smallest and the largest number that torch.rand gives


@pytest.mark.parametrize("count", [1, 2, 4, 17, 65])
def test_integers_cover_their_range_evenly_and_stay_in_it(count):
    evenly = (torch.arange(count * 100) + 0.5) / (count * 100)
    assert torch.equal(integers(evenly, count).bincount(), torch.full((count,), 100))
    assert integers(EDGES, count).tolist() == [0, count - 1]


def test_between():
    torch.testing.assert_close(between(torch.tensor([0.0, 0.5, 1.0]), -3.0, 1.0), torch.tensor([-3.0, -1.0, 1.0]))


def test_normals_are_the_quantiles_of_the_normal_distribution():
    evenly = (torch.arange(1, 1000, dtype=torch.float64) / 1000).float()
    expected = torch.distributions.Normal(0.0, 1.0).icdf(evenly)
    torch.testing.assert_close(normals(evenly), expected, rtol=1e-4, atol=1e-5)
    assert normals(torch.tensor(0.5)).item() == 0


def test_normals_are_finite_at_the_edges():
    assert torch.isfinite(normals(EDGES)).all()
    assert normals(EDGES).abs().min() > 4.5


def test_per_image_has_one_value_for_each_image():
    assert per_image(torch.arange(3.0)).shape == (3, 1, 1, 1)
