"""Modes counted by hand."""
import math

import pytest
import torch

from fastgan.metrics.modes import class_accuracy, kl_divergence, mixture_coverage, mode_coverage, stacked_digits

CENTRES = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def test_within_three_deviations_is_of_high_quality():
    samples = torch.tensor([[0.0, 2.99], [0.0, 3.01], [10.0, -1.0], [7.9, 7.9], [7.8, 7.8]])
    coverage = mixture_coverage(samples, CENTRES, std=1.0)
    assert coverage["modes"] == 3
    assert coverage["high_quality"] == 3 / 5
    # By the nearest centre: 2, 1, 0, 2
    assert coverage["kl"] == pytest.approx(2 * 0.4 * math.log(0.4 * 4) + 0.2 * math.log(0.2 * 4))


def test_a_mode_may_need_more_samples():
    samples = CENTRES[[0, 0, 1]]
    assert mixture_coverage(samples, CENTRES, 1.0)["modes"] == 2
    assert mixture_coverage(samples, CENTRES, 1.0, min_samples=2)["modes"] == 1


def test_the_mixture_itself_covers_everything():
    generator = torch.Generator().manual_seed(0)
    samples = CENTRES[torch.randint(4, (20_000,), generator=generator)] + torch.randn(20_000, 2, generator=generator)
    coverage = mixture_coverage(samples, CENTRES, 1.0)
    assert coverage["modes"] == 4
    assert coverage["high_quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.003)
    assert 0 <= coverage["kl"] < 1e-3


def test_one_mode_alone():
    coverage = mixture_coverage(CENTRES[[2] * 9], CENTRES, 0.1)
    assert coverage == {"modes": 1, "high_quality": 1, "kl": pytest.approx(math.log(4))}


def test_a_diverged_generator_covers_nothing():
    samples = torch.tensor([[float("nan"), 0.0], [float("inf"), 0.0]])
    assert mixture_coverage(samples, CENTRES, 1.0) == {"modes": 0, "high_quality": 0, "kl": float("inf")}
    half = mixture_coverage(torch.cat([samples, CENTRES[:2]]), CENTRES, 1.0)
    assert (half["modes"], half["high_quality"]) == (2, 0.5)


def test_digits_are_stacked_in_the_order_of_the_channels():
    images = torch.tensor([[3, 1, 4], [0, 0, 0], [9, 9, 9]], dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 2, 2)
    assert stacked_digits(images, lambda grey: grey[:, 0, 0, 0].long()).tolist() == [314, 0, 999]


def test_modes_beside_the_real_ones():
    share = torch.tensor([0.5, 0.25, 0.25, 0.0])
    assert mode_coverage(torch.tensor([0, 0, 1, 2]), share) == {"modes": 3, "kl": 0}
    assert mode_coverage(torch.tensor([1, 1]), share) == {"modes": 1, "kl": pytest.approx(math.log(4))}
    assert mode_coverage(torch.tensor([3, 0]), share)["kl"] == float("inf")


def test_the_divergence_of_counts():
    assert kl_divergence(torch.tensor([0, 0]), torch.tensor([0.5, 0.5])) == float("inf")
    assert kl_divergence(torch.tensor([3, 3]), torch.tensor([0.5, 0.5])) == 0
    assert kl_divergence(torch.tensor([1, 3]), torch.tensor([0.5, 0.5])) == pytest.approx(
        0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    )


def test_the_share_of_each_class():
    accuracy, per_class = class_accuracy(torch.tensor([0, 0, 1, 1, 1, 3]), torch.tensor([0, 1, 1, 1, 0, 3]), 4)
    assert accuracy == pytest.approx(4 / 6)
    assert per_class[[0, 1, 3]].tolist() == pytest.approx([1 / 2, 2 / 3, 1])
    assert per_class[2].isnan()
