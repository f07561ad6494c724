"""Evidence that a stage leaves beside its rows: refused rungs, generated code, traces.

It lies in a folder that the run names in the environment.
"""

import os
import shutil
import sys
from pathlib import Path

from bench.gpu import rows
from bench.gpu.names import CODE, EVIDENCE, REFUSALS, RUNGS
from fastgan.config import Config
from fastgan.engine.engine import Engine


def folder() -> Path | None:
    """Return the folder for the evidence of this process, None where nobody collects it."""
    return Path(os.environ[EVIDENCE]) if EVIDENCE in os.environ else None


def note_refusals(config: Config, engine: Engine, reasons: list[str], tracebacks: list[str]) -> None:
    """Record the rungs that the engine left, with whole tracebacks.

    They go to the log, which is stderr here, and into a row.

    engine: already prepared. reasons, tracebacks: the arguments that it gave to `report` and to
    `details`.
    """
    where = folder()
    if where is None or not reasons:
        return
    for text in (*tracebacks, *reasons):
        print(text, file=sys.stderr, flush=True)
    rows.append(where / REFUSALS, {"kind": "refusal", **case_of(config), "wanted": _highest(engine),
                                   "got": engine.rung.name, "refused": refused(reasons), "reasons": reasons,
                                   "tracebacks": tracebacks})  # fmt: skip


def _highest(engine: Engine) -> str:
    """Return the rung to which the engine's ladder leads."""
    if engine.graphs is not None and engine.ladder.cuda_graph != "off":
        return "captured"
    return "compiled" if engine.ladder.compile else "eager"


def refused(reasons: list[str]) -> list[str]:
    """Return the rungs that the engine's sentences report as not used, the lower first.

    Sizes of a launch and precisions of a penalty are none.
    """
    return [
        rung
        for rung in RUNGS
        if any(reason.startswith(f"the {rung} step") and "is not used" in reason for reason in reasons)
    ]


def case_of(config: Config) -> dict:
    """Return the columns that make the case again: preset, size and precision."""
    model, run = config.model, config.run
    return {
        "preset": config.preset,
        "batch_size": run.batch_size,
        "resolution": model.img_resolution,
        "channels": model.img_channels,
        "amp": run.amp,
    }


def keep_code(cache: Path, name: str) -> int:
    """Copy the Python and C++ code that Inductor generated to the evidence, under this name.

    The source is a cache folder. Returns the number of files.
    """
    where = folder()
    if where is None:
        return 0
    files = [path for path in sorted(cache.rglob("*")) if path.suffix in (".py", ".cpp") and path.is_file()]
    for path in files:
        target = where / CODE / name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return len(files)
