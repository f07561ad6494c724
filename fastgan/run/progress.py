"""The terminal output of a run, and the measurement of its time.

One live bar, or plain lines where the output is a file or a pipe.
"""
import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_REFRESH_SECONDS = 0.25
_SHOWN = {"sec_per_kimg": "sec/kimg", "imgs_per_sec": "imgs/sec", "d_loss": "d_loss", "g_loss": "g_loss"}


class Progress:
    """The display of a run from `start_nimg` to `total_nimg` images.

    Used as a context manager around the training loop. `enabled=False` shows nothing (the other
    ranks of a distributed run). `console`: where to write, None for stdout.
    """

    def __init__(self, total_nimg: int, start_nimg: int = 0, enabled: bool = True, console: Console | None = None):
        self.total_nimg, self.nimg = total_nimg, start_nimg
        self._console = (console or _stdout_console()) if enabled else Console(quiet=True)
        self._stats: dict = {}
        self._spinner: Spinner | None = None
        self._last_refresh = -math.inf
        self._live: Live | None = None
        if enabled and self._console.is_interactive:
            self._live = Live(console=self._console, get_renderable=self._renderable, auto_refresh=False)

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def message(self, text: str) -> None:
        """Print `text` as it is, above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def busy(self, doing: str, done: str = "") -> Iterator[None]:
        """Show `doing` and the seconds so far while the body runs, then print `done`.

        `{seconds}` in `done` is filled in: busy("compiling the training step", "compiled the
        training step in {seconds:.1f} s"). A body that raises prints no `done`. With an empty
        `done` nothing stays: `doing` is shown on a live terminal alone.
        """
        start = time.monotonic()
        if self._live is None:
            if done:
                self.message(doing)
            yield
        else:
            with self._spinning(doing, start):
                yield
        if done:
            self.message(done.format(seconds=time.monotonic() - start))

    def advance(self, nimg: int) -> None:
        """Show on the live bar that `nimg` images are done.

        Called after every step; redraws at most four times a second.
        """
        self.nimg = nimg
        if self._live is not None:
            now = time.monotonic()
            if now - self._last_refresh >= _REFRESH_SECONDS:
                self._last_refresh = now
                self._live.refresh()

    def update(self, nimg: int, stats: dict) -> None:
        """Show the statistics of a tick and the memory.

        The statistics are sec_per_kimg, imgs_per_sec, d_loss and g_loss of `stats` where they are
        not None. Without a terminal this prints one plain line.
        """
        self._stats = stats
        if self._live is None:
            self.nimg = nimg
            self.message("  ".join([self._kimg(), *self._numbers(), *self._time_left()]))
        else:
            self.advance(nimg)

    @contextmanager
    def _spinning(self, doing: str, start: float) -> Iterator[None]:
        # The body holds this thread, perhaps for minutes, so that another one has to redraw.
        text = Text()
        self._spinner = Spinner("line", text=text)
        finished = threading.Event()

        def redraw() -> None:
            while True:
                text.plain = f"{doing} {time.monotonic() - start:.0f} s"
                self._live.refresh()
                if finished.wait(_REFRESH_SECONDS):
                    return

        thread = threading.Thread(target=redraw, daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()
            self._spinner = None
            self._live.refresh()

    def _renderable(self) -> RenderableType:
        if self._spinner is not None:
            return self._spinner
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=self.total_nimg, completed=self.nimg, width=40),
            "  ".join([self._kimg(), *self._time_left()]),
        )
        return Group(bar, Text("  ".join(self._numbers()), no_wrap=True, overflow="ellipsis"))

    def _kimg(self) -> str:
        return f"kimg {self.nimg / 1000:.1f}/{self.total_nimg / 1000:.1f}"

    def _numbers(self) -> list[str]:
        shown = [
            f"{label} {_short(self._stats[key])}" for key, label in _SHOWN.items() if self._stats.get(key) is not None
        ]
        return [*shown, f"{memory_name()} {memory_gb():.2f} GB"]

    def _time_left(self) -> list[str]:
        sec_per_kimg = self._stats.get("sec_per_kimg")
        return (
            []
            if sec_per_kimg is None
            else [f"left {_duration(sec_per_kimg * max(0, self.total_nimg - self.nimg) / 1000)}"]
        )


def memory_name() -> str:
    """Return the name of `memory_gb`: "gpumem" where this process uses CUDA, else "rss"."""
    return "gpumem" if torch.cuda.is_initialized() else "rss"


def memory_gb() -> float:
    """Return memory in GB (1e9 bytes).

    It is the peak of CUDA tensors, or the resident set where this process does not use CUDA.
    Outside Linux the resident set is its peak, and NaN on Windows, which has no call for it in the
    standard library.
    """
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e9
    if sys.platform.startswith("linux"):
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9
    if sys.platform == "win32":
        return math.nan
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # bytes on macOS


def _stdout_console() -> Console:
    # Explicit, since rich takes a pipe for a terminal where FORCE_COLOR is set, as in CI systems
    return Console(force_terminal=sys.stdout.isatty())


def _short(value: float) -> str:
    """Format a number with three significant digits, without an exponent for large numbers."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    """Format a duration in its two largest units: "3d 04h", "2h 05m", "1m 37s", "9s"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02d}h"
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {seconds:02d}s" if minutes else f"{seconds}s"


class Stopwatch:
    """Wall time of a tick, and the part of it that was spent in steps.

    A CUDA step returns before it is done: there `step_s` is the time to launch.
    """

    def __init__(self, start_nimg: int):
        self.start_nimg = start_nimg
        self.step_s = 0.0
        self._started = time.perf_counter()

    @contextlib.contextmanager
    def stepping(self) -> Iterator[None]:
        """Count the time inside as step time."""
        started = time.perf_counter()
        yield
        self.step_s += time.perf_counter() - started

    @contextlib.contextmanager
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
