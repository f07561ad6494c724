"""A limit on the number of launches that the host may be ahead of the device."""
from collections import deque

import torch

AHEAD = 4  # launches


class Throttle:
    """Keeps the host at most AHEAD launches ahead of the device.

    A run then stops soon after a signal, and the progress bar shows completed steps. The host waits
    for a launch that is several launches old, so the device never runs out of work. On a CPU there
    is nothing to wait for.
    """

    def __init__(self, device: torch.device):
        self._device, on_cuda = device, device.type == "cuda"
        self._events = deque(torch.cuda.Event(blocking=True) for _ in range(AHEAD if on_cuda else 0))

    def launched(self) -> None:
        """Record one launch on the current stream; call this after every launch."""
        if self._events:
            self._events.rotate(-1)
            self._events[-1].synchronize()  # of the launch AHEAD ago; returns at once where there was none
            self._events[-1].record(torch.cuda.current_stream(self._device))
