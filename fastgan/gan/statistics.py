"""Statistics of the steps: summed on the device, brought to the host once a tick."""
import torch

ALWAYS = ("d_loss", "g_loss", "real_logits", "fake_logits")  # recorded in every run of the built-in phases


class Totals:
    """Sums of named values and the number of times each was recorded.

    A phase that is due at an interval thereby has its own mean. tensor: float32 [2 * len(names)],
    sums first; its memory stays in place.
    """

    def __init__(self, names: tuple[str, ...], device: torch.device):
        self.names = names
        self.tensor = torch.zeros(2 * len(names), device=device)
        self._zero, self._one = torch.zeros((), device=device), torch.ones((), device=device)

    def add(self, values: dict[str, torch.Tensor]) -> None:
        """Record one value, [], of each of these names."""
        sums = [values[name].detach().float() if name in values else self._zero for name in self.names]
        counts = [self._one if name in values else self._zero for name in self.names]
        self.tensor.add_(torch.stack(sums + counts))

    def means(self, read: list[float]) -> dict[str, float]:
        """Return name -> mean of the names that were recorded. read: the values of the tensor."""
        sums, counts = read[:len(self.names)], read[len(self.names):]
        return {name: total / count for name, total, count in zip(self.names, sums, counts, strict=True) if count}


class Readout:
    """The readout of totals, float32 [n], to which steps add; `take` reads them and sets them to 0.

    All memory is allocated once.
    """

    def __init__(self, totals: torch.Tensor):
        self._totals, self._staged = totals, torch.empty_like(totals)
        self._host = torch.empty(totals.shape, dtype=totals.dtype, pin_memory=totals.is_cuda)
        self._stream = torch.cuda.Stream(totals.device) if totals.is_cuda else None

    @torch.no_grad()
    def take(self) -> list[float]:
        """Return the sums since the last call. Waits until the launched steps are done."""
        self._staged.copy_(self._totals)
        self._totals.zero_()
        if self._stream is None:
            return self._staged.tolist()
        self._stream.wait_stream(torch.cuda.current_stream(self._totals.device))
        with torch.cuda.stream(self._stream):
            self._host.copy_(self._staged, non_blocking=True)
        self._stream.synchronize()
        return self._host.tolist()
