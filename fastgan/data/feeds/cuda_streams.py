"""Copies to the device beside the work that runs there."""
import contextlib
from collections.abc import Iterator

import torch


class SideStream:
    """A stream for copies into memory that steps on the current stream read.

    A copy waits for the steps that were launched before `mark`.
    """

    def __init__(self, device: torch.device):
        self._device, self._stream, self._read = device, torch.cuda.Stream(device), torch.cuda.Event()

    def mark(self) -> None:
        """Make later copies wait for the work launched so far, which reads the memory as it is."""
        self._read.record(torch.cuda.current_stream(self._device))

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Run target.copy_(source from pageable host memory) on the side stream.

        Work that is launched on the current stream from now on sees the result.
        """
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._read)
            target.copy_(source.pin_memory(), non_blocking=True)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)


class InOrder:
    """A stand-in for SlotStream that does nothing, where everything runs in program order."""

    _nothing = contextlib.nullcontext()

    def filling(self, slot: int) -> contextlib.AbstractContextManager[None]:
        return self._nothing

    def wait_filled(self, slot: int) -> None:
        pass

    def mark_read(self, slots: list[int]) -> None:
        pass

    def is_idle(self) -> bool:
        return True


class SlotStream:
    """A stream that fills the slots of a ring, and the events that order it with the steps.

    The events keep a slot from being filled while steps read it, and from being read too early.
    Each event is recorded and waited for by turns, as a slot is filled and read by turns: no later
    record can take the place of one that is still to be waited for. All events are made here, since
    a thread must make nothing while another one captures a CUDA graph.
    """

    def __init__(self, device: torch.device, num_slots: int):
        self.stream = torch.cuda.Stream(device)
        self._filled = [torch.cuda.Event(blocking=True) for _ in range(num_slots)]  # blocking: a waiting thread sleeps
        self._read = [torch.cuda.Event() for _ in range(num_slots)]
        self._freed_by = list(self._read)  # by slot: the event after which it may be filled
        self._last_read = self._read[0]
        for event in (*self._filled, *self._read):
            event.record(torch.cuda.current_stream(device))

    @contextlib.contextmanager
    def filling(self, slot: int) -> Iterator[None]:
        """Fill the slot by work for the current stream inside this context.

        Blocks the host until the slot was filled the last time round: call it in a thread.
        """
        self._filled[slot].synchronize()
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(self._freed_by[slot])
            yield
            self._filled[slot].record(self.stream)

    def wait_filled(self, slot: int) -> None:
        """Make later work on the current stream see the slot filled.

        It also sees every slot that was filled before this one.
        """
        torch.cuda.current_stream(self.stream.device).wait_event(self._filled[slot])

    def mark_read(self, slots: list[int]) -> None:
        """Record that the work launched so far on the current stream reads these slots.

        They are the last ones in the order of filling; no later work reads them.
        """
        self._last_read = self._read[slots[-1]]
        self._last_read.record(torch.cuda.current_stream(self.stream.device))
        for slot in slots:
            self._freed_by[slot] = self._last_read

    def is_idle(self) -> bool:
        """Return True when the device has finished all steps that were marked."""
        return self._last_read.query()
