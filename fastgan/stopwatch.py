"""How long a tick took, and how much of it was training."""
import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Wall time of a tick, and how much of it was spent in steps. A CUDA step returns before it is done: there `step_s` is the time to launch."""

    def __init__(self, start_nimg: int):
        self.start_nimg = start_nimg
        self.step_s = 0.0
        self._started = time.perf_counter()

    @contextlib.contextmanager
    def stepping(self) -> Iterator[None]:
        """Counts the time inside as step time."""
        started = time.perf_counter()
        yield
        self.step_s += time.perf_counter() - started

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time inside out: it is the caller's."""
        started = time.perf_counter()
        yield
        self._started += time.perf_counter() - started

    def restart(self, start_nimg: int) -> None:
        """Begin the next tick."""
        self.start_nimg, self.step_s, self._started = start_nimg, 0.0, time.perf_counter()

    def seconds(self) -> float:
        """Since the tick began."""
        return time.perf_counter() - self._started
