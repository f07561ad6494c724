"""The one timer: several callables in turn, round by round.

So whatever else the machine does affects all of them alike.
"""
import contextlib
import gc
import math
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import TypeVar

import torch

from fastgan.bench import exclusive

Call = TypeVar("Call")  # Callable[[], object], or what `seconds_of` takes
MIN_ROUNDS = 7
ROUND_S = 0.3  # a round of one callable lasts about this long, and is at least one call


@exclusive.alone()
def interleave(
    calls: dict[str, Call],
    rounds: int = MIN_ROUNDS,
    seconds: float = 0.0,
    round_s: float = ROUND_S,
    before: Callable[[str], None] = lambda name: None,
    seconds_of: Callable[[Call, int], float] | None = None,
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Time callables in turn.

    Returns (seconds per call of every callable, one number a round; calls in a round of every
    callable).

    Each round runs every callable for about `round_s` seconds, in an order that is rotated by one
    from round to round. A first round decides how many calls that is, a second one is the warm-up,
    and neither counts. At least `rounds` rounds, and on until `seconds` of them have passed.
    before(name): called ahead of the calls of `name`, outside the measured time. The garbage
    collector stands still meanwhile, and so do the other stages of a run on a GPU machine
    (exclusive.py); CUDA is waited for. seconds_of(call, num): the seconds of num calls; None = by
    the wall clock, with the host's part. With it a call may be anything that it takes.
    """
    names, seconds_of = list(calls), seconds_of or _seconds_of
    per_call: dict[str, list[float]] = {name: [] for name in names}
    with _no_garbage_collection():
        num_calls = {
            name: _calls_in_a_round(partial(seconds_of, calls[name]), round_s, partial(before, name)) for name in names
        }
        for name in names:
            before(name)
            seconds_of(calls[name], num_calls[name])
        started = perf_counter()
        index = 0
        while index < rounds or perf_counter() - started < seconds:
            for name in _rotated(names, index):
                before(name)
                per_call[name].append(seconds_of(calls[name], num_calls[name]) / num_calls[name])
            index += 1
    return per_call, num_calls


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return (lower quartile, median, upper quartile) by linear interpolation.

    One value is all three.
    """
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, median, upper


def synchronize() -> None:
    """Wait until CUDA, where it is in use, has finished its queued work."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _rotated(names: list[str], index: int) -> list[str]:
    start = index % len(names)
    return names[start:] + names[:start]


def _seconds_of(call: Callable[[], object], num_calls: int) -> float:
    synchronize()
    started = perf_counter()
    for _ in range(num_calls):
        call()
    synchronize()
    return perf_counter() - started


def _calls_in_a_round(seconds_of: Callable[[int], float], round_s: float, before: Callable[[], None]) -> int:
    """Return the number of calls that fill a round.

    It is doubled until the calls take a good part of the round, for a single one is far too short
    to be timed.
    """
    before()
    num_calls = 1
    while True:
        duration = seconds_of(num_calls)
        if duration >= round_s / 4:
            return max(1, math.ceil(num_calls * round_s / duration))
        num_calls *= 2


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
