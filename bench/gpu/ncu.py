"""Hardware counters of the longest kernels of a compiled step.

`python -m bench.gpu.ncu --preset dcgan --batch-size 128 --rows FILE`

A profile finds the longest kernels; then Nsight Compute runs the same step once more, from the same
cache of compiled code, and reads the counters of those alone. The clocks stay as they are. A row
for each kernel; the whole table is kept as evidence.
"""

import argparse
import csv
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch.profiler import profile

from bench.caches import compiler_cache
from bench.cases import make_case
from bench.gpu import evidence, rows
from bench.gpu.kernels import measured_rows
from bench.implementations import Implementation, builders
from bench.machine import ROOT

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


def command(names: list[str], arguments: list[str]) -> list[str]:
    """Return the command of ncu around the step alone.

    The child turns the profiler on when it is warm.
    """
    wanted = "regex:^(" + "|".join(map(re.escape, names)) + ")$"
    return ["ncu", "--csv", "--page", "raw", "--clock-control", "none", "--profile-from-start", "off", "--launch-count",
            str(LAUNCHES),
            "--kernel-name-base", "function", "--kernel-name", wanted, "--metrics", ",".join(COLUMNS), sys.executable,
            *arguments]  # fmt: skip


def parse(table: str) -> list[dict]:
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


def main(arguments: list[str] | None = None) -> int:
    """Read the counters; 0 where there were some, else 1."""
    parser = argparse.ArgumentParser("python -m bench.gpu.ncu")
    parser.add_argument("--preset", required=True)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--rows", type=Path, metavar="FILE")
    parser.add_argument("--step", metavar="CACHE", help="run one step for ncu, its code from this folder")
    options = parser.parse_args(arguments)
    if options.step:
        run_one_step(options.preset, options.batch_size, options.step)
        return 0
    size = [] if options.batch_size is None else ["--batch-size", str(options.batch_size)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        names = longest(compiled_step(options.preset, options.batch_size, cache))
        inner = ["-m", "bench.gpu.ncu", "--preset", options.preset, *size, "--step", cache]
        try:
            ended = subprocess.run(command(names, inner), cwd=ROOT, capture_output=True, text=True, timeout=NCU_S)
        except subprocess.TimeoutExpired:
            print(f"ncu was stopped after {NCU_S:.0f} s", file=sys.stderr)
            return 1
    if evidence.folder() is not None:
        (evidence.folder() / "ncu.csv").write_text(ended.stdout)
    found = parse(ended.stdout)
    for row in found:
        rows.append(options.rows, row)
        print(row, flush=True)
    sys.stderr.write(ended.stderr if found else ended.stdout[-4000:] + ended.stderr)
    return int(not found)


if __name__ == "__main__":
    sys.exit(main())
