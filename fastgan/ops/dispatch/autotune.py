"""Autotuning: the choice of the fastest implementation of an operator for each kind of call.

Implementations are timed on this machine, with the real shapes, dtypes and memory formats of a call
(the idea of cudnn.benchmark): an eager call of a kind that is not in the table is timed on first
use. While code is traced or recorded the table is looked up, and a kind of call that it does not
have runs the reference; so eager steps precede compilation, inside `measuring()`, or `warm_up` in a
user's own code. An implementation that is not faster than the reference beyond the noise is not
used.
"""
import contextlib
import functools
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch

from fastgan.errors import UserError
from fastgan.ops.dispatch import device, registry, self_checks, timing
from fastgan.ops.dispatch.cache import Findings

REFERENCE = "reference"
ROUNDS, ATTEMPTS = 7, 3
CALLS_S = 1e-3  # shortest duration of a timing
# Times the reference, in single calls: not worth timing properly. On CUDA the launch of a graph,
# some microseconds, is a part of a single call, so that a short kernel looks less slow than it is,
# and is timed; of CALLS_S in a row it is one in 64.
HOPELESS = 3.0
# Times as fast as the reference in the median of the rounds: timed again, if not in three quarters
# of the rounds.
WORTH_A_LOOK = 1.05

_forced: dict[str, str] = {}
_used: dict[tuple[str, str], str] = {}  # (op, call) -> the choice inside the last `measuring()`
_is_measuring = False
_is_fixed = False


class Times(NamedTuple):
    """A row of the table: the choice for a kind of call, and the times behind it.

    The times are the quartiles of each implementation in microseconds. timed: the method of timing
    of each (timing.Timer); for one that could not be timed, and so was left out, the reason.
    """

    chosen: str
    microseconds: dict[str, list[float]]
    timed: dict[str, str]


def pick(op: str, call: str, candidates: Mapping[str, Callable[[], object]], device_type: str) -> str:
    """Return the name of the implementation to run.

    call: shapes, dtype, format and direction, in words that are equal for equal kinds of calls.
    candidates: the implementations that can run this call, by name, REFERENCE among them; each
    returns after launching its work and changes nothing. Those that failed their self-check are
    never picked.
    """
    implementation = _pick(op, call, candidates, device_type)
    if _is_measuring:
        _used[op, call] = implementation
    return implementation


def _pick(op: str, call: str, candidates: Mapping[str, Callable[[], object]], device_type: str) -> str:
    if len(candidates) == 1 or registry.turned_off():
        return REFERENCE
    if op in _forced:
        return _forced[op] if _forced[op] in candidates else REFERENCE
    if _is_fixed:
        return REFERENCE
    table, key = _table(device_type), f"{op} {call}"
    if key not in table and (_is_measuring or _is_eager(device_type)):
        table[key] = _fastest(
            {name: run for name, run in candidates.items() if _is_trusted(op, name, device_type)}, device_type
        )._asdict()
        if not _is_measuring:
            table.save()
    chosen = table[key]["chosen"] if key in table else REFERENCE
    return chosen if chosen in candidates and _is_trusted(op, chosen, device_type) else REFERENCE


@torch.compiler.assume_constant_result
def forced(op: str) -> str | None:
    """Return the implementation that `force` requested.

    Compiled code keeps the implementation that it was traced with: a later force does not compile
    it anew.
    """
    return _forced.get(op)


def _is_eager(device_type: str) -> bool:
    """Return True in a call on real tensors, which nothing traces or records.

    Tracers of torch compute inside a dispatch mode. Other devices than these have no timer.
    """
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack() > 0
    if is_traced or device.described or device_type not in _device_types():
        return False
    return device_type == "cpu" or not torch.cuda.is_current_stream_capturing()


def _is_trusted(op: str, implementation: str, device_type: str) -> bool:
    return implementation == REFERENCE or self_checks.problem(op, implementation, device_type) is None


@contextlib.contextmanager
def measuring() -> Iterator[None]:
    """Time calls inside whose kind is not in the table; keep the results for later runs."""
    global _is_measuring
    _used.clear()
    before, sizes = _is_measuring, {device_type: len(_table(device_type)) for device_type in _device_types()}
    _is_measuring = True
    try:
        yield
    finally:
        _is_measuring = before
        for device_type, size in sizes.items():
            if len(_table(device_type)) > size:
                _table(device_type).save()


def warm_up(run: Callable[[], object]) -> str:
    """Call `run` once, all in eager code; time the kinds of calls in it that are new; see `used`.

    Compiled code contains the implementations that were known when it was traced, so a training
    loop that compiles its step calls this before the first step. What `run` changes stays changed.
    """
    with measuring(), torch.compiler.set_stance("force_eager"):
        run()
    return used()


