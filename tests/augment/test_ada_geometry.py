"""ADA's maps: which transforms happen, how often and how far."""
import math

import pytest
import torch

from fastgan.augment.ada_geometry import NUM_BLIT, NUM_GEOMETRY, blitted, deformed
from fastgan.augment.affine import identity_map

NUM = 20000
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def uniform():
    return torch.rand(NUM, NUM_BLIT + NUM_GEOMETRY, generator=torch.Generator().manual_seed(1))


def share(happens):
    return happens.float().mean().item()


@pytest.mark.parametrize("draw", [blitted, deformed])
def test_nothing_happens_with_probability_zero(draw, uniform):
    numbers = uniform[:, : NUM_BLIT if draw is blitted else NUM_GEOMETRY]
    for ours, identity in zip(
        draw(identity_map(NUM, CPU), numbers, torch.tensor(0.0), 24, 40), identity_map(NUM, CPU), strict=True
    ):
        assert torch.equal(ours, identity)


@pytest.mark.parametrize("p", [0.4, 1.0])
def test_blits_take_pixels_to_pixels_and_happen_with_their_probabilities(p, uniform):
    affine = blitted(identity_map(NUM, CPU), uniform[:, :NUM_BLIT], torch.tensor(p), 24, 24)
    assert all(torch.equal(value, value.round()) for value in affine)
    assert torch.equal(affine.xx.abs() + affine.xy.abs(), torch.ones(NUM))
    assert share(affine.xx * affine.yy - affine.xy * affine.yx < 0) == pytest.approx(p / 2, abs=0.02)  # mirrored
    assert share(affine.xx == 0) == pytest.approx(p / 2, abs=0.02)  # turned by one or three quarters
    assert torch.stack([affine.x0, affine.y0]).abs().max() == 3
    assert share(affine.x0 != 0) == pytest.approx(p * 5 / 6, abs=0.02)  # U(-3, 3) rounds to 0 once in six


def test_images_that_are_not_square_are_turned_by_halves(uniform):
    affine = blitted(identity_map(NUM, CPU), uniform[:, :NUM_BLIT], torch.tensor(1.0), 24, 25)
    assert torch.equal(affine.xy, torch.zeros(NUM))
    assert share(affine.yy < 0) == pytest.approx(0.5, abs=0.02)


def test_the_magnitudes_of_the_deformations(uniform):
    affine = deformed(identity_map(NUM, CPU), uniform[:, -NUM_GEOMETRY:], torch.tensor(1.0), 24, 48)
    linear = torch.stack([affine.xx, affine.xy, affine.yx, affine.yy], 1).view(NUM, 2, 2)
    area, (long, short) = torch.linalg.det(linear), torch.linalg.svdvals(linear).T
    # An image is scaled by s and stretched by t: the area changes by 1 / s**2, the sides differ by
    # max(t, 1 / t)**2
    assert area.log2().std().item() == pytest.approx(2 * 0.2, rel=0.03)
    assert (long / short).log2().square().mean().sqrt().item() == pytest.approx(2 * 0.2, rel=0.03)
    moved = -torch.linalg.solve(linear, torch.stack([affine.x0, affine.y0], 1))  # the new place of the image's centre
    assert moved.std(0).tolist() == pytest.approx([6, 3], rel=0.03)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_an_image_is_turned_at_all_with_probability_p(p, uniform):
    numbers = uniform[:, -NUM_GEOMETRY:].clone()
    numbers[:, [0, 4, 8]] = 1.0  # neither scaled nor stretched nor moved
    affine = deformed(identity_map(NUM, CPU), numbers, torch.tensor(p), 24, 24)
    assert share(affine.xy != 0) == pytest.approx(p, abs=0.015)
    angle = torch.atan2(affine.xy, affine.xx)[affine.xy != 0]
    assert p == 0 or angle.abs().mean().item() == pytest.approx(math.pi / 2, rel=0.03)
