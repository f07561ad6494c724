"""Bars and spinners on a terminal, plain lines elsewhere."""
import io
import math
import re
import time

import pytest
from rich.console import Console

from fastgan import progress
from fastgan.progress import DownloadBar, Progress, progress_bar

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
        bar.update(12_800, STATS, "rss 1.25 GB")
        bar.message("[network] saved [3, 4] to a/very/long/path" + "/folder" * 20)
        bar.update(200_000, {**STATS, "d_loss": math.nan, "g_loss": None})
    output = console.file.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", output)
    first, message, last = output.splitlines()
    assert first == (
        "kimg 12.8/200.0  sec/kimg 0.52  imgs/sec 1923  d_loss 0.693  g_loss 1.25  rss 1.25 GB  left 1m 37s"
    )
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
        bar.update(12_800, STATS, "gpumem 1.25 GB")
    text = _text(terminal)
    assert "above the bar\n" in text
    assert "kimg 1.0/200.0" in text
    assert "kimg 12.8/200.0  left 1m 37s" in text
    assert "sec/kimg 0.52  imgs/sec 1923  d_loss 0.693  g_loss 1.25  gpumem 1.25 GB" in text
    assert terminal.file.getvalue().endswith("\x1b[?25h")  # the cursor is shown again


def appears(console, text: str) -> bool:
    """Return True where `text` is written within some seconds, though nobody calls."""
    deadline = time.monotonic() + 20
    while text not in _text(console) and time.monotonic() < deadline:
        time.sleep(0.02)
    return text in _text(console)


def test_steps_draw_nothing_and_the_bar_is_redrawn_beside_them(terminal):
    with Progress(200_000, console=terminal) as bar:
        for nimg in range(2000):
            bar.advance(nimg)
        assert _text(terminal).count("kimg") < 10
        bar.advance(3000)
        assert appears(terminal, "kimg 3.0/200.0")


def test_the_seconds_of_a_phase_go_on_while_its_body_holds_the_thread(terminal, clock):
    with Progress(200_000, console=terminal) as bar, bar.busy("compiling"):
        clock.now += 7.2
        assert appears(terminal, "compiling 7 s")


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
    assert f"imgs/sec {shown}\n" in console.file.getvalue()


# --- bars of work that can be counted -----------------------------------------------------------------------------


def test_a_bar_counts_images_on_stderr(capsys):
    with progress_bar("packing photos", 12, shown=True, done=4) as advance:
        advance(3)
    captured = capsys.readouterr()
    assert re.search(r"packing photos \S+ +7/12 ", captured.err)
    assert captured.out == ""
    assert "\x1b" not in captured.err


def test_a_bar_that_is_not_shown_writes_nothing(capfd):
    with progress_bar("packing", 12, shown=False) as advance, DownloadBar("downloading", shown=False) as bar:
        advance(3)
        bar.total = 12
        bar.update(3)
    assert capfd.readouterr() == ("", "")


def test_a_second_try_of_a_download_begins_anew(capsys):
    with DownloadBar("downloading set.gz", shown=True) as bar:
        for received in (900, 300):
            bar.total = 1000
            bar.update(received)
    assert re.search(r"downloading set\.gz \S+ +0.3/1.0 kB", capsys.readouterr().err)


def test_a_download_of_unknown_length_has_a_bar(capsys):
    with DownloadBar("downloading set.gz", shown=True) as bar:
        bar.total = 0
        bar.update(300)
        assert bar.total is None
    assert "300/? bytes" in capsys.readouterr().err
