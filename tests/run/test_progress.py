"""The terminal output of a run, and the measurement of its time."""
import contextlib
import io
import math
import mmap
import re

import numpy as np
import pytest
from rich.console import Console

from fastgan.run import progress
from fastgan.run.progress import Progress, Stopwatch

STATS = {
    "kimg": 12.8,
    "sec_per_kimg": 0.52,
    "imgs_per_sec": 1923.1,
    "d_loss": 0.6931,
    "g_loss": 1.25,
    "real_logits": 0.1,
}


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def _plain():
    return Console(file=io.StringIO(), force_terminal=False)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    return Console(file=io.StringIO(), force_terminal=True, width=80)


def _text(console):
    """Return the written text, without colours and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def test_without_a_terminal_each_update_is_one_plain_line():
    console = _plain()
    with Progress(200_000, console=console) as bar:
        for step in range(100):
            bar.advance(step)
        bar.update(12_800, STATS)
        bar.message("[network] saved [3, 4] to a/very/long/path" + "/folder" * 20)
        bar.update(200_000, {**STATS, "d_loss": math.nan, "g_loss": None})
    output = console.file.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", output)
    first, message, last = output.splitlines()
    pattern = (r"kimg 12\.8/200\.0  sec/kimg 0\.52  imgs/sec 1923  d_loss 0\.693  g_loss 1\.25  "
               r"(rss|gpumem) \d+\.\d\d GB  left 1m 37s")
    assert re.fullmatch(pattern, first)
    assert message.startswith("[network] saved [3, 4] to a/very/long/path/folder")
    assert "d_loss nan" in last
    assert "g_loss" not in last
    assert last.endswith("left 0s")


def test_a_phase_without_a_terminal_is_two_lines(clock):
    console = _plain()
    with (
        Progress(1000, console=console) as bar,
        bar.busy("compiling the training step", "compiled the training step in {seconds:.1f} s"),
    ):
        clock.now += 31.2
    assert console.file.getvalue() == "compiling the training step\ncompiled the training step in 31.2 s\n"


def test_on_a_terminal_there_is_one_live_bar(terminal):
    with Progress(200_000, start_nimg=1000, console=terminal) as bar:
        bar.message("above the bar")
        bar.update(12_800, STATS)
    text = _text(terminal)
    assert "above the bar\n" in text
    assert "kimg 1.0/200.0" in text
    assert "kimg 12.8/200.0  left 1m 37s" in text
    assert re.search(r"sec/kimg 0\.52  imgs/sec 1923  d_loss 0\.693  g_loss 1\.25  (rss|gpumem) \d+\.\d\d GB", text)
    assert terminal.file.getvalue().endswith("\x1b[?25h")  # the cursor is shown again


def test_the_bar_is_drawn_at_most_four_times_a_second(terminal, clock):
    with Progress(200_000, console=terminal) as bar:
        bar.advance(1)
        for nimg in range(2, 2000):
            bar.advance(nimg)
        drawn = len(terminal.file.getvalue())
        bar.advance(2000)
        assert len(terminal.file.getvalue()) == drawn
        clock.now += 0.26
        bar.advance(3000)
        assert "kimg 3.0/200.0" in _text(terminal)


def test_a_phase_on_a_terminal_spins_and_then_says_so(terminal, clock):
    with Progress(200_000, console=terminal) as bar:
        with bar.busy("compiling the training step", "compiled the training step in {seconds:.1f} s"):
            clock.now += 31.2
        bar.update(1000, STATS)
    text = _text(terminal)
    assert re.search(r"compiling the training step \d+ s", text)
    done = text.index("compiled the training step in 31.2 s\n")
    assert "compiling" not in text[done:]
    assert "kimg 1.0/200.0" in text[done:]


@pytest.mark.parametrize("console_name", ["plain", "terminal"])
def test_a_phase_that_fails_is_not_called_done(terminal, console_name):
    console = terminal if console_name == "terminal" else _plain()
    with (
        pytest.raises(RuntimeError, match="no compiler"),
        Progress(1000, console=console) as bar,
        bar.busy("compiling", "compiled"),
    ):
        raise RuntimeError("no compiler")
    assert "compiling" in console.file.getvalue()
    assert "compiled" not in console.file.getvalue()


def test_disabled_shows_nothing(capfd, terminal):
    for console in (None, terminal):
        with Progress(1000, enabled=False, console=console) as bar:
            bar.message("text")
            bar.advance(10)
            bar.update(1000, STATS)
            with bar.busy("doing", "done"):
                pass
    assert capfd.readouterr() == ("", "")
    assert terminal.file.getvalue() == ""


def test_a_pipe_stays_plain_where_colours_are_forced(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Progress(1000) as bar:
        bar.update(500, STATS)
    output = capsys.readouterr().out
    assert output.startswith("kimg 0.5/1.0")
    assert "\x1b" not in output


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    console = Console(file=io.StringIO(), force_terminal=True)
    with Progress(1000, console=console) as bar:
        bar.update(500, STATS)
    assert console.file.getvalue().startswith("kimg 0.5/1.0")


@pytest.mark.parametrize(
    ("sec_per_kimg", "left"), [(0.009, "9s"), (0.097, "1m 37s"), (7.5, "2h 05m"), (273.6, "3d 04h")]
)
def test_time_left_has_two_units(sec_per_kimg, left):
    console = _plain()
    Progress(1_000_000, console=console).update(0, {"sec_per_kimg": sec_per_kimg})
    assert console.file.getvalue().endswith(f"left {left}\n")


@pytest.mark.parametrize(
    ("rate", "shown"), [(0.02134, "0.0213"), (3.14159, "3.14"), (99.96, "100"), (123456.7, "123457"), (-0.5, "-0.5")]
)
def test_numbers_have_three_digits_and_no_exponent(rate, shown):
    console = _plain()
    Progress(1000, console=console).update(0, {"imgs_per_sec": rate})
    assert f"imgs/sec {shown}  " in console.file.getvalue()


def test_memory_of_the_process_grows_with_what_it_holds():
    before = progress.memory_gb()
    held = mmap.mmap(-1, 200_000_000)  # of the system: a tensor may lie in memory that the process has kept
    np.frombuffer(held, np.uint8)[:] = 1
    assert progress.memory_name() in ("rss", "gpumem")
    assert 0.01 < before < 1000
    if progress.memory_name() == "rss":
        assert progress.memory_gb() - before == pytest.approx(len(held) / 1e9, rel=0.2)


class Clock:
    """A stand-in for time.perf_counter that a test advances."""

    def __init__(self):
        self.now = 100.0

    def pass_in(self, context, seconds: float) -> None:
        with context():
            self.now += seconds


@pytest.fixture
def moved_clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("fastgan.run.progress.time.perf_counter", lambda: clock.now)
    return clock


def test_steps_are_counted_and_the_callers_time_is_left_out(moved_clock):
    stopwatch = Stopwatch(0)
    for context, seconds in (
        (stopwatch.stepping, 3.0),
        (stopwatch.paused, 50.0),
        (contextlib.nullcontext, 1.0),
        (stopwatch.stepping, 4.0),
    ):
        moved_clock.pass_in(context, seconds)
    assert (stopwatch.step_s, stopwatch.seconds()) == (7.0, 8.0)


def test_a_tick_begins_with_nothing(moved_clock):
    stopwatch = Stopwatch(64)
    moved_clock.pass_in(stopwatch.stepping, 3.0)
    moved_clock.pass_in(stopwatch.paused, 5.0)
    stopwatch.restart(128)
    assert (stopwatch.start_nimg, stopwatch.step_s, stopwatch.seconds()) == (128, 0.0, 0.0)
    moved_clock.pass_in(contextlib.nullcontext, 2.0)
    assert (stopwatch.step_s, stopwatch.seconds()) == (0.0, 2.0)
