"""Self-checks of implementations on this machine, before anything relies on them.

Each implementation is checked on first use, on small random inputs. The tolerance is the library
error: an implementation may be twice as far from the float64 result as the reference in the same
dtype. One that fails is left out, with one warning and a line in `fastgan info`; verdicts are kept
between runs. On CUDA the checks run in child processes (check_subprocess.py), because a kernel that
reads outside memory takes its process with it.
"""
import functools
import importlib
import traceback
import warnings
from collections.abc import Sequence

import torch

from fastgan.errors import first_line
from fastgan.ops.dispatch import registry
from fastgan.ops.dispatch.cache import Findings
from fastgan.ops.dispatch.check_subprocess import LINE_LENGTH, OUT_OF_MEMORY, Verdict, check_elsewhere, say


def status() -> list[registry.Row]:
    """Return one row per op and implementation, with its state on this machine.

    For those that cannot run, the row gives the reason and the remedy. Runs the self-checks.
    """
    rows = []
    for op, implementations in registry.OPS.items():
        rows.append(registry.Row(op, "reference", True, ""))
        for implementation in implementations:
            reason = problem(op, implementation, registry.DEVICE_TYPES.get(implementation, "cpu"))
            rows.append(registry.Row(op, implementation, reason is None, reason or ""))
    return rows


def problem(op: str, implementation: str, device_type: str) -> str | None:
    """Return the reason why `implementation` of `op` must not be used on this device type, or None.

    Runs its self-check on first use.
    """
    return registry.unavailable(implementation, device_type) or _failed_check(op, implementation, device_type)


def three_way_problem(what: str, ours: torch.Tensor, reference: torch.Tensor, truth: torch.Tensor) -> str | None:
    """Return a problem in words if `ours` has more than twice the error of `reference`, else None.

    Errors are distances from `truth` (float64); `reference` has the dtype of ours.
    """
    if ours.shape != truth.shape or ours.dtype != reference.dtype:
        return f"{what} is {ours.dtype} {list(ours.shape)} instead of {reference.dtype} {list(truth.shape)}"
    error, library_error = ((tensor.double() - truth).abs().max().item() for tensor in (ours, reference))
    # One rounding, where the reference happens to be exact; in the dtype of the sums a few, for
    # another order of summation.
    roundings = 4 if ours.dtype in (torch.float32, torch.float64) else 1
    allowed = 2 * library_error + roundings * torch.finfo(ours.dtype).eps * truth.abs().max().item()
    # A NaN is not <= anything.
    return None if error <= allowed else f"{what} is off by {error:.2g}, where {allowed:.2g} are allowed"


def keep(key: str, verdict: Verdict, device_type: str) -> None:
    """Save a verdict for later runs on this machine, if it concerns the implementation."""
    if verdict.is_own:
        verdicts = _kept(device_type)
        verdicts[key] = verdict.problem
        verdicts.save()


def _kept(device_type: str) -> Findings:
    return Findings("verdicts", device_type, lambda verdict: verdict is None or isinstance(verdict, str))


@functools.cache
def _failed_check(op: str, implementation: str, device_type: str) -> str | None:
    kept, key = _kept(device_type), f"{op} {implementation}"
    if key in kept:
        verdict = Verdict(kept[key])
    elif device_type == "cuda":
        verdict = _all_checked_elsewhere(device_type)[key]
    else:
        verdict = _check(op, implementation, device_type)
        keep(key, verdict, device_type)
    if verdict.problem is None:
        return None
    failed = f"it failed its check: {verdict.problem} (delete {kept.path} to check it again)"
    reason = failed if verdict.is_own else f"it was not checked: {verdict.problem}"
    warnings.warn(f"{op}: the implementation {implementation!r} is not used, for {reason}", stacklevel=2)
    return reason


@functools.cache
def _all_checked_elsewhere(device_type: str) -> dict[str, Verdict]:
    """Return the verdicts on all available implementations of the device, by child processes.

    All share one start of a process; each verdict is kept as soon as it is known.
    """
    found = {key: Verdict(problem) for key, problem in _kept(device_type).items()}
    available = [
        f"{op} {name}"
        for op, names in registry.OPS.items()
        for name in names
        if registry.unavailable(name, device_type) is None
    ]
    for key, verdict in check_elsewhere([key for key in available if key not in found], device_type):
        found[key] = verdict
        keep(key, verdict, device_type)
    return found


def _check(op: str, implementation: str, device_type: str) -> Verdict:
    try:
        # Isolated from the caller: the first call may come from within autocast, from a backward
        # pass, or between two draws of random numbers.
        with torch.random.fork_rng(), torch.autocast(device_type, enabled=False), torch.no_grad():
            torch.manual_seed(0)
            return Verdict(
                importlib.import_module(registry.module_of(op)).self_check(implementation, torch.device(device_type))
            )
    except Exception as error:  # any error of a kernel is a reason not to use it
        words = first_line(error)[:LINE_LENGTH]
        # An OSError: a full disk, too many open files.
        is_own = not isinstance(error, OSError) and not OUT_OF_MEMORY.search(words)
        return Verdict(words, is_own, traceback.format_exc()[-4096:])


def serve(device_type: str, keys: Sequence[str]) -> None:
    """Run these checks in a child (check_subprocess.py), and print the verdicts.

    keys: each "op implementation".
    """
    torch.zeros(1, device=device_type)  # no operator is at fault where a process cannot use the device
    for key in keys:
        say(key)
        op, implementation = key.split()
        missing = registry.unavailable(implementation, device_type)  # loads the library
        say(key, *(Verdict(missing, is_own=False) if missing else _check(op, implementation, device_type)))
