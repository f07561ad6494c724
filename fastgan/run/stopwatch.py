"""The wall time of a tick, and where it went."""
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Wall time of a tick, and the part of it that was spent in steps.

    A CUDA step returns before it is done: there `step_s` is the time to launch.
    """

    def __init__(self, start_nimg: int):
        self.start_nimg = start_nimg
        self.step_s = 0.0
        self._started = time.perf_counter()

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Count the time inside as step time."""
        started = time.perf_counter()
        yield
        self.step_s += time.perf_counter() - started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time inside out of the tick."""
        started = time.perf_counter()
        yield
        self._started += time.perf_counter() - started

    def restart(self, start_nimg: int) -> None:
        """Begin the next tick."""
        self.start_nimg, self.step_s, self._started = start_nimg, 0.0, time.perf_counter()

    def seconds(self) -> float:
        """Return the seconds since the tick began."""
        return time.perf_counter() - self._started
