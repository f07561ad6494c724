"""The common part of feeds that bring batches to the device as they are needed.

It is a ring of slots on the device, filled while the steps read.
"""
import threading
import time
import weakref
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fastgan.data.feeds.cuda_streams import InOrder, SlotStream
from fastgan.data.feeds.feed import Batch, Feed, Window

MAX_STEPS = 8


class RingFeed(Feed):
    """Batches in a ring of 2 * max_steps slots: one half is filled while the other half is read.

    A subclass defines the filling of a slot, and calls `seek(0)` at the end of its __init__, which
    starts the filling. img_shape: (H, W, C) of the images, or the shape of other samples; dtype:
    theirs. max_steps: the most steps that can be reserved at once. has_labels: batches come with
    class numbers, or with vectors of label_width numbers, which lie in slots of their own beside the
    images. fields: name -> one item, of a feed of several fields; it has no images. threaded: fill in
    a thread, ahead of the steps; otherwise `reserve` fills the slots it needs. None = on CUDA, where
    the host has time while the device computes.
    Without a GPU the thread takes the cores from the step: 28x28 images beside the mlp's step of
    2.8 ms on 2 cores cost 150 us a step without it (half of that for `read`) and 110 us with it,
    but then the step itself takes 150 us longer. stall_s: seconds that `reserve` was blocked and
    the device had nothing left to do.
    """

    def __init__(
        self,
        img_shape: tuple[int, int, int],
        batch_size: int,
        device: str | torch.device,
        max_steps: int = MAX_STEPS,
        threaded: bool | None = None,
        has_labels: bool = False,
        dtype: torch.dtype = torch.uint8,
        label_width: int = 0,
        fields: dict[str, torch.Tensor] | None = None,
    ):
        super().__init__(batch_size)
        self._max_steps, self.stall_s = max_steps, 0.0
        num_slots = 2 * max_steps
        num = num_slots * batch_size
        # Zeros, valid as labels and finite: a phase that rereads is tried out before the first read.
        rows = torch.zeros(num, *img_shape, dtype=dtype, device=device)
        labels = _zeros_for_labels(num, label_width, device) if has_labels else None
        if fields is not None:
            fields = {name: torch.zeros(num, *item.shape, dtype=item.dtype, device=device)
                      for name, item in fields.items()}  # fmt: skip
        self.device, on_cuda = rows.device, rows.is_cuda
        memory = Batch(rows, labels, fields)
        self._slots = [memory.rows(start, start + batch_size) for start in range(0, num, batch_size)]
        self._window = Window(rows, torch.arange(num, device=self.device), batch_size, labels, fields)
        self._streams = SlotStream(self.device, num_slots) if on_cuda else InOrder()
        for filled in memory.tensors() if on_cuda else ():
            filled.record_stream(self._streams.stream)  # its memory is not reused before the last copy is done
        self._ledger = _Ledger(num_slots)
        self._thread = threading.Thread(
            target=_fill_ahead, args=(weakref.ref(self), self._ledger), name="fastgan-feed", daemon=True
        )
        self._threaded = on_cuda if threaded is None else threaded
        # Runs at the end of the interpreter too
        self._finalizer = weakref.finalize(self, _end, self._ledger, self._thread)

    @abstractmethod
    def _fill(self, target: Batch, slot: int, nimg: int) -> None:
        """Write the batch that begins with image number `nimg` of the run into slot `slot`.

        target: the slot, on the device: img [batch_size, H, W, C], as rows lie; labels int64
        [batch_size], None without `has_labels`; fields of a feed of several.

        On CUDA the current stream is the ring's own and already waits for the steps that read the
        slot before: give it copies, and let them wait for their other inputs. The copies into this
        slot of the last time round are done, so memory that is kept per slot can be used again.
        Runs in a thread: allocate no pinned memory. One call at a time, for one batch after
        another, except after `seek`. An error here is raised by the `reserve` that needs the batch.
        """

    @property
    def max_steps(self) -> int:
        return self._max_steps

    def state(self) -> dict[str, torch.Tensor]:
        return {"position": self._window.position}

    def seek(self, nimg: int) -> None:
        self.nimg = nimg
        self._streams.mark_read(list(range(len(self._slots))))
        self._window.position.fill_(nimg)
        places = torch.arange(len(self._window.order), device=self.device)
        # Image number nimg lies at the beginning of slot 0
        torch.remainder(places - nimg, len(places), out=self._window.order)
        self._ledger.begin(nimg)
        if self._threaded and self._thread.ident is None:
            self._thread.start()

    def reserve(self, num_steps: int) -> None:
        assert 1 <= num_steps <= self._max_steps, "more steps than max_steps were reserved at once"
        num_batches = self._ledger.num_read + num_steps
        if self._ledger.num_filled < num_batches:
            self._wait(num_batches)
        self._streams.wait_filled((num_batches - 1) % len(self._slots))

    def read(self) -> Batch:
        return self._window.read()

    def reread(self) -> Batch:
        return self._window.reread()

    def launched(self, num_steps: int) -> None:
        super().launched(num_steps)
        self._ledger.serve()
        first = self._ledger.num_read
        self._streams.mark_read([batch % len(self._slots) for batch in range(first, first + num_steps)])
        self._ledger.read(num_steps)

    def close(self) -> None:
        self._finalizer()

    def _wait(self, num_batches: int) -> None:
        """Wait until that many batches have been filled since `seek`."""
        started = time.perf_counter()
        if self._threaded:
            self._ledger.wait(num_batches)
        else:
            while self._ledger.num_filled < num_batches:
                self._fill_next(self._ledger.next_batch())
        if self._streams.is_idle():  # otherwise the host waited for the device: no slot of the ring was free
            self.stall_s += time.perf_counter() - started

    def _fill_next(self, turn: "_Turn") -> None:
        slot = turn.batch % len(self._slots)
        with self._streams.filling(slot):
            self._fill(self._slots[slot], slot, turn.start_nimg + turn.batch * self.batch_size)
        self._ledger.filled(turn)


