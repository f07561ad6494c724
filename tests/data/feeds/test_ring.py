"""The ring, filled in the training thread and in a thread of its own.

Its feeds number their images.
"""
import gc
import subprocess
import sys
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.data.feeds.feed import Batch
from fastgan.data.feeds.ring import RingFeed
from fastgan.errors import UserError

both = pytest.mark.parametrize("threaded", [False, True], ids=["inline", "threaded"])


class Numbered(RingFeed):
    """A feed in which image number n of the run is filled with n % 256 and has label 3 n.

    on_fill: takes the first number of the batch that is filled next.
    """

    def __init__(self, batch_size: int = 2, max_steps: int = 3, threaded: bool = False, on_fill=lambda nimg: None,
                 has_labels: bool = True):
        self.on_fill = on_fill
        super().__init__((1, 2, 1), batch_size, "cpu", max_steps, threaded, has_labels)
        self.seek(0)

    def _fill(self, target: Batch, slot: int, nimg: int) -> None:
        assert target.img.data_ptr() == self._slots[slot].img.data_ptr()
        self.on_fill(nimg)
        images = torch.arange(nimg, nimg + self.batch_size)
        target.img.copy_((images % 256).view(-1, 1, 1, 1).expand(target.img.shape))
        if target.labels is not None:
            target.labels.copy_(3 * images)


@pytest.fixture
def feeds():
    """Make feeds, and close them after the test."""
    made = []

    def make(**options) -> Numbered:
        made.append(Numbered(**options))
        return made[-1]
    yield make
    for feed in made:
        feed.close()


def numbers(batch: Batch) -> list[int]:
    """Return the numbers, modulo 256, of a batch's images; check that its labels are theirs."""
    found = batch.img[:, 0, 0, 0]
    assert (batch.img == found.view(-1, 1, 1, 1)).all()
    assert batch.labels is None or torch.equal(batch.labels // 3 % 256, found.long())
    return found.tolist()


def wait_until_full(feed: Numbered) -> None:
    """Wait until the thread has filled every slot that is free."""
    ledger = feed._ledger
    with ledger._changed:
        assert ledger._changed.wait_for(lambda: ledger.num_filled == ledger.num_read + len(feed._slots), timeout=30)


@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.integers(1, 5), st.integers(1, 4),
       st.lists(st.tuples(st.integers(0, 200), st.lists(st.integers(1, 4), max_size=8)), max_size=4))
def test_batches_follow_each_other_from_any_position(threaded, batch_size, max_steps, travels):
    feed = Numbered(batch_size, max_steps, threaded)
    for start, turns in [(0, [1]), *travels]:
        feed.seek(start)
        nimg = start
        for num_steps in (min(num, max_steps) for num in turns):
            feed.reserve(num_steps)
            for _ in range(num_steps):
                batch = feed.read()
                assert numbers(batch) == [number % 256 for number in range(nimg, nimg + batch_size)]
                assert batch.labels.tolist() == list(range(3 * nimg, 3 * (nimg + batch_size), 3))
                assert all(map(torch.equal, feed.reread().tensors(), batch.tensors()))
                nimg += batch_size
            feed.launched(num_steps)
            assert feed.nimg == feed.state()["position"] == nimg
    feed.close()


@both
def test_batches_stay_until_their_steps_are_launched_however_often_they_are_read(feeds, threaded):
    feed = feeds(threaded=threaded)
    feed.next_batch()
    position = feed.state()["position"]
    before = position.clone()
    for _ in range(4):
        feed.reserve(3)
        if threaded:
            wait_until_full(feed)
        assert [numbers(feed.read()) for _ in range(3)] == [[2, 3], [4, 5], [6, 7]]
        position.copy_(before)
    assert numbers(feed.next_batch()) == [2, 3]


@both
def test_without_labels_there_are_none(feeds, threaded):
    feed = feeds(threaded=threaded, has_labels=False)
    assert numbers(feed.next_batch()) == [0, 1]
    assert feed.next_batch().labels is None
    assert feed.reread().labels is None


@both
def test_a_reread_before_any_read_gives_a_label_that_is_there(feeds, threaded):
    gate = threading.Event()
    feed = feeds(threaded=threaded, on_fill=lambda nimg: gate.wait(30))
    assert feed.reread().labels.tolist() == [0, 0]
    gate.set()


