"""The fused operators on this machine: which are right, and which are chosen.

`python -m fastgan.bench.gpu.operators check --rows FILE` runs every implementation against float64.
Each check has a process of its own, all at once.

`python -m fastgan.bench.gpu.operators choose --cases dcgan:128 mlp:128 --rows FILE` times them on
the calls of some steps.

Verdicts and choices are kept where fastgan looks for them, as soon as they are known: what runs
afterwards on this machine avoids what is wrong, and neither checks nor times again.
"""
import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import torch

from fastgan.bench import json_lines, machine
from fastgan.ops.dispatch import autotune, registry, self_checks
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
            json_lines.append_row(path, row)
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


def choose(preset: str, batch_size: int | None, path: Path) -> list[dict]:
    """Return a row for every kind of call of the eager bf16 step of a preset.

    It holds the choice, and the quartiles of each implementation in microseconds.
    """
    # Here: the checks come first on a machine, and are not to wait for what they do not use
    from fastgan.bench.fastgan_loop import FastganLoop
    from fastgan.bench.implementations import rung_config
    from fastgan.bench.step_cases import make_case

    case, before = make_case(preset, batch_size), set(autotune.table())
    loop = FastganLoop(rung_config(case.config, True, "eager"), case.device, case.images)
    loop.prepare()
    stamp = {
        "preset": preset,
        "batch_size": batch_size,
        "torch": torch.__version__,
        "commit": machine.commit(),
        "gpu": machine.stamp()["gpu"],
    }
    found = [{"kind": "choice", "call": call, "chosen": times.chosen, "microseconds": times.microseconds, **stamp}
             for call, times in autotune.table().items() if call not in before]  # fmt: skip
    for row in found:
        json_lines.append_row(path, row)
        print(row, flush=True)
    print(f"{preset} {batch_size}: {autotune.used()}", flush=True)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Check everything, 0 where every implementation is right, else 1; or time one case after the
    other.
    """
    parser = argparse.ArgumentParser("python -m fastgan.bench.gpu.operators")
    parser.add_argument("what", choices=("check", "choose"))
    parser.add_argument("--cases", nargs="+", default=[], metavar="PRESET:BATCH")
    parser.add_argument("--device", default="cuda", help="whose implementations are checked")
    parser.add_argument("--rows", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.what == "check":
        return int(any(row["problem"] is not None for row in check_all(options.device, options.rows)))
    for case in options.cases:
        preset, _, batch_size = case.partition(":")
        choose(preset, int(batch_size) if batch_size else None, options.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
