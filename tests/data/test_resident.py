import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.data import ResidentFeed
from fastgan.data.resident import epoch_order
from fastgan.errors import UserError


def numbered(num_images: int) -> torch.Tensor:
    return torch.arange(num_images, dtype=torch.uint8).reshape(-1, 1, 1, 1).repeat(1, 2, 4, 3)


def given_numbers(feed: ResidentFeed, num_batches: int) -> list[int]:
    return [number for _ in range(num_batches) for number in feed.next_batch()[:, 0, 0, 0].tolist()]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.data())
def test_every_epoch_is_a_permutation_and_batches_may_straddle(num_images, data):
    batch_size = data.draw(st.integers(1, num_images))
    feed = ResidentFeed(numbered(num_images), batch_size, seed=data.draw(st.integers(-5, 2**63)))
    numbers = given_numbers(feed, 3 * num_images)
    for epoch in range(3 * batch_size):
        assert sorted(numbers[epoch * num_images:(epoch + 1) * num_images]) == list(range(num_images))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(0, 200), st.data())
def test_seek_gives_what_was_given_there(num_images, nimg, data):
    batch_size = data.draw(st.integers(1, num_images))
    feed = ResidentFeed(numbered(num_images), 1, seed=7)
    expected = given_numbers(feed, nimg + 3 * batch_size)[nimg:]
    other = ResidentFeed(numbered(num_images), batch_size, seed=7)
    given_numbers(other, data.draw(st.integers(0, 4)))
    other.seek(nimg)
    assert given_numbers(other, 3) == expected
    assert other.nimg == nimg + 3 * batch_size


def test_batches_are_channels_last_views_of_the_images():
    images = torch.randint(0, 256, (9, 4, 5, 3), dtype=torch.uint8)
    feed = ResidentFeed(images, 6, seed=0)
    batch = feed.next_batch()
    assert batch.shape == (6, 3, 4, 5)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, images[epoch_order(9, 0, 0)[:6]].permute(0, 3, 1, 2))


def test_samples_that_are_not_images_are_given_as_they_are():
    samples = torch.randn(10, 1)
    batch = ResidentFeed(samples, 10, seed=3).next_batch()
    assert batch.dtype == torch.float32
    assert torch.equal(batch.sort(0).values, samples.sort(0).values)


def test_orders_of_neighbouring_seeds_and_epochs_differ():
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(20) for epoch in range(20)}
    assert len(orders) == 400


def test_positions_are_uniform_over_seeds():
    first = torch.stack([epoch_order(4, seed, 1) for seed in range(2000)])[:, 0].bincount(minlength=4)
    assert ((first - 500).abs() < 100).all()  # 5 standard deviations


@pytest.mark.parametrize("batch_size", [0, -1, 11])
def test_a_batch_that_does_not_fit_is_refused(batch_size):
    with pytest.raises(UserError, match="choose one from 1 to 10"):
        ResidentFeed(numbered(10), batch_size, seed=0)


def test_other_shapes_are_refused():
    with pytest.raises(UserError, match="cannot be fed"):
        ResidentFeed(torch.zeros(10, 8, 8), 2, seed=0)
