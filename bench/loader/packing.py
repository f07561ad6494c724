"""`fastgan pack` as its users run it, from a folder of PNG files to one packed file.

It runs in a process of its own.
"""
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fastgan.bench import machine
from fastgan.bench.loader.files import embedded_images, write_folder
from fastgan.bench.loader.loader_plan import Plan, columns
from fastgan.bench.places import ROOT
from fastgan.bench.tables import significant

SIZE = (64, 3)  # (resolution, channels) of the files


def measure_packing(folder: Path, plan: Plan, say: Callable[[str], None]) -> list[dict]:
    """Return the columns of packing a folder, the start of Python included.

    The files lie in the operating system's cache, after a first run that does not count.
    """
    note, images = machine.busy_note(), embedded_images(plan.num_images, *SIZE)
    images = images.repeat(2, 1, 1, 1)[: plan.num_packed]
    files, out = write_folder(images, folder / "png", "png"), folder / "images.packed"
    say(f"packing {len(images)} PNG files of {SIZE[0]}x{SIZE[0]}x{SIZE[1]}, {plan.rounds} times")
    call_s = [_pack(files, out) for _ in range(1 + plan.rounds)][1:]
    row = columns("pack", "folder of PNG", (*SIZE, None), len(images), call_s, len(images), note)
    say(f"pack: {significant(row['imgs_per_sec'])} images/s")
    return [row]


def _pack(files: Path, out: Path) -> float:
    """Return the seconds of one run of the command."""
    out.unlink(missing_ok=True)
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "fastgan", "pack", files, out, "--decoder", "pillow"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - started
