import pytest
import torch

from fastgan.data import GaussianFeed
from fastgan.errors import UserError


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_samples_have_the_mean_and_the_deviation():
    samples = GaussianFeed(4, 1.25, 100_000, seeded(0)).next_batch().img
    assert samples.shape == (100_000, 1)
    assert samples.dtype == torch.float32
    assert abs(samples.mean() - 4) < 5 * 1.25 / 100_000**0.5
    assert abs(samples.std() - 1.25) < 5 * 1.25 / 200_000**0.5


def test_the_state_of_the_generator_is_the_position():
    feed = GaussianFeed(0, 1, 16, generator := seeded(5))
    feed.next_batch()
    state = generator.get_state()
    expected = feed.next_batch().img
    assert feed.nimg == 32
    generator.set_state(state)
    assert torch.equal(feed.next_batch().img, expected)


def test_a_reread_is_the_last_read_and_draws_nothing():
    feed = GaussianFeed(0, 1, 16, generator := seeded(5))
    for _ in range(3):
        batch = feed.next_batch()
        state = generator.get_state()
        assert torch.equal(feed.reread().img, batch.img)
        assert torch.equal(generator.get_state(), state)
        assert batch.labels is None


@pytest.mark.parametrize(("std", "batch_size"), [(0, 4), (-1, 4), (float("nan"), 4), (1, 0)])
def test_impossible_distributions_are_refused(std, batch_size):
    with pytest.raises(UserError, match="std must be above 0"):
        GaussianFeed(0, std, batch_size, seeded(0))
