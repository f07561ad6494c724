"""Cold start of `fastgan train`, every cache empty, on the clock.

`python -m fastgan.bench.gpu.job --rows FILE` writes a row as in bench/results/main_job.jsonl.
"""
import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from fastgan.bench import json_lines, machine
from fastgan.bench.places import ROOT
from fastgan.device.precision import choose_precision

TRAIN = ("train", "--amp", "--compile")
READY = re.compile(r"ready in ([\d.]+) s")  # in the line of log.txt that names the step


def run_cold(arguments: tuple[str, ...]) -> dict:
    """Run `fastgan` with these arguments and empty caches; return the row.

    Raises CalledProcessError where it ends with an error.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        out = Path(folder, "run")
        caches = {
            name: str(Path(folder, name.lower()))
            for name in ("FASTGAN_CACHE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
        }
        started = time.time()
        subprocess.run(
            [sys.executable, "-m", "fastgan", *arguments, "--out", str(out)],
            cwd=ROOT,
            env={**os.environ, **caches},
            check=True,
        )
        return row_of(out, arguments, started, time.time() - started)


def row_of(out: Path, arguments: tuple[str, ...], started: float, command_s: float) -> dict:
    """Return the row of a run, from its files.

    The run began at `started` (seconds since the epoch); its command took command_s until it ended.
    """
    options, log = json.loads((out / "training_options.json").read_text()), (out / "log.txt").read_text()
    ticks = [json.loads(line) for line in (out / "stats.jsonl").read_text().splitlines()]
    ready = READY.search(log)
    return {
        "kind": "job",
        "command": " ".join(("fastgan", *arguments)),
        "preset": options["preset"],
        "resolution": options["model"]["img_resolution"],
        "channels": options["model"]["img_channels"],
        "batch_size": options["run"]["batch_size"],
        "kimg": ticks[-1]["nimg"] / 1000,
        "dtype": choose_precision(
            options["run"]["amp"], torch.device("cuda" if torch.cuda.is_available() else "cpu")
        ).name,
        "rung": ticks[-1]["rung"],
        "torch": torch.__version__,
        "machine": machine.stamp(),
        "case": "cold cache",
        "total_s": max(path.stat().st_mtime for path in out.glob("fakes*.png")) - started,
        "command_s": command_s,
        "compile_s": ready and float(ready[1]),
        "imgs_per_sec": statistics.median(tick["imgs_per_sec"] for tick in ticks),
        "outside_step": statistics.median(tick["outside_step"] for tick in ticks),
        "commit": machine.commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the embedded default with the changes that the options set."""
    parser = argparse.ArgumentParser("python -m fastgan.bench.gpu.job")
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="handed to fastgan")
    options = parser.parse_args(arguments)
    json_lines.append_row(
        options.rows, run_cold((*TRAIN, *(word for assignment in options.set for word in ("--set", assignment))))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
