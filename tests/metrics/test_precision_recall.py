"""Precision, recall, density and coverage against their definitions.

Some cases use points whose neighbours can be counted by hand.
"""
import pytest
import torch

from fastgan.metrics import precision_recall
from fastgan.metrics.precision_recall import density_and_coverage, precision, squared_distances, squared_radii

LINE = torch.tensor([[0.0], [1.0], [3.0], [6.0], [10.0]])


@pytest.fixture(params=[1, 2, 1024], autouse=True)
def rows(request, monkeypatch):
    monkeypatch.setattr(precision_recall, "_ROWS", request.param)


def test_a_radius_reaches_to_the_kth_neighbour():
    assert squared_radii(LINE, 1).sqrt().tolist() == pytest.approx([1, 1, 2, 3, 4])
    assert squared_radii(LINE, 2).sqrt().tolist() == pytest.approx([3, 2, 3, 4, 7])
    assert squared_radii(LINE, 99).sqrt().tolist() == pytest.approx([10, 9, 7, 6, 10])


def test_equal_points_are_neighbours_at_no_distance():
    assert squared_radii(torch.full((4, 3), 7.0), 3).tolist() == [0, 0, 0, 0]


def test_shares_counted_by_hand():
    radii = squared_radii(LINE, 1)  # the balls are [-1, 1], [0, 2], [1, 5], [3, 9], [6, 14]
    fake = torch.tensor([[-0.5], [4.0], [15.0], [8.0]])
    assert precision(LINE, radii, fake) == 3 / 4
    assert density_and_coverage(LINE, radii, fake, 1) == pytest.approx(((1 + 2 + 0 + 2) / 4, 4 / 5))
    assert density_and_coverage(LINE, radii, fake, 5)[0] == pytest.approx(5 / (5 * 4))


def test_the_same_set_is_covered_and_a_distant_one_is_not():
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    radii = squared_radii(x, 3)
    assert precision(x, radii, x) == 1
    assert density_and_coverage(x, radii, x, 3)[1] == 1
    assert precision(x, radii, x + 100) == 0
    assert density_and_coverage(x, radii, x + 100, 3) == (0, 0)


def test_a_collapsed_generator_is_precise_but_covers_nothing():
    x = torch.randn(100, 4, generator=torch.Generator().manual_seed(1))
    collapsed = x[:1].expand(100, -1)
    assert precision(x, squared_radii(x, 3), collapsed) == 1
    assert precision(collapsed, squared_radii(collapsed, 3), x) <= 0.01  # recall: the one real image that it shows
    density, coverage = density_and_coverage(x, squared_radii(x, 5), collapsed, 5)
    assert coverage < 0.3


def test_by_definition():
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(23, 5, generator=generator), torch.randn(17, 5, generator=generator)
    radii = torch.cdist(x.double(), x.double()).sort(1).values[:, 3]
    inside = torch.cdist(y.double(), x.double()) <= radii
    ours = squared_radii(x, 3)
    assert precision(x, ours, y) == inside.any(1).double().mean()
    assert density_and_coverage(x, ours, y, 3) == pytest.approx(
        (inside.sum().item() / (3 * 17), inside.any(0).double().mean().item())
    )


def test_distances_far_from_0_are_not_lost():
    x = torch.randn(9, 16, generator=torch.Generator().manual_seed(3))
    expected = torch.cdist(x.double() + 1000, x.double() + 1000).square()
    torch.testing.assert_close(squared_distances(x + 1000, x + 1000).double(), expected, rtol=1e-3, atol=0.02)
