"""Batches cut out of a stream of other batches."""
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.data.feeds.feed import Batch
from fastgan.data.feeds.live import LiveFeed
from fastgan.errors import UserError

both = pytest.mark.parametrize("threaded", [False, True], ids=["inline", "threaded"])


class Counting:
    """A stream of batches of the given sizes, over and over; item n of the run holds n.

    An epoch is one turn through the sizes; a position is exact where `tells` is True.
    """

    def __init__(self, sizes: list[int], tells: bool = True, fails_at: int | None = None):
        self.sizes, self.tells, self.fails_at = sizes, tells, fails_at
        self.turn, self.began = 0, []

    def first_of(self, turn: int) -> int:
        epochs, rest = divmod(turn, len(self.sizes))
        return epochs * sum(self.sizes) + sum(self.sizes[:rest])

    def next_batch(self) -> tuple[dict, Batch]:
        turn, first = self.turn, self.first_of(self.turn)
        if turn == self.fails_at:
            raise UserError("the stream broke")
        self.turn += 1
        items = torch.arange(first, first + self.sizes[turn % len(self.sizes)])
        position = {"epoch": turn // len(self.sizes)} | ({"turn": turn} if self.tells else {})
        return position, Batch(items.float()[:, None, None, None].expand(-1, 1, 2, 3), 3 * items)

    def begin(self, position: dict) -> int:
        self.began.append(position)
        self.turn = position.get("turn", position["epoch"] * len(self.sizes))
        return position.get("skip", 0) if "turn" in position else 0

    def epoch_at(self, nimg: int) -> dict:
        return {"epoch": nimg // sum(self.sizes)}

    def said_of(self, position: dict) -> str | None:
        return None if "turn" in position else "begins again"


LIKE = Batch(torch.zeros(1, 2, 3), torch.zeros((), dtype=torch.int64))


def numbers(batch: Batch) -> list[int]:
    assert batch.img.shape[1:] == (3, 1, 2)
    found = batch.img[:, 0, 0, 0]
    assert torch.equal(batch.labels, 3 * found.long())
    return found.long().tolist()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(1, 9), st.booleans())
def test_no_item_is_lost_or_shown_twice(sizes, batch_size, threaded):
    feed = LiveFeed(Counting(sizes), LIKE, batch_size, max_steps=2, threaded=threaded)
    for turn in range(7):
        batch = feed.next_batch()
        assert numbers(batch) == list(range(turn * batch_size, (turn + 1) * batch_size))
    feed.close()


@both
@pytest.mark.parametrize("num_batches", [0, 1, 5, 9])
def test_an_exact_position_goes_on_in_another_process(threaded, num_batches):
    feed = LiveFeed(Counting([4, 3]), LIKE, 5, max_steps=2, threaded=threaded)
    for _ in range(num_batches):
        feed.next_batch()
    nimg, position = feed.nimg, feed.position()
    later = LiveFeed(Counting([4, 3]), LIKE, 5, max_steps=2, threaded=threaded)
    said = later.resume(nimg, position)
    assert said is None or num_batches == 0
    assert numbers(later.next_batch()) == list(range(nimg, nimg + 5))
    assert later.position() == (feed.next_batch(), feed.position())[1]
    for each in (feed, later):
        each.close()


@both
def test_a_stream_that_does_not_tell_begins_its_epoch_again(threaded):
    feed = LiveFeed(Counting([4, 3], tells=False), LIKE, 5, max_steps=2, threaded=threaded)
    for _ in range(4):
        feed.next_batch()
    assert feed.position()["epoch"] == 2
    later = LiveFeed(Counting([4, 3], tells=False), LIKE, 5, max_steps=2, threaded=threaded)
    assert later.resume(20, feed.position()) == "begins again"
    assert numbers(later.next_batch()) == [14, 15, 16, 17, 18]
    assert later.nimg == 25
    for each in (feed, later):
        each.close()


def test_positions_of_what_was_read_are_forgotten():
    feed = LiveFeed(Counting([2]), LIKE, 4, max_steps=2, threaded=False)
    for _ in range(50):
        feed.next_batch()
    assert len(feed._marks) <= 12


@pytest.mark.parametrize("waits", [True, False], ids=["reserve", "launched"])
def test_processes_are_started_in_the_training_thread(waits):
    class Starting(Counting):
        def __init__(self, sizes):
            super().__init__(sizes)
            self.threads = []

        def next_batch(self):
            if self.turn % 2 == 0 and self.turn:
                assert self.start(lambda: self.threads.append(threading.current_thread()) or 7) == 7
            return super().next_batch()

    stream = Starting([4])
    feed = LiveFeed(stream, LIKE, 4, max_steps=2 if waits else 1, threaded=True)
    for turn in range(9):
        assert numbers(feed.next_batch()) == list(range(4 * turn, 4 * turn + 4))
    assert len(stream.threads) >= 4
    assert set(stream.threads) == {threading.main_thread()}
    feed.close()


def test_what_cannot_be_started_ends_the_reserve_that_needs_it():
    class Starting(Counting):
        def next_batch(self):
            if self.turn == 1:
                self.start(lambda: 1 / 0)
            return super().next_batch()

    feed = LiveFeed(Starting([4]), LIKE, 4, max_steps=1, threaded=True)
    feed.next_batch()
    with pytest.raises(ZeroDivisionError):
        feed.next_batch()
    feed.close()


def test_a_seek_or_the_end_does_not_wait_for_what_was_asked():
    class Starting(Counting):
        is_asking = threading.Event()

        def next_batch(self):
            if self.turn == 2:
                self.is_asking.set()
                self.start(lambda: None)
            return super().next_batch()

    feed = LiveFeed(Starting([4]), LIKE, 4, max_steps=2, threaded=True)
    for _ in range(2):
        assert Starting.is_asking.wait(30)
        Starting.is_asking.clear()
        feed.seek(4)  # in the first epoch of one batch
    assert numbers(feed.next_batch()) == [4, 5, 6, 7]
    feed.close()


@both
def test_an_error_of_the_stream_ends_the_reserve_that_needs_the_batch(threaded):
    feed = LiveFeed(Counting([4], fails_at=2), LIKE, 4, max_steps=1, threaded=threaded)
    assert numbers(feed.next_batch()) == [0, 1, 2, 3]
    feed.next_batch()
    with pytest.raises(UserError, match="the stream broke"):
        feed.next_batch()
    feed.close()


def test_a_thread_reads_ahead_while_nothing_is_asked_for():
    class Watched(Counting):
        is_ahead = threading.Event()

        def next_batch(self):
            if self.turn == 3:
                self.is_ahead.set()
            return super().next_batch()

    feed = LiveFeed(Watched([4]), LIKE, 4, max_steps=2, threaded=True)
    assert Watched.is_ahead.wait(30)
    feed.close()


def test_fields_keep_their_dtypes_and_lie_in_place():
    class Fields(Counting):
        def next_batch(self):
            position, batch = super().next_batch()
            return position, Batch(None, fields={"cond": batch.labels.double()[:, None], "c": batch.labels})

    like = Batch(None, fields={"cond": torch.zeros(1, dtype=torch.float64), "c": torch.zeros((), dtype=torch.int64)})
    feed = LiveFeed(Fields([4, 3]), like, 5, max_steps=2, threaded=False)
    feed.reserve(2)
    first, second = feed.read().fields, feed.read().fields
    assert (first["cond"].dtype, first["c"].dtype) == (torch.float64, torch.int64)
    assert first["c"].tolist() == [0, 3, 6, 9, 12]
    assert second["cond"].tolist() == [[15], [18], [21], [24], [27]]
    assert torch.equal(feed.reread().fields["c"], second["c"])