def fix(fixed: bool) -> None:
    """Run the reference from now on, with True, wherever no implementation is forced.

    The implementation that measures as the fastest differs from run to run.
    """
    global _is_fixed
    _is_fixed = fixed


def force(implementations: Mapping[str, str]) -> None:
    """Run these implementations, by op, wherever they fit, without measuring.

    'auto' undoes a force. Raises UserError, with the reason, for an implementation that does not
    exist or cannot run here.
    """
    for op, implementation in implementations.items():
        if implementation == "auto":
            _forced.pop(op, None)
            continue
        known = (REFERENCE, *registry.OPS[op])
        if implementation not in known:
            raise UserError(f"ops.{op}={implementation} is unknown: choose auto or one of {', '.join(known)}.")
        device_type = "cpu" if implementation == "cpu" or not torch.cuda.is_available() else "cuda"
        problem = None if implementation == REFERENCE else self_checks.problem(op, implementation, device_type)
        if problem:
            raise UserError(f"ops.{op}={implementation} cannot be used: {problem}.")
        _forced[op] = implementation


def used() -> str:
    """Return the choices of the last `measuring()` in words.

    For example `deconv: cpu 6, reference 8 (kinds of calls)`.
    """
    counts: dict[str, Counter[str]] = {}
    for (op, _), implementation in _used.items():
        counts.setdefault(op, Counter())[implementation] += 1
    each = (
        f"{op}: " + ", ".join(f"{name} {number}" for name, number in sorted(counts[op].items()))
        for op in sorted(counts)
    )
    return "; ".join(each) + " (kinds of calls)" if counts else "none"


def table() -> dict[str, Times]:
    """Return all measurements on this machine, by kind of call and device type."""
    return {
        f"{key} on {device}": Times(**row) for device in _device_types() for key, row in sorted(_table(device).items())
    }


@functools.cache
def _table(device_type: str) -> Findings:
    return Findings("times", device_type, lambda row: isinstance(row, dict) and set(row) == set(Times._fields))


def _device_types() -> tuple[str, ...]:
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


@torch.no_grad()
def _fastest(candidates: Mapping[str, Callable[[], object]], device_type: str) -> Times:
    """Time the candidates in turn, ROUNDS times, without the hopelessly slow ones.

    They are timed again where other work on the machine hides which is the fastest.
    """
    timers = {name: timing.timer(run, device_type) for name, run in candidates.items()}
    once, failed = _time_once(timers)
    seconds: dict[str, list[float]] = {}
    try:
        if REFERENCE in once:
            worth_it = {
                name: timers[name]
                for name in once
                if min(once[name], timers[name].seconds(1)) <= HOPELESS * once[REFERENCE]
            }
            seconds = _time_in_rounds(worth_it, {name: max(1, round(CALLS_S / once[name])) for name in worth_it})
    except timing.HostWaitsError as error:
        failed[REFERENCE] = str(error)
    best, (slow, *_) = _best(seconds) if seconds else (REFERENCE, (0.0,))
    quartiles = {
        name: [1e6 * quartile for quartile in statistics.quantiles(each, n=4)] for name, each in seconds.items()
    }
    return Times(
        best if slow > 1 else REFERENCE, quartiles, {name: timer.how for name, timer in timers.items()} | failed
    )


def _time_once(timers: Mapping[str, timing.Timer]) -> tuple[dict[str, float], dict[str, str]]:
    """Return (seconds of one call, reasons why others cannot be timed)."""
    once, failed = {}, {}
    for name, each in timers.items():
        try:
            once[name] = each.seconds(1)
        except timing.HostWaitsError as error:
            failed[name] = str(error)
    return once, failed


def _time_in_rounds(timers: Mapping[str, timing.Timer], num_calls: Mapping[str, int]) -> dict[str, list[float]]:
    """Return the seconds a call of every timer, one number a round."""
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(ATTEMPTS):
        for _ in range(ROUNDS):
            for name, each in timers.items():
                seconds[name].append(each.seconds(num_calls[name]))
        _, (slow, gain, _) = _best(seconds)
        if slow > 1 or gain < WORTH_A_LOOK:
            break
    return seconds


def _best(seconds: Mapping[str, list[float]]) -> tuple[str, list[float]]:
    """Return the candidate with the smallest median, and the quartiles of its speed-up.

    The speed-up over the reference is taken within a round.
    """
    best = min(seconds, key=lambda name: statistics.median(seconds[name]))
    return best, statistics.quantiles(
        [reference / ours for reference, ours in zip(seconds[REFERENCE], seconds[best], strict=True)], n=4
    )
