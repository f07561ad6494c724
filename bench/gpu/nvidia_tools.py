"""The findings of NVIDIA's tools: hardware counters, memory errors and races.

`python -m fastgan.bench.gpu.nvidia_tools counters --preset dcgan --batch-size 128 --rows FILE`
profiles a compiled step for its longest kernels; then Nsight Compute runs the same step once more,
from the same cache of compiled code, and reads the counters of those alone. The clocks stay as they
are. A row for each kernel; the whole table is kept as evidence.

`python -m fastgan.bench.gpu.nvidia_tools sanitizer --rows FILE` runs the self-check of each
operator in CUDA under each tool of compute-sanitizer, on small inputs of odd sizes, in a process of
its own, a few at a time. torch's own allocator is turned off meanwhile, so that the tool sees every
tensor's end.
"""
import argparse
import csv
import io
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import torch
from torch.profiler import profile

from fastgan.bench import json_lines
from fastgan.bench.gpu import evidence
from fastgan.bench.gpu.kernels import measured_rows
from fastgan.bench.implementations import Implementation, builders
from fastgan.bench.places import ROOT, compiler_cache
from fastgan.bench.step_cases import make_case
from fastgan.ops.dispatch import registry

NUM_KERNELS, LAUNCHES, NCU_S = 10, 60, 110.0
COLUMNS = {
    "gpu__time_duration.sum": "duration",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "dram_percent",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "sm_percent",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy_percent",
    "launch__registers_per_thread": "registers",
    "launch__grid_size": "blocks",
    "launch__block_size": "threads",
}  # by the name of the counter


def compiled_step(preset: str, batch_size: int | None, cache: str) -> Implementation:
    """Return the compiled rung in bf16; its code comes from `cache` where it is there."""
    [build] = builders(make_case(preset, batch_size), (True,), ("compiled",))
    with compiler_cache(cache):
        return build()


def longest(step: Implementation) -> list[str]:
    """Return the names of the longest kernels of a step, the longest first.

    The names are those of Nsight Compute.
    """
    with profile(acc_events=True) as profiled:
        step.step()
        torch.cuda.synchronize()
    kernels = [row["name"] for row in measured_rows(profiled.events(), 1, 0.0) if row["kind"] == "kernel"]
    return list(dict.fromkeys(map(base_name, kernels)))[:NUM_KERNELS]


def base_name(name: str) -> str:
    """Return a kernel's name without result, namespaces, template and parameters.

    `Kernel2` of `void cutlass::Kernel2<...>(...)`.
    """
    return re.split(r"[<(]", name.removeprefix("void "))[0].split("::")[-1].strip()


def ncu_command(names: list[str], arguments: list[str]) -> list[str]:
    """Return the command of ncu around the step alone.

    The child turns the profiler on when it is warm.
    """
    wanted = "regex:^(" + "|".join(map(re.escape, names)) + ")$"
    return ["ncu", "--csv", "--page", "raw", "--clock-control", "none", "--profile-from-start", "off", "--launch-count",
            str(LAUNCHES),
            "--kernel-name-base", "function", "--kernel-name", wanted, "--metrics", ",".join(COLUMNS), sys.executable,
            *arguments]  # fmt: skip


def parse_counters(table: str) -> list[dict]:
    """Parse rows from the CSV that ncu prints between other lines; keep the longest of each kernel.

    The CSV has a header, a line of units, then a line a launch.
    """
    lines = table.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return []
    units, *launches = csv.DictReader(io.StringIO("\n".join(lines[start:])))
    found: dict[str, dict] = {}
    for launch in launches:
        if not launch["ID"].isdigit():  # output of the step itself
            continue
        row = {"kind": "ncu", "name": launch["Kernel Name"], "unit": units["gpu__time_duration.sum"]}
        row |= {
            name: float(launch[counter].replace(",", "")) for counter, name in COLUMNS.items() if launch.get(counter)
        }
        best = found.setdefault(row["name"], row)
        if row.get("duration", 0.0) > best.get("duration", 0.0):
            found[row["name"]] = row
    return sorted(found.values(), key=lambda row: -row.get("duration", 0.0))


def run_one_step(preset: str, batch_size: int | None, cache: str) -> None:
    """Run a warm step with the profiler off, then one with it on, for ncu around it."""
    step = compiled_step(preset, batch_size, cache)
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    step.step()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


SANITIZERS = ("memcheck", "racecheck", "synccheck")
CASE_S, AT_ONCE = 120.0, 3
FOUND = re.compile(r"ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard")
CHECK = "from fastgan.ops.dispatch import self_checks; self_checks.serve('cuda', [{key!r}])"


def keys() -> list[str]:
    """Return the key of every operator that has a native CUDA kernel."""
    return [f"{op} cuda" for op, implementations in registry.OPS.items() if "cuda" in implementations]


def sanitizer_command(tool: str, key: str) -> list[str]:
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


def sanitize(tool: str, key: str) -> dict:
    """Return the row of one tool on one operator.

    problem is None where it found nothing; errors is None where it did not report a number.
    """
    row = {"kind": "sanitizer", "tool": tool, "op": key}
    try:
        ended = subprocess.run(sanitizer_command(tool, key), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
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


def read_counters(preset: str, batch_size: int | None, path: Path) -> int:
    """Write a row for each of the longest kernels; 0 where there were some, else 1."""
    size = [] if batch_size is None else ["--batch-size", str(batch_size)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        names = longest(compiled_step(preset, batch_size, cache))
        inner = ["-m", "fastgan.bench.gpu.nvidia_tools", "counters", "--preset", preset, *size, "--step", cache]
        try:
            ended = subprocess.run(ncu_command(names, inner), cwd=ROOT, capture_output=True, text=True, timeout=NCU_S)
        except subprocess.TimeoutExpired:
            print(f"ncu was stopped after {NCU_S:.0f} s", file=sys.stderr)
            return 1
    if evidence.folder() is not None:
        (evidence.folder() / "ncu.csv").write_text(ended.stdout)
    found = parse_counters(ended.stdout)
    for row in found:
        json_lines.append_row(path, row)
        print(row, flush=True)
    sys.stderr.write(ended.stderr if found else ended.stdout[-4000:] + ended.stderr)
    return int(not found)


def sanitize_all(path: Path) -> int:
    """Run every tool on every operator; 0 where no tool found anything, else 1."""
    all_well = True
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for row in pool.map(lambda pair: sanitize(*pair), product(SANITIZERS, keys())):
            json_lines.append_row(path, row)
            print(row, flush=True)
            all_well &= row["problem"] is None
    return int(not all_well)


def main(arguments: list[str] | None = None) -> int:
    """Read counters or run the sanitizer; 0 where all went well, else 1."""
    parser = argparse.ArgumentParser("python -m fastgan.bench.gpu.nvidia_tools")
    parser.add_argument("what", choices=("counters", "sanitizer"))
    parser.add_argument("--preset", default="dcgan")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--rows", type=Path, metavar="FILE")
    parser.add_argument("--step", metavar="CACHE", help="run one step for ncu, its code from this folder")
    options = parser.parse_args(arguments)
    if options.step:
        run_one_step(options.preset, options.batch_size, options.step)
        return 0
    if options.what == "counters":
        return read_counters(options.preset, options.batch_size, options.rows)
    return sanitize_all(options.rows)


if __name__ == "__main__":
    sys.exit(main())
