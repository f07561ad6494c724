"""The augmentation of a run."""
import pytest
import torch

from fastgan.augment.pipeline import make_augmentation
from fastgan.config import AugmentConfig

CPU = torch.device("cpu")


def test_none_is_none():
    assert make_augmentation(AugmentConfig(), CPU, 1) is None


@pytest.mark.parametrize("num_parts", [1, 2, 4])
def test_p_moves_as_often_however_many_parts_a_batch_has(num_parts):
    """p moves every fourth step, by the signs of all the step's images.

    The signs of one part alone would move p more often, and with less certainty.
    """
    augmentation = make_augmentation(AugmentConfig("ada", target=0.6, ada_kimg=1.0), CPU, num_parts)
    logits, history = torch.tensor([1.0] * 7 + [-1.0]), []  # their mean sign is 3/4, that of their last quarter 0
    for _ in range(8):
        for part in logits.chunk(num_parts):
            augmentation.observed(part)
        history.append(augmentation.p.item())
    assert history == pytest.approx([0, 0, 0, 0.032, 0.032, 0.032, 0.032, 0.064])


@pytest.mark.parametrize(("changes", "expected"), [({"p": 0.2, "p_end": 0.5}, 0.2), ({"p": 0.3, "target": 0.0}, 0.3)])
def test_p_stays_where_it_follows_a_schedule_or_nothing(changes, expected):
    augmentation = make_augmentation(AugmentConfig("ada", ada_kimg=0.1, **changes), CPU, 1)
    for _ in range(8):
        statistics = augmentation.observed(torch.ones(4))
    assert statistics["augment_p"].item() == augmentation.p.item() == pytest.approx(expected)


def test_diff_augment_has_neither_p_nor_state():
    augmentation = make_augmentation(AugmentConfig("diff", "colour, cutout"), CPU, 1)
    assert (augmentation.num_uniforms, augmentation.p, augmentation.state(), augmentation.observed(torch.ones(2))) == (
        5,
        None,
        {},
        {},
    )
