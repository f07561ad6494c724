"""Is an implementation right on this machine? Each is checked on first use, on small random inputs, before anything relies on it.

The yardstick is the library's own error: an implementation may be twice as far from the float64 result as the reference in the same dtype.
What fails is left out, with one warning and a line in `fastgan info`; verdicts are kept between runs. On CUDA the checks run in a process of their
own, because a kernel that reads outside memory takes its process with it.
"""
import functools
import importlib
import json
import subprocess
import sys
import warnings

import torch

from fastgan import ops
from fastgan.ops.findings import Findings

CHECK_SECONDS = 300  # for all checks of a device together, compilation by Triton included


def problem(op: str, implementation: str, device_type: str) -> str | None:
    """Why `implementation` of `op` must not be used on tensors of this device type, or None. Checks it on first use."""
    return ops.unavailable(implementation, device_type) or _failed_check(op, implementation, device_type)


def three_way_problem(what: str, ours: torch.Tensor, reference: torch.Tensor, truth: torch.Tensor) -> str | None:
    """Whether `ours` is further from `truth` (float64) than twice the error of `reference`, which has the dtype of ours; in words, or None."""
    if ours.shape != truth.shape or ours.dtype != reference.dtype:
        return f"{what} is {ours.dtype} {list(ours.shape)} instead of {reference.dtype} {list(truth.shape)}"
    error, yardstick = ((tensor.double() - truth).abs().max().item() for tensor in (ours, reference))
    # A rounding, where the reference happens to be exact; in the dtype of the sums a few, for sums of another order.
    roundings = 4 if ours.dtype in (torch.float32, torch.float64) else 1
    allowed = 2 * yardstick + roundings * torch.finfo(ours.dtype).eps * truth.abs().max().item()
    return None if error <= allowed else f"{what} is off by {error:.2g}, where {allowed:.2g} are allowed"  # a NaN is not <=


@functools.cache
def _failed_check(op: str, implementation: str, device_type: str) -> str | None:
    verdicts, key = Findings("verdicts", device_type, lambda verdict: verdict is None or isinstance(verdict, str)), f"{op} {implementation}"
    if key not in verdicts:
        verdicts.update(_check_elsewhere(device_type) if device_type == "cuda" else {key: _check(op, implementation, device_type)})
        verdicts.setdefault(key, "it was not checked")
        verdicts.save()
    if verdicts[key] is None:
        return None
    warnings.warn(f"{op}: the implementation {implementation!r} is not used, for it failed its check: {verdicts[key]}", stacklevel=2)
    return f"it failed its check: {verdicts[key]}"


def _check(op: str, implementation: str, device_type: str) -> str | None:
    try:
        # As if nothing was around it: the first call may come from within autocast, from a backward pass, or between two draws of random numbers.
        with torch.random.fork_rng(), torch.autocast(device_type, enabled=False), torch.no_grad():
            torch.manual_seed(0)
            return importlib.import_module(f"fastgan.ops.{op}").self_check(implementation, torch.device(device_type))
    except Exception as error:  # whatever a kernel can do wrong is a reason not to use it
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"


def _check_elsewhere(device_type: str) -> dict[str, str | None]:
    """The verdicts of everything that is available on the device, from a child process that prints each as soon as it is known."""
    command = [sys.executable, "-m", "fastgan.ops.trust", device_type]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_SECONDS, check=False)
        output, end = child.stdout, f"the process that checked it ended with code {child.returncode}: {_last_line(child.stderr)}"
    except subprocess.TimeoutExpired as expired:
        output, end = (expired.stdout or b"").decode(), f"its check took more than {CHECK_SECONDS} s"
    verdicts: dict[str, str | None] = {}
    for line in output.splitlines():
        key, verdict = json.loads(line)
        verdicts[key] = end if verdict == "begun" else verdict  # overwritten by the line that ends it, if there is one
    return verdicts


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def _main(device_type: str) -> None:
    for op, implementations in ops.OPS.items():
        for implementation in implementations:
            if ops.unavailable(implementation, device_type) is None:
                print(json.dumps([f"{op} {implementation}", "begun"]), flush=True)
                print(json.dumps([f"{op} {implementation}", _check(op, implementation, device_type)]), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
