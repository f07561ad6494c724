"""Bars and spinners for work that takes long, redrawn by a thread of rich.

Where the output is a file or a pipe, plain lines.
"""
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich import progress
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_REFRESHES_A_SECOND = 4
_SHOWN = {"sec_per_kimg": "sec/kimg", "imgs_per_sec": "imgs/sec", "d_loss": "d_loss", "g_loss": "g_loss"}


@contextmanager
def progress_bar(title: str, total: int, shown: bool, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that moves a bar on stderr on by a number of images.

    When not `shown` the function shows nothing.
    """
    with _bars(progress.MofNCompleteColumn(), shown) as bars:
        yield partial(bars.advance, bars.add_task(title, total=total, completed=done))


class DownloadBar:
    """A bar on stderr that counts bytes, and has the attributes that pooch wants of one."""

    def __init__(self, title: str, shown: bool):
        self._bars = _bars(progress.DownloadColumn(), shown)
        self._task = self._bars.add_task(title, total=None)

    def __enter__(self) -> "DownloadBar":
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    @property
    def total(self) -> float | None:
        return self._bars.tasks[0].total

    @total.setter
    def total(self, num_bytes: int) -> None:
        """Begin anew, as every try does; 0 bytes: nobody knows how many."""
        self._bars.reset(self._task, total=num_bytes or None)

    def update(self, num_bytes: int) -> None:
        self._bars.advance(self._task, num_bytes)

    def reset(self) -> None:
        self._bars.reset(self._task)

    def close(self) -> None:
        """Do nothing: it ends with the `with` block, for another try may follow."""


class Progress:
    """The display of a run from `start_nimg` to `total_nimg` images: one live bar, or plain lines.

    Used as a context manager around the training loop. `enabled=False` shows nothing. `console`:
    where to write, None for stdout.
    """

    def __init__(self, total_nimg: int, start_nimg: int = 0, enabled: bool = True, console: Console | None = None):
        self.total_nimg, self.nimg = total_nimg, start_nimg
        self._console = console if console and enabled else _console(enabled)
        self._numbers: list[str] = []
        self._sec_per_kimg: float | None = None
        self._spinner: Callable[[], Spinner] | None = None
        self._live: Live | None = None
        if enabled and self._console.is_interactive:
            self._live = Live(
                console=self._console, get_renderable=self._renderable, refresh_per_second=_REFRESHES_A_SECOND
            )

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start(refresh=True)
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
        """Show that `nimg` images are done, when the bar is redrawn next; a step pays nothing."""
        self.nimg = nimg

    def update(self, nimg: int, stats: dict, memory: str = "") -> None:
        """Show the statistics of a tick and `memory`, which is in words.

        The statistics are sec_per_kimg, imgs_per_sec, d_loss and g_loss of `stats` where they are
        not None. Without a terminal this prints one plain line.
        """
        self.nimg, self._sec_per_kimg = nimg, stats.get("sec_per_kimg")
        shown = [f"{label} {_short(stats[key])}" for key, label in _SHOWN.items() if stats.get(key) is not None]
        self._numbers = [*shown, memory] if memory else shown
        if self._live is None:
            self.message("  ".join([self._kimg(), *self._numbers, *self._time_left()]))

    @contextmanager
    def _spinning(self, doing: str, start: float) -> Iterator[None]:
        spinner = Spinner("line")

        def spin() -> Spinner:
            spinner.update(text=f"{doing} {time.monotonic() - start:.0f} s")
            return spinner

        self._spinner = spin
        self._live.refresh()
        try:
            yield
        finally:
            self._spinner = None
            self._live.refresh()

    def _renderable(self) -> RenderableType:
        spin = self._spinner  # read once: the thread that redraws runs beside the one that ends the spinner
        if spin is not None:
            return spin()
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=self.total_nimg, completed=self.nimg, width=40),
            "  ".join([self._kimg(), *self._time_left()]),
        )
        return Group(bar, Text("  ".join(self._numbers), no_wrap=True, overflow="ellipsis"))

    def _kimg(self) -> str:
        return f"kimg {self.nimg / 1000:.1f}/{self.total_nimg / 1000:.1f}"

    def _time_left(self) -> list[str]:
        if self._sec_per_kimg is None:
            return []
        return [f"left {_duration(self._sec_per_kimg * max(0, self.total_nimg - self.nimg) / 1000)}"]


def _bars(amount: progress.ProgressColumn, shown: bool) -> progress.Progress:
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), amount, progress.TimeRemainingColumn())
    console = _console(shown, stderr=True)
    return progress.Progress(*columns, console=console, refresh_per_second=_REFRESHES_A_SECOND, disable=not shown)


def _console(shown: bool, stderr: bool = False) -> Console:
    # Explicit, since rich takes a pipe for a terminal where FORCE_COLOR is set, as in CI systems
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, quiet=not shown, force_terminal=is_terminal)


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
