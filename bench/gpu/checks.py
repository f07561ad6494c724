"""Every implementation of every fused operator against float64.

`python -m bench.gpu.checks --rows FILE`

Each check has a process of its own, all at once. The verdicts are kept where fastgan looks for
them, as soon as they are known, so that everything that runs afterwards on this machine avoids what
is wrong, without checking again.
"""
import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from bench.gpu import rows
from fastgan.ops.dispatch import registry, self_checks
from fastgan.ops.dispatch.check_subprocess import Verdict, check_elsewhere

CHECK_S = 60.0  # a check with everything that it compiles


def check_all(device_type: str, path: Path, seconds: float = CHECK_S) -> list[dict]:
    """Check every implementation for tensors of this device type and return the rows.

    A row is written as soon as its verdict is known; problem is None where the implementation is
    right.
    """
    every = [
        (op, implementation)
        for op, names in registry.OPS.items()
        for implementation in names
        if _is_for(implementation, device_type)
    ]
    # Loads the library, which only one thread may
    missing = [registry.unavailable(implementation, device_type) for _, implementation in every]
    with ThreadPoolExecutor(len(every)) as pool:
        running = [
            pool.submit(_row, *names, device_type, reason, seconds)
            for names, reason in zip(every, missing, strict=True)
        ]
        found = []
        for each in as_completed(running):
            row, verdict = each.result()
            rows.append(path, row)
            self_checks.keep(f"{row['op']} {row['implementation']}", verdict, device_type)
            sys.stderr.write(verdict.details)
            print(row, flush=True)
            found.append(row)
    return found


def _is_for(implementation: str, device_type: str) -> bool:
    return registry.DEVICE_TYPES.get(implementation, device_type) == device_type


def _row(op: str, implementation: str, device_type: str, missing: str | None, seconds: float) -> tuple[dict, Verdict]:
    started, key = time.perf_counter(), f"{op} {implementation}"
    verdict = Verdict(missing, is_own=False) if missing else dict(check_elsewhere([key], device_type, seconds))[key]
    took = round(time.perf_counter() - started, 1)
    row = {
        "kind": "check",
        "op": op,
        "implementation": implementation,
        "problem": verdict.problem,
        "is_available": missing is None,
        "seconds": took,
    }
    return row, verdict


def main(arguments: list[str] | None = None) -> int:
    """Run all checks; 0 where every implementation is right, else 1."""
    parser = argparse.ArgumentParser("python -m bench.gpu.checks")
    parser.add_argument("--rows", type=Path, metavar="FILE")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args(arguments)
    return int(any(row["problem"] is not None for row in check_all(options.device, options.rows)))


if __name__ == "__main__":
    sys.exit(main())
