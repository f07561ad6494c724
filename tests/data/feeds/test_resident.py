import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.data import ResidentFeed
from fastgan.data.feeds.order import epoch_order
from fastgan.errors import UserError


def numbered(num_images: int) -> torch.Tensor:
    return torch.arange(num_images, dtype=torch.uint8).reshape(-1, 1, 1, 1).repeat(1, 2, 4, 3)


def given_numbers(feed: ResidentFeed, num_batches: int) -> list[int]:
    return [number for _ in range(num_batches) for number in feed.next_batch().img[:, 0, 0, 0].tolist()]


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


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.lists(st.integers(1, 4), min_size=1, max_size=12), st.data())
def test_several_steps_reserved_at_once_read_the_same(num_images, turns, data):
    batch_size = data.draw(st.integers(1, max(1, num_images // 4)))
    feed, other = (ResidentFeed(numbered(num_images), batch_size, seed=2) for _ in range(2))
    for num_steps in turns:
        num_steps = min(num_steps, feed.max_steps)
        feed.reserve(num_steps)
        together = [feed.read().img for _ in range(num_steps)]
        feed.launched(num_steps)
        assert all(torch.equal(batch, other.next_batch().img) for batch in together)
    assert feed.nimg == other.nimg == batch_size * sum(min(num_steps, feed.max_steps) for num_steps in turns)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(0, 100), st.integers(1, 4), st.data())
def test_labels_are_those_of_the_images_and_a_reread_is_the_last_read(num_images, nimg, num_steps, data):
    batch_size = data.draw(st.integers(1, num_images))
    feed = ResidentFeed(numbered(num_images), batch_size, seed=4, labels=torch.arange(num_images) * 1000 - 7)
    feed.seek(nimg)
    num_steps = min(num_steps, feed.max_steps)
    feed.reserve(num_steps)
    for step in range(1, num_steps + 1):
        batch = feed.read()
        assert batch.labels.dtype == torch.int64
        assert torch.equal(batch.labels, batch.img[:, 0, 0, 0].long() * 1000 - 7)
        for _ in range(2):
            assert all(map(torch.equal, feed.reread().tensors(), batch.tensors()))
        assert feed.state()["position"] == nimg + step * batch_size
    feed.launched(num_steps)


def test_without_labels_there_are_none():
    feed = ResidentFeed(numbered(10), 4, seed=0)
    assert feed.next_batch().labels is None
    assert feed.reread().labels is None


@pytest.mark.parametrize(
    "labels", [torch.zeros(9, dtype=torch.int64), torch.zeros(10), torch.zeros(10, 1, dtype=torch.int64)]
)
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(UserError, match=r"one class number an image is needed: give int64 \[10\]"):
        ResidentFeed(numbered(10), 2, seed=0, labels=labels)


def test_reading_and_reading_again_can_be_compiled():
    feed, other = (ResidentFeed(numbered(20), 6, seed=0, labels=torch.arange(20)) for _ in range(2))
    read = torch.compile(lambda: (feed.read(), feed.read(), feed.reread()), backend="aot_eager", fullgraph=True)
    for _ in range(9):
        feed.reserve(2)
        batches = read()
        feed.launched(2)
        expected = [other.next_batch(), other.next_batch()]
        for batch, wanted in zip(batches, [*expected, expected[1]], strict=True):
            assert all(map(torch.equal, batch.tensors(), wanted.tensors()))


def test_state_put_back_in_place_gives_the_batches_again():
    feed = ResidentFeed(numbered(10), 4, seed=0)
    feed.next_batch()
    position = feed.state()["position"]
    before = position.clone()
    feed.reserve(2)
    batches = [feed.read().img, feed.read().img]
    position.copy_(before)
    assert torch.equal(feed.read().img, batches[0])
    assert torch.equal(feed.next_batch().img, batches[1])


def test_batches_are_channels_last_views_of_the_images():
    images = torch.randint(0, 256, (9, 4, 5, 3), dtype=torch.uint8)
    feed = ResidentFeed(images, 6, seed=0)
    batch = feed.next_batch().img
    assert batch.shape == (6, 3, 4, 5)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, images[epoch_order(9, 0, 0)[:6]].permute(0, 3, 1, 2))


def test_samples_that_are_not_images_are_given_as_they_are():
    samples = torch.randn(10, 1)
    batch = ResidentFeed(samples, 10, seed=3).next_batch().img
    assert batch.dtype == torch.float32
    assert torch.equal(batch.sort(0).values, samples.sort(0).values)


@pytest.mark.parametrize("batch_size", [0, -1, 11])
def test_a_batch_that_does_not_fit_is_refused(batch_size):
    with pytest.raises(UserError, match="choose one from 1 to 10"):
        ResidentFeed(numbered(10), batch_size, seed=0)


@pytest.mark.parametrize("shape", [(5,), (1, 6), (1, 2, 3, 4), (4, 5, 7)])
def test_series_volumes_and_images_of_any_channels_keep_values_and_order(shape):
    rows = torch.randn(9, *shape)
    batch = ResidentFeed(rows, 6, seed=0).next_batch().img
    wanted = rows[epoch_order(9, 0, 0)[:6]]
    assert torch.equal(batch, wanted.permute(0, 3, 1, 2) if len(shape) == 3 else wanted)


def test_labels_may_be_vectors():
    vectors = torch.rand(9, 4)
    batch = ResidentFeed(numbered(9), 6, seed=0, labels=vectors).next_batch()
    assert torch.equal(batch.labels, vectors[epoch_order(9, 0, 0)[:6]])
    with pytest.raises(UserError, match="one class number an image is needed"):
        ResidentFeed(numbered(9), 6, seed=0, labels=torch.rand(9))


def test_single_numbers_are_refused():
    with pytest.raises(UserError, match="cannot be fed"):
        ResidentFeed(torch.zeros(10), 2, seed=0)
