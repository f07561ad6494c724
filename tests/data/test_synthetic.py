import pytest
import torch

from fastgan.data import GaussianFeed
from fastgan.errors import UserError


def test_samples_have_the_mean_and_the_deviation():
    samples = GaussianFeed(4, 1.25, 100_000, seed=0).next_batch()
    assert samples.shape == (100_000, 1)
    assert samples.dtype == torch.float32
    assert abs(samples.mean() - 4) < 5 * 1.25 / 100_000**0.5
    assert abs(samples.std() - 1.25) < 5 * 1.25 / 200_000**0.5


def test_seek_gives_the_same_bits():
    feed = GaussianFeed(0, 1, 16, seed=5)
    batches = [feed.next_batch() for _ in range(5)]
    assert feed.nimg == 80
    feed.seek(32)
    assert torch.equal(feed.next_batch(), batches[2])
    fresh = GaussianFeed(0, 1, 16, seed=5)
    fresh.seek(64)
    assert torch.equal(fresh.next_batch(), batches[4])


def test_no_two_batches_share_a_number():
    feed = GaussianFeed(0, 1, 64, seed=1)
    other = GaussianFeed(0, 1, 64, seed=2)
    samples = torch.cat([feed.next_batch() for _ in range(50)] + [other.next_batch() for _ in range(50)]).double()
    assert len(samples.unique()) > 6390  # float32 repeats now and then by chance
    neighbours = samples[:3200].reshape(50, 64)
    assert abs((neighbours[1:] * neighbours[:-1]).mean()) < 5 / (49 * 64)**0.5


@pytest.mark.parametrize(("std", "batch_size"), [(0, 4), (-1, 4), (float("nan"), 4), (1, 0)])
def test_impossible_distributions_are_refused(std, batch_size):
    with pytest.raises(UserError, match="std must be above 0"):
        GaussianFeed(0, std, batch_size, seed=0)
