"""The order that SlotStream's events force on two streams of a simulated device.

Each stream runs as far ahead as it may.
"""
import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.data.feeds.cuda_streams import SideStream, SlotStream


class PlayedStream:
    """A queue of work; `num_done` of it is done."""

    def __init__(self, device: str = "played"):
        self.device, self.work, self.num_done = device, [], 0

    def launch(self, run, is_ready=lambda: True) -> None:
        self.work.append((is_ready, run))

    def wait_event(self, event: "PlayedEvent") -> None:
        self.launch(lambda: None, event.is_done_now())

    def run(self) -> bool:
        """Run as far as possible; return True if any work was done."""
        started_at = self.num_done
        while self.advance():
            pass
        return self.num_done > started_at

    def advance(self) -> bool:
        """Do the next piece of work, if there is one and it need not wait."""
        if self.num_done == len(self.work) or not self.work[self.num_done][0]():
            return False
        self.work[self.num_done][1]()
        self.num_done += 1
        return True


class PlayedEvent:
    """A simulated CUDA event: waiting for it means waiting for its last record at that time."""

    def __init__(self, blocking: bool = False):
        self._record = lambda: True

    def record(self, stream: PlayedStream) -> None:
        place = len(stream.work)
        self._record = lambda: stream.num_done >= place

    def is_done_now(self):
        return self._record

    def query(self) -> bool:
        return self._record()

    def synchronize(self) -> None:
        while not self._record():
            assert any([stream.advance() for stream in Played.streams]), "the host waits for ever"


class Played:
    """A simulation of the parts of torch.cuda that SlotStream uses."""

    streams: list[PlayedStream] = []

    def __init__(self):
        self.main = self.current = PlayedStream()
        Played.streams = [self.main]

    def make_stream(self, device) -> PlayedStream:
        Played.streams.append(PlayedStream(device))
        return Played.streams[-1]

    @contextlib.contextmanager
    def stream(self, stream: PlayedStream):
        self.current, before = stream, self.current
        yield
        self.current = before


@pytest.fixture(scope="module")
def patched():
    """Return a function that puts a fresh device in the place of torch.cuda's."""
    with pytest.MonkeyPatch.context() as patch:
        def fresh() -> Played:
            played = Played()
            patch.setattr(torch.cuda, "Stream", played.make_stream)
            patch.setattr(torch.cuda, "Event", PlayedEvent)
            patch.setattr(torch.cuda, "stream", played.stream)
            patch.setattr(torch.cuda, "current_stream", lambda device=None: played.current)
            return played
        yield fresh


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.sampled_from(["fill", "fill", "launch", "seek", "step runs", "copies run"]), max_size=150),
    st.data(),
)
def test_every_step_reads_what_was_filled_for_it(patched, max_steps, moves, data):
    device, num_slots = patched(), 2 * max_steps
    order = SlotStream("played", num_slots)
    pinned, ring, checked, num_launched = [None] * num_slots, [None] * num_slots, [], 0
    turn, num_filled, num_read = 0, 0, 0  # as the ledger of a RingFeed has them

    def fill(slot: int, batch: tuple) -> None:
        pinned[slot] = batch
        device.current.launch(lambda: ring.__setitem__(slot, pinned[slot]))

    def read(slot: int, batch: tuple) -> None:
        def check() -> None:
            assert ring[slot] == batch
            checked.append(batch)
        device.current.launch(check)

    for move in moves:
        if move == "fill" and num_filled < num_read + num_slots:
            slot = num_filled % num_slots
            with order.filling(slot):
                fill(slot, (turn, num_filled))
            num_filled += 1
        elif move == "launch" and num_filled > num_read:
            num_steps = data.draw(st.integers(1, min(max_steps, num_filled - num_read)))
            order.wait_filled((num_read + num_steps - 1) % num_slots)
            slots = [batch % num_slots for batch in range(num_read, num_read + num_steps)]
            for place, slot in enumerate(slots):
                read(slot, (turn, num_read + place))
            order.mark_read(slots)
            num_read, num_launched = num_read + num_steps, num_launched + num_steps
            assert order.is_idle() == (device.main.num_done == len(device.main.work))
        elif move == "seek":
            order.mark_read(list(range(num_slots)))
            turn, num_filled, num_read = turn + 1, 0, 0
        elif move == "step runs":
            device.main.advance()
        elif move == "copies run":
            order.stream.run()
    while order.stream.run() or device.main.advance():
        pass
    assert len(checked) == num_launched
    assert order.is_idle()


def test_a_side_stream_goes_by_the_steps_of_its_own_device(monkeypatch):
    """A side stream waits for its own device, not for the current one where that is another."""
    asked = []
    monkeypatch.setattr(torch.cuda, "Stream", PlayedStream)
    monkeypatch.setattr(torch.cuda, "Event", PlayedEvent)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: asked.append(device) or PlayedStream(device))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(PlayedStream, "wait_stream", lambda self, other: None, raising=False)
    side, target = SideStream("second"), torch.zeros(3)
    side.mark()
    side.copy(target, torch.ones(3))
    assert asked == ["second", "second"]
    assert target.sum() == 3
