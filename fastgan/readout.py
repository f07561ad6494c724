"""The sums that steps keep on the device, brought to the host once a tick, on a stream of its own."""
import torch


class Readout:
    """totals: float32 [n], which steps add to; `take` reads them and sets them back to 0. All memory is allocated once."""

    def __init__(self, totals: torch.Tensor):
        self._totals, self._staged = totals, torch.empty_like(totals)
        self._host = torch.empty(totals.shape, dtype=totals.dtype, pin_memory=totals.is_cuda)
        self._stream = torch.cuda.Stream(totals.device) if totals.is_cuda else None

    @torch.no_grad()
    def take(self) -> list[float]:
        """The sums since the last call. Waits until the steps that were launched are done."""
        self._staged.copy_(self._totals)
        self._totals.zero_()
        if self._stream is None:
            return self._staged.tolist()
        self._stream.wait_stream(torch.cuda.current_stream(self._totals.device))
        with torch.cuda.stream(self._stream):
            self._host.copy_(self._staged, non_blocking=True)
        self._stream.synchronize()
        return self._host.tolist()
