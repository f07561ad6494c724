"""Is an implementation right on this machine? Each is checked on first use, on small random inputs,
before anything relies on it.

The yardstick is the library's own error: an implementation may be twice as far from the float64
result as the reference in the same dtype. What fails is left out, with one warning and a line in
`fastgan info`; verdicts are kept between runs. On CUDA the checks run in child processes
(check_subprocess.py), because a kernel that reads outside memory takes its process with it.
"""
import functools
import importlib
import traceback
import warnings
from collections.abc import Sequence

import torch

from fastgan.ops.dispatch import registry
from fastgan.ops.dispatch.cache import Findings
from fastgan.ops.dispatch.check_subprocess import LINE_LENGTH, OUT_OF_MEMORY, Verdict, check_elsewhere, say


def status() -> list[registry.Row]:
    """One row per op and implementation: what can run on this machine, and for the rest why not and
    how to get it. Runs the self-checks.
    """
    rows = []
    for op, implementations in registry.OPS.items():
        rows.append(registry.Row(op, "reference", True, ""))
        for implementation in implementations:
            reason = problem(op, implementation, registry.DEVICE_TYPES.get(implementation, "cpu"))
            rows.append(registry.Row(op, implementation, reason is None, reason or ""))
    return rows


def problem(op: str, implementation: str, device_type: str) -> str | None:
    """Why `implementation` of `op` must not be used on tensors of this device type, or None.

    Checks it on first use.
    """
    return registry.unavailable(implementation, device_type) or _failed_check(op, implementation, device_type)


def three_way_problem(what: str, ours: torch.Tensor, reference: torch.Tensor, truth: torch.Tensor) -> str | None:
    """Whether `ours` is further from `truth` (float64) than twice the error of `reference`, which
    has the dtype of ours; in words, or None.
    """
    if ours.shape != truth.shape or ours.dtype != reference.dtype:
        return f"{what} is {ours.dtype} {list(ours.shape)} instead of {reference.dtype} {list(truth.shape)}"
    error, library_error = ((tensor.double() - truth).abs().max().item() for tensor in (ours, reference))
    # A rounding, where the reference happens to be exact; in the dtype of the sums a few, for sums of another order.
    roundings = 4 if ours.dtype in (torch.float32, torch.float64) else 1
    allowed = 2 * library_error + roundings * torch.finfo(ours.dtype).eps * truth.abs().max().item()
    # a NaN is not <=
    return None if error <= allowed else f"{what} is off by {error:.2g}, where {allowed:.2g} are allowed"


def keep(key: str, verdict: Verdict, device_type: str) -> None:
    """Let this machine's later runs do without this check, unless it said nothing about the
    implementation.
    """
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
    """The verdicts on all that is available on the device, at the price of one start of a process;
    each is kept as soon as it is known.
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
        # As if nothing was around it: the first call may come from within autocast, from a backward
        # pass, or between two draws of random numbers.
        with torch.random.fork_rng(), torch.autocast(device_type, enabled=False), torch.no_grad():
            torch.manual_seed(0)
            return Verdict(
                importlib.import_module(registry.module_of(op)).self_check(implementation, torch.device(device_type))
            )
    except Exception as error:  # whatever a kernel can do wrong is a reason not to use it
        words = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:LINE_LENGTH] if str(error).strip() else 'no message'}"
        # an OSError: a full disk, too many open files
        is_own = not isinstance(error, OSError) and not OUT_OF_MEMORY.search(words)
        return Verdict(words, is_own, traceback.format_exc()[-4096:])


def serve(device_type: str, keys: Sequence[str]) -> None:
    """What a child does (check_subprocess.py): check these, each "op implementation", and say what
    was found.
    """
    torch.zeros(1, device=device_type)  # no operator is to blame where a process cannot use the device
    for key in keys:
        say(key)
        op, implementation = key.split()
        missing = registry.unavailable(implementation, device_type)  # loads the library
        say(key, *(Verdict(missing, is_own=False) if missing else _check(op, implementation, device_type)))
