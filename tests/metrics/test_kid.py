"""The kernel distance against its definition, and its lack of bias.

It is also compared with the average over subsets that the papers take.
"""
import pytest
import torch

from fastgan.metrics import kid
from fastgan.metrics.kid import cross_similarity, kernel_distance, self_similarity


def features(num: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(num, 6, generator=torch.Generator().manual_seed(seed)) + shift


def by_definition(x: torch.Tensor, y: torch.Tensor) -> float:
    def mean(a, b, skip_equal):
        pairs = [
            ((u @ v) / 6 + 1) ** 3
            for i, u in enumerate(a.double())
            for j, v in enumerate(b.double())
            if not (skip_equal and i == j)
        ]
        return torch.stack(pairs).mean().item()
    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.parametrize("rows", [1, 3, 1024])
@pytest.mark.parametrize(("num_x", "num_y"), [(2, 2), (7, 5), (6, 12)])
def test_every_pair_counts_once(monkeypatch, rows, num_x, num_y):
    monkeypatch.setattr(kid, "_ROWS", rows)
    x, y = features(num_x, 0), features(num_y, 1, 0.5)
    assert kernel_distance(x, y) == pytest.approx(by_definition(x, y), rel=1e-5)
    assert kernel_distance(x, y, self_similarity(x)) == kernel_distance(x, y)
    assert cross_similarity(x, y) == pytest.approx(cross_similarity(y, x), rel=1e-6)


def test_it_is_unbiased():
    estimates = torch.tensor(
        [kernel_distance(features(10, 2 * seed), features(10, 2 * seed + 1)) for seed in range(400)]
    )
    assert abs(estimates.mean()) < 4 * estimates.std() / 20
    assert (estimates < 0).any()


def test_it_grows_with_the_shift():
    near, far = (kernel_distance(features(500, 0), features(500, 1, shift)) for shift in (0.1, 0.5))
    assert 0 < near < far


def test_the_average_over_subsets_tends_to_it():
    x, y = features(60, 3), features(60, 4, 0.3)
    generator = torch.Generator().manual_seed(0)
    estimates = torch.tensor([kernel_distance(x[torch.randperm(60, generator=generator)[:30]],
                                              y[torch.randperm(60, generator=generator)[:30]])
                              for _ in range(300)])  # fmt: skip
    assert abs(estimates.mean() - kernel_distance(x, y)) < 4 * estimates.std() / 300**0.5


def test_single_precision_is_precise_enough():
    x, y = (torch.rand(1500, 2048, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    # KIDs are reported to 1e-5
    assert kernel_distance(x, y) == pytest.approx(kernel_distance(x.double(), y.double()), abs=2e-6)
