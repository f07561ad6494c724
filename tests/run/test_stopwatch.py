"""The time of a tick."""
import contextlib

import pytest

from fastgan.run.stopwatch import Stopwatch


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
    monkeypatch.setattr("fastgan.run.stopwatch.time.perf_counter", lambda: clock.now)
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
