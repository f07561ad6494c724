"""Memory errors and races of the native CUDA kernels, found by compute-sanitizer.

`python -m bench.gpu.sanitizer --rows FILE`

Each tool of compute-sanitizer runs the self-check of each operator, on small inputs of odd sizes,
in a process of its own, a few at a time. torch's own allocator is turned off meanwhile, so that the
tool sees every tensor's end.
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from bench.gpu import evidence, rows
from bench.machine import ROOT
from fastgan.ops.dispatch import registry

TOOLS = ("memcheck", "racecheck", "synccheck")
CASE_S, AT_ONCE = 120.0, 3
FOUND = re.compile(r"ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard")
CHECK = "from fastgan.ops.dispatch import self_checks; self_checks.serve('cuda', [{key!r}])"


def keys() -> list[str]:
    """Return the key of every operator that has a native CUDA kernel."""
    return [f"{op} cuda" for op, implementations in registry.OPS.items() if "cuda" in implementations]


def command(tool: str, key: str) -> list[str]:
    """Return the command of compute-sanitizer around the self-check of `key`."""
    return [
        "compute-sanitizer",
        "--tool",
        tool,
        "--target-processes",
        "all",
        sys.executable,
        "-c",
        CHECK.format(key=key),
    ]


def check(tool: str, key: str) -> dict:
    """Return the row of one tool on one operator.

    problem is None where it found nothing; errors is None where it did not report a number.
    """
    row = {"kind": "sanitizer", "tool": tool, "op": key}
    try:
        ended = subprocess.run(command(tool, key), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, errors="replace",
                               timeout=CASE_S, env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return {**row, "errors": None, "problem": f"it did not end: {type(error).__name__}"}
    if evidence.folder() is not None:
        (evidence.folder() / f"sanitizer-{tool}-{key.replace(' ', '-')}.txt").write_text(ended.stdout)
    return {**row, **verdict(ended.stdout, ended.returncode)}


def verdict(said: str, code: int) -> dict:
    """Return {errors, problem} from the output of the tool."""
    summary = FOUND.search(said)
    if summary is None:
        last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "nothing")
        return {"errors": None, "problem": f"no summary, code {code}: {last}"}
    errors = int(summary[1] or summary[2])
    return {"errors": errors, "problem": f"{errors} errors" if errors else None}


def main(arguments: list[str] | None = None) -> int:
    """Run every tool on every operator; 0 where no tool found anything, else 1."""
    parser = argparse.ArgumentParser("python -m bench.gpu.sanitizer")
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    all_well = True
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for row in pool.map(lambda pair: check(*pair), product(TOOLS, keys())):
            rows.append(options.rows, row)
            print(row, flush=True)
            all_well &= row["problem"] is None
    return int(not all_well)


if __name__ == "__main__":
    sys.exit(main())
