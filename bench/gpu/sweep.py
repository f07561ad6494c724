"""Sweep of cudnn.benchmark x combo_kernels for one implementation of deconv.

`python -m fastgan.bench.gpu.sweep --preset dcgan --batch-size 128 --deconv cuda --rows FILE`

All four steps take turns in one process, beside a large matrix product that makes the sweeps of
other implementations comparable. A row for each.
"""

import argparse
import dataclasses
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from fastgan.bench import json_lines, machine, timing
from fastgan.bench.fastgan_loop import FastganLoop
from fastgan.bench.flops import matmul
from fastgan.bench.implementations import rung_config
from fastgan.bench.step_cases import Case, make_case
from fastgan.bench.switches import Switches, present
from fastgan.bench.timing import quartiles
from fastgan.config import replace as configured
from fastgan.errors import UserError
from fastgan.ops.dispatch import autotune


@dataclass(frozen=True)
class Setting:
    """One setting of the sweep."""

    deconv: str
    cudnn_benchmark: bool
    combo_kernels: bool

    def label(self) -> str:
        """Name of the setting, unique among all settings."""
        return f"deconv={self.deconv} benchmark={self.cudnn_benchmark} combo={self.combo_kernels}"


def settings(implementation: str) -> list[Setting]:
    """Return all settings of an implementation.

    Those of one compiled step follow each other, so that the second takes its code from the cache.
    """
    both = (False, True)
    return [Setting(implementation, benchmark, combo) for combo, benchmark in itertools.product(both, both)]


def build(case: Case, setting: Setting) -> tuple[FastganLoop, Switches]:
    """Build the bf16 step on the highest rung under a setting.

    Returns the step and the switches that it runs under.

    Raises RuntimeError where the engine sets cudnn.benchmark on its own while it prepares: the row
    would report a setting that was not in force.
    """
    Switches().apply()
    torch.manual_seed(0)
    config = configured(rung_config(case.config, True, "captured"), "run.combo_kernels", setting.combo_kernels)
    loop = FastganLoop(config, case.device, case.images)
    # After what fastgan sets on its own, before anything is chosen or recorded.
    torch.backends.cudnn.benchmark = setting.cudnn_benchmark
    switches = present()
    loop.prepare()
    if present() != switches:
        raise RuntimeError(f"the step was prepared under {present()}, not under {switches}")
    loop.run()
    return loop, switches


def sweep(case: Case, implementation: str, path: Path) -> list[dict]:
    """Measure every setting; the rows are written as soon as all rounds are over."""
    autotune.force({"deconv": implementation})
    try:
        built = {setting: build(case, setting) for setting in settings(implementation)}
        calls = {setting: loop.run for setting, (loop, _) in built.items()} | {
            "matmul": matmul(torch.bfloat16, case.device)[0]
        }
        switches = {setting: each for setting, (_, each) in built.items()}
        call_s, _ = timing.interleave(calls, before=lambda name: switches.get(name, Switches()).apply())
        found = [
            _row(case, setting, loop, call_s[setting], quartiles(call_s["matmul"])[1])
            for setting, (loop, _) in built.items()
        ]
    finally:
        autotune.force({"deconv": "auto"})
    for row in found:
        json_lines.append_row(path, row)
        print(row, flush=True)
    return found


def _row(case: Case, setting: Setting, loop: FastganLoop, call_s: list[float], matmul_s: float) -> dict:
    images = case.config.run.batch_size * loop.steps_per_call
    q1, rate, q3 = quartiles([images / seconds for seconds in call_s])
    stamp = {"torch": torch.__version__, "commit": machine.commit(), "gpu": machine.stamp()["gpu"]}
    return {
        "kind": "sweep", "preset": case.config.preset, "batch_size": case.config.run.batch_size,
        **dataclasses.asdict(setting), "imgs_per_sec": rate,
        "imgs_per_sec_quartiles": [q1, q3], "matmul_us": 1e6 * matmul_s, "rung": loop.engine.rung.name,
        "steps_per_launch": loop.engine.rung.steps_per_launch, "operators": autotune.used(),
        "note": "; ".join(loop.reasons), **stamp,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Sweep one implementation; one that this machine lacks gives a sentence and exit code 2."""
    parser = argparse.ArgumentParser("python -m fastgan.bench.gpu.sweep")
    parser.add_argument("--preset", required=True)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--deconv", default="auto", metavar="IMPLEMENTATION")
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        sweep(make_case(options.preset, options.batch_size), options.deconv, options.rows)
    except UserError as error:
        print(f"the sweep was not run: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
