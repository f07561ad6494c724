"""From sources, feeds and steps to rows."""
import datetime
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

import torch

from fastgan.bench import machine, timing
from fastgan.bench.loader import feeding, packing, reading, stepping
from fastgan.bench.loader.loader_plan import Plan
from fastgan.bench.loader.loader_rows import LoaderRow
from fastgan.bench.step_rows import TUNED
from fastgan.device.precision import choose_precision


def measure_loader(
    kinds: Collection[str], presets: Collection[str], compile: bool, plan: Plan, say: Callable[[str], None]
) -> list[LoaderRow]:
    """Return rows of everything of these kinds: read | pack | feed | step.

    On CUDA where there is one (reading and packing are the CPU's work).

    presets: of the steps. compile: also the feeds' normalisation compiled, and the step on the
    engine's highest rung; else all of it eager.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    choose_precision(True, device)  # TF32 where fp32 is meant, as in training
    shared = _shared_columns(kinds, presets, compile, plan)
    columns = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "read" in kinds:
            columns += reading.measure_sources(folder / "read", plan, say)
        if "pack" in kinds:
            columns += packing.measure_packing(folder / "pack", plan, say)
        if "feed" in kinds:
            columns += feeding.measure_feeds(folder / "feed", device, compile, plan, say)
        for preset in presets if "step" in kinds else ():
            columns += stepping.measure_stepping(preset, folder / preset, compile, plan, say)
    return [LoaderRow(**each, **shared) for each in columns]


def _shared_columns(kinds: Collection[str], presets: Collection[str], compile: bool, plan: Plan) -> dict:
    words = ["fastgan bench loader --only", *kinds]
    words += ["--preset", *presets] if "step" in kinds else []
    words += ["--compile"] if compile else []
    words += [] if plan.rounds == timing.MIN_ROUNDS else ["--rounds", str(plan.rounds)]
    return {
        "command": " ".join(words) + (TUNED if plan.autotune else ""),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "torch": torch.__version__,
        "machine": machine.stamp(),
    }
