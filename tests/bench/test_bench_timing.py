"""The timer, on a clock that only the callables move."""
import gc

import pytest

from fastgan.bench import timing


class Clock:
    """A clock, callables that each take their own number of seconds, and a record of the calls."""

    def __init__(self):
        self.now, self.ran = 0.0, []

    def takes(self, name, seconds):
        def call():
            assert not gc.isenabled()
            self.now += seconds
            self.ran.append(name)

        return call


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "perf_counter", lambda: clock.now)
    return clock


def test_every_round_gives_the_seconds_of_one_call(clock):
    per_call, num_calls = timing.interleave(
        {"quick": clock.takes("quick", 0.125), "slow": clock.takes("slow", 4.0)}, rounds=7, round_s=1.0
    )
    assert per_call == {"quick": [0.125] * 7, "slow": [4.0] * 7}
    assert num_calls == {"quick": 8, "slow": 1}


def test_short_calls_are_repeated_until_a_round_is_long_enough(clock):
    _, num_calls = timing.interleave({"tiny": clock.takes("tiny", 2.0**-20)}, round_s=0.25)
    assert num_calls == {"tiny": 2**18}


def test_the_order_is_rotated_and_the_first_round_does_not_count(clock):
    starts = []
    calls = {name: clock.takes(name, 1.0) for name in "abc"}
    per_call, _ = timing.interleave(calls, rounds=3, round_s=1.0, before=starts.append)
    finding_out, warm_up = "abc", "abc"
    assert "".join(starts) == finding_out + warm_up + "abc" + "bca" + "cab"
    assert "".join(clock.ran) == "".join(starts)
    assert all(len(values) == 3 for values in per_call.values())


def test_another_clock_may_time_anything(clock):
    """The timed object need not be a call: here it is the seconds that it takes."""
    asked = []

    def seconds_of(seconds, num_calls):
        asked.append(num_calls)
        return seconds * num_calls

    per_call, num_calls = timing.interleave({"a": 0.25, "b": 2.0}, rounds=3, round_s=1.0, seconds_of=seconds_of)
    assert per_call == {"a": [0.25] * 3, "b": [2.0] * 3}
    assert num_calls == {"a": 4, "b": 1}
    assert sorted(asked) == [1] * 6 + [4] * 4


def test_rounds_go_on_until_the_seconds_have_passed(clock):
    per_call, _ = timing.interleave(
        {"a": clock.takes("a", 1.0), "b": clock.takes("b", 1.0)}, rounds=7, seconds=40.0, round_s=1.0
    )
    assert len(per_call["a"]) == len(per_call["b"]) == 20


def test_what_happens_before_the_calls_is_not_timed(clock):
    def before(name):
        clock.now += 100.0

    per_call, _ = timing.interleave({"a": clock.takes("a", 1.0)}, rounds=7, round_s=1.0, before=before)
    assert per_call == {"a": [1.0] * 7}


@pytest.mark.parametrize("was_enabled", [True, False])
def test_the_garbage_collector_is_as_it_was_even_after_an_error(clock, was_enabled):
    def fail():
        raise RuntimeError("broken step")

    try:
        (gc.enable if was_enabled else gc.disable)()
        with pytest.raises(RuntimeError, match="broken step"):
            timing.interleave({"a": fail})
        assert gc.isenabled() is was_enabled
        assert gc.get_freeze_count() == 0
    finally:
        gc.enable()


def test_quartiles():
    assert timing.quartiles([5.0, 1.0, 4.0, 2.0, 3.0]) == (2.0, 3.0, 4.0)
    assert timing.quartiles([0.0, 1.0]) == (0.25, 0.5, 0.75)
    assert timing.quartiles([3.0]) == (3.0, 3.0, 3.0)
