"""Copies to the device beside the work that is going on there."""
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
        """What was launched so far reads the memory as it is: later copies wait for it."""
        self._read.record(torch.cuda.current_stream(self._device))

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """target.copy_(source from pageable host memory) on the side stream; what is launched on
        the current stream from now on sees it.
        """
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._read)
            target.copy_(source.pin_memory(), non_blocking=True)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)


class InOrder:
    """What SlotStream does, where everything happens in the order of the program: nothing."""

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
    """A stream on which the slots of a ring are filled, and the events that keep a slot from being
    filled while steps read it, or read too early.

    Each event is recorded and waited for by turns, as a slot is filled and read by turns: no later
    record can take the place of one that is still to be waited for. All of them are made here,
    since a thread must make nothing while another one captures a CUDA graph.
    """

    def __init__(self, device: torch.device, num_slots: int):
        self.stream = torch.cuda.Stream(device)
        self._filled = [torch.cuda.Event(blocking=True) for _ in range(num_slots)]  # blocking: whoever waits sleeps
        self._read = [torch.cuda.Event() for _ in range(num_slots)]
        self._freed_by = list(self._read)  # by slot: after which event it may be filled
        self._last_read = self._read[0]
        for event in (*self._filled, *self._read):
            event.record(torch.cuda.current_stream(device))

    @contextlib.contextmanager
    def filling(self, slot: int) -> Iterator[None]:
        """Inside, work for the current stream fills the slot.

        Blocks the host until the slot was filled the last time round: call it in a thread.
        """
        self._filled[slot].synchronize()
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(self._freed_by[slot])
            yield
            self._filled[slot].record(self.stream)

    def wait_filled(self, slot: int) -> None:
        """What is launched on the current stream from now on sees the slot filled, and every slot
        that was filled before it.
        """
        torch.cuda.current_stream(self.stream.device).wait_event(self._filled[slot])

    def mark_read(self, slots: list[int]) -> None:
        """What was launched on the current stream so far reads these slots, the last ones in the
        order of filling; nothing later does.
        """
        self._last_read = self._read[slots[-1]]
        self._last_read.record(torch.cuda.current_stream(self.stream.device))
        for slot in slots:
            self._freed_by[slot] = self._last_read

    def is_idle(self) -> bool:
        """Whether the device is done with all steps that were marked."""
        return self._last_read.query()
