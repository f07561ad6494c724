"""Batches of a stream that is read once, in its own order: a DataLoader that is iterated as it is."""
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

import torch

from fastgan.data.feeds.feed import Batch
from fastgan.data.feeds.ring import MAX_STEPS, RingFeed, host_slots


class Stream(Protocol):
    """Batches of any number of items, without an end. Called by one thread at a time.

    start: runs work that starts processes, in the training thread; the feed sets it.
    """

    start: Callable[[Callable[[], object]], object]

    def next_batch(self) -> tuple[dict, Batch]:
        """Return (where this batch begins, for `begin`; the next batch, on the CPU)."""

    def begin(self, position: dict) -> int:
        """Go to a position; return the number of items to leave out from there."""

    def epoch_at(self, nimg: int) -> dict:
        """Return the beginning of the epoch in which image number `nimg` lies, as far as it is known."""

    def said_of(self, position: dict) -> str | None:
        """Return a sentence on where `begin` goes on, None where it goes on exactly."""


class LiveFeed(RingFeed):
    """Batches of `batch_size` items, cut out of the batches of a stream: what is left of one begins the
    next, across epochs too.

    like: one item, as rows lie: img, labels; or fields alone, whose batches then have no images.
    threaded: as RingFeed; with it the stream is read while the step computes.
    """

    def __init__(
        self,
        stream: Stream,
        like: Batch,
        batch_size: int,
        device: str | torch.device = "cpu",
        max_steps: int = MAX_STEPS,
        threaded: bool | None = None,
    ):
        img = torch.zeros(1, dtype=torch.int64) if like.img is None else like.img
        width = len(like.labels) if like.labels is not None and like.labels.dim() else 0
        super().__init__(
            tuple(img.shape),
            batch_size,
            device,
            max_steps,
            threaded,
            like.labels is not None,
            img.dtype,
            width,
            like.fields,
        )
        self._stream, self._has_img = stream, like.img is not None
        self._host_slots = [self._given(slot) for slot in host_slots(self._slots)]
        # Number of the next item of the run, -1 where the stream is elsewhere; the rest of the batch
        # that it is taken from; where that batch and those behind it begin: (number of its first
        # item, position).
        self._next, self._rest = 0, None
        self._marks: deque[tuple[int, dict]] = deque()
        self._start = (0, {"epoch": 0})
        self._reading = threading.Lock()
        if self._threaded:
            stream.start = self._ledger.ask
        super().seek(0)

    def seek(self, nimg: int) -> None:
        self._ledger.interrupt()
        with self._reading:
            super().seek(nimg)
            self._next = -1

    def position(self) -> dict:
        # Between two batches of the stream, the next one says where it is: it may begin an epoch. A
        # thread that reads ahead does this by itself, but for the end of an epoch.
        if not self._threaded and self._rest is None and self._next == self.nimg:
            where, self._rest = self._stream.next_batch()
            self._marks.append((self._next, where))
        marks = self._trimmed_marks()
        if not marks:
            return self._start[1]
        first, position = marks[0]
        return position | {"skip": self.nimg - first}

    def resume(self, nimg: int, position: dict) -> str | None:
        position = position or self._stream.epoch_at(nimg)
        self._start = (nimg, position)
        self.seek(nimg)
        return self._stream.said_of(position)

    def launched(self, num_steps: int) -> None:
        super().launched(num_steps)
        self._trimmed_marks()

    def _trimmed_marks(self) -> deque[tuple[int, dict]]:
        """Return the marks without those of batches that have been read; the thread only appends."""
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= self.nimg:
            marks.popleft()
        return marks

    def _fill(self, target: Batch, slot: int, nimg: int) -> None:
        host, filled = self._host_slots[slot], 0
        with self._reading:
            if nimg != self._next:
                self._go_to(nimg)
            while filled < self.batch_size:
                piece = self._piece(self.batch_size - filled)
                num = len(piece.tensors()[0])
                for part, given in zip(host.rows(filled, filled + num).tensors(), piece.tensors(), strict=True):
                    part.copy_(given)
                filled += num
        for part, gathered in zip(self._given(target).tensors(), host.tensors(), strict=True):
            if part.is_cuda:
                part.copy_(gathered, non_blocking=True)

    def _given(self, slot: Batch) -> Batch:
        """Return the parts of a slot that the stream gives."""
        return slot if self._has_img else slot._replace(img=None)

    def _go_to(self, nimg: int) -> None:
        start, position = self._start
        if nimg != start:
            position = self._stream.epoch_at(nimg)
        skip = self._stream.begin(position)
        self._next, self._rest, self._marks = nimg - skip, None, deque()
        while self._next < nimg:
            self._piece(nimg - self._next)

    def _piece(self, most: int) -> Batch:
        """Return the next items, at most so many, all of one batch of the stream."""
        if self._rest is None:
            position, self._rest = self._stream.next_batch()
            self._marks.append((self._next, position))
        rest = self._rest
        total = len(rest.tensors()[0])
        num = min(most, total)
        self._rest = rest.rows(num, total) if num < total else None
        self._next += num
        return rest.rows(0, num)
