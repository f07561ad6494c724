"""Turns between processes: the holder, the next in line, and the functions that take a turn."""

import os
import subprocess
import sys
import threading
import time

import pytest

from fastgan.bench import exclusive, timing
from fastgan.bench.exclusive import Turns
from fastgan.bench.places import ROOT


@pytest.fixture
def turns(monkeypatch):
    turns = Turns()
    monkeypatch.setenv(exclusive.SOCKET, str(turns.path))
    monkeypatch.setattr(exclusive, "SETTLE_S", 0.0)
    yield turns
    turns.close()


def wait_for(turns, condition):
    for _ in range(500):
        turns.update()
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_where_nobody_lends_turns_nothing_happens(monkeypatch):
    monkeypatch.delenv(exclusive.SOCKET, raising=False)
    with exclusive.alone():
        assert not exclusive.is_lent()
    assert exclusive.note() == ""


def test_a_turn_begins_when_it_is_lent_and_ends_with_what_it_encloses(turns):
    seen, go_on = [], threading.Event()

    def measure():
        with exclusive.alone(), exclusive.alone():  # one inside another is the same
            seen.append("began")
            go_on.wait(10)

    thread = in_thread(measure)
    wait_for(turns, lambda: turns.next_group() is not None)
    assert (turns.next_group(), turns.groups_waiting(), seen) == (os.getpgrp(), {os.getpgrp()}, [])
    turns.lend()
    wait_for(turns, lambda: seen)
    assert turns.holder.group == os.getpgrp()
    assert turns.next_group() is None
    go_on.set()
    wait_for(turns, lambda: turns.holder is None)
    thread.join()


@pytest.mark.parametrize("times", [1, 2])
def test_a_process_that_dies_gives_its_turn_back(turns, times):
    code = "import os, time; from fastgan.bench import exclusive\nwith exclusive.alone(): os._exit(3)"
    for _ in range(times):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        wait_for(turns, lambda: turns.next_group() is not None)
        turns.lend()
        wait_for(turns, lambda: turns.holder is None)
        assert process.wait() == 3


def test_one_that_is_gone_before_its_turn_is_forgotten(turns):
    process = subprocess.Popen(
        [sys.executable, "-c", "from fastgan.bench import exclusive\nwith exclusive.alone(): pass"], cwd=ROOT
    )
    wait_for(turns, lambda: turns.next_group() is not None)
    process.kill()
    process.wait()
    wait_for(turns, lambda: not turns.waiting)
    assert turns.next_group() is None


def test_a_run_that_has_ended_is_an_error_and_not_a_turn(turns, monkeypatch):
    failures = []

    def measure():
        try:
            with exclusive.alone():
                failures.append("measured")
        except ConnectionError as error:
            failures.append(str(error))

    thread = in_thread(measure)
    wait_for(turns, lambda: turns.next_group() is not None)
    turns.close()
    thread.join()
    assert failures == ["no turn to measure alone: the run that lends turns has ended"]
    monkeypatch.setenv(exclusive.SOCKET, "/nowhere/socket")
    with pytest.raises(ConnectionError, match="/nowhere/socket"), exclusive.alone():
        pass


def test_the_timer_takes_a_turn(turns):
    calls = []
    thread = in_thread(lambda: timing.interleave({"a": lambda: calls.append(1)}, rounds=1, round_s=0.0))
    wait_for(turns, lambda: turns.next_group() is not None)
    assert calls == []
    turns.lend()
    thread.join()
    assert calls


def test_what_fastgan_and_the_compiler_time_takes_turns_too(turns, monkeypatch):
    """The replaced names exist in this torch and in fastgan.

    Their functions are called inside a turn.
    """
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    from fastgan.engine import captured
    from fastgan.ops.dispatch import autotune

    for owner, name in (
        (autotune, "_fastest"),
        (captured, "_seconds_per_step"),
        (CachingAutotuner, "benchmark_all_configs"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back at the end
    seen = []
    monkeypatch.setattr(autotune, "_fastest", lambda *arguments: seen.append(exclusive._depth) or "fastest")
    exclusive.guard_timings()
    exclusive.guard_timings()  # once is enough
    thread = in_thread(lambda: seen.append(autotune._fastest({}, "cpu")))
    wait_for(turns, lambda: turns.next_group() is not None)
    turns.lend()
    thread.join()
    assert seen == [1, "fastest"]
    assert all(
        hasattr(each, "takes_turns") for each in (captured._seconds_per_step, CachingAutotuner.benchmark_all_configs)
    )
    assert not hasattr(autotune._fastest.__wrapped__, "takes_turns")
