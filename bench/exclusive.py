"""Turns between the stages of `python -m bench gpu`: one stage computes at a time.

While a process holds the turn, no other stage computes.

The run lends one turn at a time, over a socket whose path is in the environment. Before it lends a
turn, it stops the processes of every other stage, so that neither their compilers nor their kernels
run beside the measurement. Host-bound code (eager steps) has the cores, and the device does nothing
but what was queued before, which has SETTLE_S seconds to finish. Where no run lends turns, nothing
happens here.
"""

import contextlib
import functools
import os
import socket
import time
from collections.abc import Callable, Iterator

SOCKET = "FASTGAN_BENCH_TURNS"  # the path of the socket; unset: nobody lends turns
SETTLE_S = 0.05  # kernels that a stopped process had queued: the host is at most a launch or two ahead
GRANTED = b"g"

_depth = 0  # a turn inside a turn is the same turn


def is_lent() -> bool:
    """Return True where this process is a stage of a run that lends turns.

    Such a process may be stopped while others measure.
    """
    return SOCKET in os.environ


def note() -> str:
    """Return the note of a row on its compile time in a run that lends turns.

    Empty where nobody lends any.
    """
    return (
        "other stages stood still while it was timed, and compiled while it did: its compile time is no measurement"
        if is_lent()
        else ""
    )


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the turn inside the context; can also decorate a function.

    Raises ConnectionError where the run that lends turns is gone.
    """
    global _depth
    if not is_lent() or _depth:
        yield
        return
    with _turn():
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Hold a connection for as long as the turn lasts.

    The turn of a process that dies ends with its connection.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(os.environ[SOCKET])
            connection.sendall(f"{os.getpgrp()}\n".encode())
            answer = connection.recv(1)
        except OSError as error:
            raise ConnectionError(f"no turn to measure alone: {error.strerror} at {os.environ[SOCKET]}") from error
        if answer != GRANTED:
            raise ConnectionError("no turn to measure alone: the run that lends turns has ended")
        time.sleep(SETTLE_S)
        yield


def guard_timings() -> None:
    """Let the timings inside fastgan and the compiler take turns.

    These time operators, sizes of a launch and configurations of Triton kernels.

    Does nothing where nobody lends turns. Raises AttributeError where one of these functions does
    not exist, for then a choice would be made by times that other stages disturb.
    """
    if not is_lent():
        return
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    from fastgan.engine import captured
    from fastgan.ops.dispatch import autotune

    for owner, name in (
        (autotune, "_fastest"),
        (captured, "_seconds_per_step"),
        (CachingAutotuner, "benchmark_all_configs"),
    ):
        function = getattr(owner, name)
        if not hasattr(function, "takes_turns"):
            setattr(owner, name, _taking_turns(function))


def _taking_turns(function: Callable) -> Callable:
    @functools.wraps(function)
    def call(*arguments, **options):
        with alone():
            return function(*arguments, **options)

    call.takes_turns = True
    return call
