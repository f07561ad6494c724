import pytest
import torch

from fastgan.data import GaussianFeed
from fastgan.data.feeds.synthetic import GRID_STD, RING_STD, MixtureFeed, grid, ring
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
    expected = feed.next_batch().img.clone()
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


@pytest.mark.parametrize(
    "make",
    [lambda generator: GaussianFeed(4, 1, 16, generator), lambda generator: MixtureFeed(ring(), 0.1, 16, generator)],
)
def test_samples_stay_where_they_are_and_can_be_put_back(make):
    feed = make(seeded(5))
    assert not feed.reread().img.any()  # zeros before any read
    samples = feed.read().img.clone()
    (kept,) = feed.state().values()
    assert feed.read().img.data_ptr() == feed.reread().img.data_ptr() == kept.data_ptr()
    kept.copy_(samples)
    assert torch.equal(feed.reread().img, samples)


def test_the_modes_of_the_literature():
    assert ring().shape == (8, 2)
    torch.testing.assert_close(ring().norm(dim=1), torch.full((8,), 2.0))
    torch.testing.assert_close(ring()[[0, 2]], torch.tensor([[2.0, 0], [0, 2]]))
    distances = torch.cdist(ring(5, 3.0), ring(5, 3.0)).sort(1).values
    torch.testing.assert_close(distances, distances[:1].expand(5, 5))  # from each of them the others look the same
    assert sorted(map(tuple, grid().tolist())) == [(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)]
    assert sorted(map(tuple, grid(2, 1.0).tolist())) == [(-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)]
    assert grid(1).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("centres", "std"), [(ring(), RING_STD), (grid(), GRID_STD), (torch.tensor([[1.0, 5, -2]]), 0.5)]
)
def test_modes_are_equally_likely_and_have_the_deviation(centres, std):
    num = 40_000
    batch = MixtureFeed(centres, std, num, seeded(3)).next_batch()
    assert batch.labels is None
    assert (batch.img.shape, batch.img.dtype) == ((num, centres.shape[1]), torch.float32)
    distance, mode = torch.cdist(batch.img, centres).min(1)
    counts, expected = mode.bincount(minlength=len(centres)), num / len(centres)
    assert (counts - expected).abs().max() < 5 * expected**0.5
    within = batch.img - centres[mode]
    assert within.mean(0).abs().max() < 5 * std / num**0.5
    torch.testing.assert_close(within.std(0), torch.full((centres.shape[1],), std), rtol=0.02, atol=0)


def test_a_mixture_goes_on_from_the_state_of_the_generator():
    feed = MixtureFeed(ring(), RING_STD, 16, generator := seeded(5))
    state = generator.get_state()
    first, second = (feed.next_batch().img.clone() for _ in range(2))
    assert feed.nimg == 32
    assert not torch.equal(first, second)
    assert torch.equal(feed.reread().img, second)
    generator.set_state(state)
    assert torch.equal(feed.next_batch().img, first)


@pytest.mark.parametrize("centres", [torch.zeros(2), torch.zeros(0, 2), torch.zeros(2, 0), torch.zeros(1, 1, 1)])
def test_impossible_modes_are_refused(centres):
    with pytest.raises(UserError, match="those of no modes"):
        MixtureFeed(centres, 1, 4, seeded(0))
    with pytest.raises(UserError, match="std must be above 0"):
        MixtureFeed(ring(), 0, 4, seeded(0))


@pytest.mark.parametrize(("std", "batch_size"), [(0, 4), (-1, 4), (float("nan"), 4), (1, 0)])
def test_impossible_distributions_are_refused(std, batch_size):
    with pytest.raises(UserError, match="std must be above 0"):
        GaussianFeed(0, std, batch_size, seeded(0))
