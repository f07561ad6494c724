"""Timing of the fused operators on the calls of some steps.

`python -m bench.gpu.choices --cases dcgan:128 mlp:128 --rows FILE`

The choices are kept where fastgan looks for them, so that the stages that follow neither time
operators beside others nor do it twice.
"""

import argparse
import sys
from pathlib import Path

import torch

from bench import machine
from bench.cases import make_case
from bench.fastgan_loop import FastganLoop
from bench.gpu import rows
from bench.implementations import rung_config
from fastgan.ops.dispatch import autotune


def measure(preset: str, batch_size: int | None, path: Path) -> list[dict]:
    """Return a row for every kind of call of the eager bf16 step of a preset.

    It holds the choice, and the quartiles of each implementation in microseconds.
    """
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
        rows.append(path, row)
        print(row, flush=True)
    print(f"{preset} {batch_size}: {autotune.used()}", flush=True)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure one case after the other."""
    parser = argparse.ArgumentParser("python -m bench.gpu.choices")
    parser.add_argument("--cases", nargs="+", required=True, metavar="PRESET:BATCH")
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    for case in options.cases:
        preset, _, batch_size = case.partition(":")
        measure(preset, int(batch_size) if batch_size else None, options.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