def host_slots(slots: list[Batch]) -> list[Batch]:
    """Return memory of the host that a batch is written to: a pinned slot for each on CUDA.

    Elsewhere the slots themselves.
    """
    on_cuda = slots[0].img.is_cuda
    return [slot.map(_pinned_like) for slot in slots] if on_cuda else slots


def _pinned_like(part: torch.Tensor) -> torch.Tensor:
    return torch.empty(part.shape, dtype=part.dtype, pin_memory=True)


def _zeros_for_labels(num: int, width: int, device: str | torch.device) -> torch.Tensor:
    """Return class numbers int64 [num], or vectors float32 [num, width] where there is a width."""
    if width:
        return torch.zeros(num, width, device=device)
    return torch.zeros(num, dtype=torch.int64, device=device)


@dataclass(frozen=True)
class _Turn:
    """One batch to be filled.

    It is batch number `batch` since the `seek` number `seek`, which went to image number
    `start_nimg`.
    """

    seek: int
    start_nimg: int
    batch: int


class _Ledger:
    """The numbers of batches filled and read since the last `seek`, shared by the two threads."""

    def __init__(self, num_slots: int):
        self._num_slots, self._changed = num_slots, threading.Condition()
        self._seek = self._start_nimg = self.num_filled = self.num_read = 0
        self._error: BaseException | None = None
        self._is_closed = self._is_seeking = False
        # What the filling thread has asked the training thread to do, and what came of it.
        self._asked: Callable[[], object] | None = None
        self._answer: tuple[object, BaseException | None] = (None, None)

    # --- the training thread

    def begin(self, nimg: int) -> None:
        with self._changed:
            self._seek, self._start_nimg = self._seek + 1, nimg
            self.num_filled = self.num_read = 0
            self._error, self._asked, self._is_seeking = None, None, False
            self._changed.notify_all()

    def interrupt(self) -> None:
        """End what the filling thread waits for; call `begin` next."""
        with self._changed:
            self._is_seeking = True
            self._changed.notify_all()

    def serve(self) -> None:
        """Do what the filling thread has asked for, if anything."""
        work = self._asked
        if work is None:
            return
        try:
            answer = work(), None
        except BaseException as error:  # for the thread that asked
            answer = None, error
        with self._changed:
            self._asked, self._answer = None, answer
            self._changed.notify_all()

    def read(self, num_batches: int) -> None:
        with self._changed:
            self.num_read += num_batches
            self._changed.notify_all()

    def wait(self, num_batches: int) -> None:
        """Wait until that many are filled; raise the error that kept them from being filled."""

        def is_over() -> bool:
            return self.num_filled >= num_batches or self._error is not None or self._is_closed

        while not is_over():
            with self._changed:
                self._changed.wait_for(lambda: is_over() or self._asked is not None)
            self.serve()
        if self.num_filled < num_batches:
            raise self._error or RuntimeError("the feed was closed")

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    # --- the filling thread

    def ask(self, work: Callable[[], object]) -> object:
        """Have the training thread do `work` at its next call of the feed, and return the result.

        Processes are forked there: from another thread, a child may inherit a lock that its parent
        holds in the midst of a step.
        """
        with self._changed:
            self._asked = work
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._asked is not work or self._is_closed or self._is_seeking)
            if self._is_closed or self._is_seeking:
                raise RuntimeError("the feed was closed, or went elsewhere")
            result, error = self._answer
        if error is not None:
            raise error
        return result

    def next_batch(self) -> _Turn:
        with self._changed:
            return _Turn(self._seek, self._start_nimg, self.num_filled)

    def wait_for_room(self) -> bool:
        """Wait until there is a slot to fill; return False when there is nothing more to fill."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closed or (self._error is None and self.num_filled < self.num_read + self._num_slots)
            )
            return not self._is_closed

    def filled(self, turn: _Turn) -> None:
        with self._changed:
            # Otherwise a seek came in between, and the batch is no longer needed
            self.num_filled += turn.seek == self._seek
            self._changed.notify_all()

    def failed(self, turn: _Turn, error: BaseException) -> None:
        with self._changed:
            if turn.seek == self._seek:
                self._error = error
                self._changed.notify_all()


def _fill_ahead(feed_ref: "weakref.ref[RingFeed]", ledger: _Ledger) -> None:
    """Fill every slot that is free, in the thread.

    It holds the feed only while it fills, so that an unused feed can be freed.
    """
    while ledger.wait_for_room():
        feed, turn = feed_ref(), ledger.next_batch()
        if feed is None:
            return
        try:
            feed._fill_next(turn)
        except BaseException as error:  # for the training thread
            ledger.failed(turn, error)
        del feed


def _end(ledger: _Ledger, thread: threading.Thread) -> None:
    """End the thread, and wait for the batch that it may be filling."""
    ledger.close()
    if thread.ident is not None and thread is not threading.current_thread():
        thread.join()
