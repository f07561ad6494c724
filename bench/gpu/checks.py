"""Every implementation of every fused operator against float64: `python -m bench.gpu.checks --rows FILE`.

Each check has a process of its own, all at once, so that a kernel that crashes or hangs takes no other verdict with it. The verdicts are kept where
fastgan looks for them, so that everything that runs afterwards on this machine does without what is wrong, and without checking again.
"""
import argparse
import importlib
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import torch

from bench.gpu import rows
from fastgan import ops
from fastgan.ops.findings import Findings

CHECK_S = 60.0  # a check with everything that it compiles


def check_all(device_type: str, path: Path, seconds: float = CHECK_S) -> list[dict]:
    """A row for every implementation for tensors of this device type, written as soon as its verdict is known; problem is None where it is right."""
    every = [(op, implementation) for op, names in ops.OPS.items() for implementation in names if _is_for(implementation, device_type)]
    missing = [ops.unavailable(implementation, device_type) for _, implementation in every]  # loads the library, which only one thread may
    with ThreadPoolExecutor(len(every)) as pool:
        running = [pool.submit(_row, *names, device_type, reason, seconds) for names, reason in zip(every, missing, strict=True)]
        found = []
        for each in as_completed(running):
            found.append(each.result())
            rows.append(path, found[-1])
            print(found[-1], flush=True)
    _keep(found, device_type)
    return found


def check_here(op: str, implementation: str, device_type: str) -> str | None:
    """The verdict of the operator's own self-check, in this process. Whatever it raises, it raises."""
    torch.manual_seed(0)
    with torch.no_grad():
        return importlib.import_module(f"fastgan.ops.{op}").self_check(implementation, torch.device(device_type))


def _is_for(implementation: str, device_type: str) -> bool:
    return ops.DEVICE_TYPES.get(implementation, device_type) == device_type


def _row(op: str, implementation: str, device_type: str, missing: str | None, seconds: float) -> dict:
    started = time.perf_counter()
    problem = missing or _verdict([sys.executable, "-m", "bench.gpu.checks", "--check", op, implementation, "--device", device_type], seconds)
    took = round(time.perf_counter() - started, 1)
    return {"kind": "check", "op": op, "implementation": implementation, "problem": problem, "is_available": missing is None, "seconds": took}


def _verdict(command: list[str], seconds: float) -> str | None:
    """What a check in a process of its own says in its last line, or how the process ended."""
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"its check took more than {seconds:g} s"
    sys.stderr.write(child.stderr)
    if child.returncode:
        return f"the process that checked it ended with code {child.returncode}: {(child.stderr.strip().splitlines() or ['it said nothing'])[-1]}"
    return json.loads(child.stdout.splitlines()[-1])


def _keep(found: list[dict], device_type: str) -> None:
    """As fastgan.ops.trust keeps its own verdicts."""
    verdicts = Findings("verdicts", device_type, lambda verdict: verdict is None or isinstance(verdict, str))
    verdicts.update({f"{row['op']} {row['implementation']}": row["problem"] for row in found if row["is_available"]})
    verdicts.save()


def main(arguments: list[str] | None = None) -> int:
    """0 where everything that there is is right, else 1."""
    parser = argparse.ArgumentParser("python -m bench.gpu.checks")
    parser.add_argument("--rows", type=Path, metavar="FILE")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--check", nargs=2, metavar=("OP", "IMPLEMENTATION"), help="this one, in this process")
    options = parser.parse_args(arguments)
    if options.check:
        print(json.dumps(check_here(*options.check, options.device)))
        return 0
    return int(any(row["problem"] is not None for row in check_all(options.device, options.rows)))


if __name__ == "__main__":
    sys.exit(main())
