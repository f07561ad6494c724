"""From sources, feeds and steps to rows."""
import datetime
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

import torch

from bench import machine
from bench.loader import feeding, packing, reading, stepping
from bench.loader.plan import Plan
from bench.loader.rows import LoaderRow
from bench.results import TUNED
from fastgan.device.precision import choose_precision


def measure(
    kinds: Collection[str], presets: Collection[str], compile: bool, plan: Plan, say: Callable[[str], None]
) -> list[LoaderRow]:
    """Return rows of everything of these kinds: read | pack | feed | step.

    On CUDA where there is one (reading and packing are the CPU's work).

    presets: of the steps. compile: also the feeds' normalisation compiled, and the step on the
    engine's highest rung; else all of it eager.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    choose_precision(True, device)  # TF32 where fp32 is meant, as in training
    shared = _shared_columns(kinds, presets, compile, plan.autotune)
    columns = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "read" in kinds:
            columns += reading.measure(folder / "read", plan, say)
        if "pack" in kinds:
            columns += packing.measure(folder / "pack", plan, say)
        if "feed" in kinds:
            columns += feeding.measure(folder / "feed", device, compile, plan, say)
        for preset in presets if "step" in kinds else ():
            columns += stepping.measure(preset, folder / preset, compile, plan, say)
    return [LoaderRow(**each, **shared) for each in columns]


def _shared_columns(kinds: Collection[str], presets: Collection[str], compile: bool, autotune: bool) -> dict:
    chosen = f" --preset {' '.join(presets)}" if "step" in kinds else ""
    return {
        "command": f"python -m bench loader --only "
                   f"{' '.join(kinds)}{chosen}{' --compile' if compile else ''}{TUNED if autotune else ''}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "torch": torch.__version__,
        "machine": machine.stamp(),
    }