@both
def test_memory_stays_where_it_is(feeds, threaded):
    feed = feeds(threaded=threaded)
    addresses = [
        tensor.data_ptr()
        for tensor in (feed._window.rows, feed._window.order, feed._window.labels, feed.state()["position"])
    ]
    feed.next_batch()
    feed.seek(5)
    feed.next_batch()
    assert [
        tensor.data_ptr()
        for tensor in (feed._window.rows, feed._window.order, feed._window.labels, feed.state()["position"])
    ] == addresses


def test_a_thread_fills_what_is_free_and_no_more(feeds):
    filled = []
    feed = feeds(max_steps=2, threaded=True, on_fill=filled.append)
    wait_until_full(feed)
    assert filled == [0, 2, 4, 6]
    feed.reserve(2)
    feed.launched(2)
    wait_until_full(feed)
    assert filled == [0, 2, 4, 6, 8, 10]


def test_without_a_thread_only_what_is_reserved_is_filled(feeds):
    filled = []
    feed = feeds(on_fill=filled.append)
    assert filled == []
    feed.reserve(2)
    feed.reserve(2)
    assert filled == [0, 2]
    assert not feed._thread.is_alive()


def test_a_seek_while_a_batch_is_filled_forgets_the_batch(feeds):
    at_the_gate, gate = threading.Event(), threading.Event()

    def stop_at_the_first(nimg: int) -> None:
        if nimg == 0:
            at_the_gate.set()
            assert gate.wait(30)
    feed = feeds(threaded=True, on_fill=stop_at_the_first)
    assert at_the_gate.wait(30)
    feed.seek(101)
    gate.set()
    assert numbers(feed.next_batch()) == [101, 102]
    assert numbers(feed.next_batch()) == [103, 104]


def fail_at(bad: int):
    def check(nimg: int) -> None:
        if nimg == bad:
            raise UserError(f"image {bad} is bad")
    return check


@both
def test_an_error_reaches_the_reserve_that_needs_the_batch(feeds, threaded):
    feed = feeds(threaded=threaded, on_fill=fail_at(4))
    assert [numbers(feed.next_batch()) for _ in range(2)] == [[0, 1], [2, 3]]
    for _ in range(2):
        with pytest.raises(UserError, match="image 4 is bad"):
            feed.reserve(1)
    feed.seek(6)
    assert numbers(feed.next_batch()) == [6, 7]


@both
def test_more_steps_than_the_ring_has_room_for_are_refused(feeds, threaded):
    with pytest.raises(AssertionError, match="more steps than max_steps"):
        feeds(threaded=threaded).reserve(4)


def test_time_is_lost_only_where_a_batch_was_not_there(feeds):
    feed = feeds(threaded=True)
    wait_until_full(feed)
    feed.next_batch()
    assert feed.stall_s == 0
    gate = threading.Event()
    slow = feeds(threaded=True, on_fill=lambda nimg: gate.wait(30))
    threading.Timer(0.05, gate.set).start()
    slow.next_batch()
    assert slow.stall_s > 0


@pytest.mark.parametrize("ending", ["close", "forget"])
def test_the_thread_ends_with_the_feed(ending):
    feed = Numbered(threaded=True)
    thread = feed._thread
    wait_until_full(feed)  # so that the thread waits for room
    if ending == "close":
        feed.close()
        feed.close()
        with pytest.raises(RuntimeError, match="closed"):
            [feed.next_batch() for _ in range(7)]
    del feed
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()


def test_closing_waits_for_the_batch_that_is_being_filled():
    at_the_gate, gate = threading.Event(), threading.Event()
    feed = Numbered(threaded=True, on_fill=lambda nimg: (at_the_gate.set(), gate.wait(30)))
    assert at_the_gate.wait(30)
    threading.Timer(0.05, gate.set).start()
    feed.close()
    assert gate.is_set()
    assert not feed._thread.is_alive()


def test_a_feed_that_is_forgotten_while_its_thread_fills_it():
    at_the_gate, gate = threading.Event(), threading.Event()
    feed = Numbered(threaded=True, on_fill=lambda nimg: (at_the_gate.set(), gate.wait(30)))
    thread = feed._thread
    assert at_the_gate.wait(30)
    del feed
    gate.set()
    thread.join(30)
    assert not thread.is_alive()


def test_the_interpreter_ends_with_a_feed_that_nobody_closed():
    code = ("import torch; from fastgan.data.feeds.stream import StreamFeed\n"
            "feed = StreamFeed(torch.zeros(9, 2, 2, 1, dtype=torch.uint8), 4, 0, threaded=True); feed.next_batch(); "
            "print('done')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
