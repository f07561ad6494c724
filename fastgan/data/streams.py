"""Copies to the device beside the work that is going on there."""
import torch


class SideStream:
    """A stream for copies into memory that steps on the current stream read. A copy waits for the steps that were launched before `mark`."""

    def __init__(self, device: torch.device):
        self._stream, self._read = torch.cuda.Stream(device), torch.cuda.Event()

    def mark(self) -> None:
        """What was launched so far reads the memory as it is: later copies wait for it."""
        self._read.record()

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """target.copy_(source from pageable host memory) on the side stream; what is launched on the current stream from now on sees it."""
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._read)
            target.copy_(source.pin_memory(), non_blocking=True)
        torch.cuda.current_stream().wait_stream(self._stream)
