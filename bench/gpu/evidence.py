"""Evidence that a stage leaves beside its rows, in a folder that the run names in the environment:
refused rungs, generated code, traces.
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
    """Where the evidence of this process goes, None where nobody collects it."""
    return Path(os.environ[EVIDENCE]) if EVIDENCE in os.environ else None


def note_refusals(config: Config, engine: Engine, reasons: list[str], tracebacks: list[str]) -> None:
    """Write down that the engine left something, with whole tracebacks: to the log, which is stderr
    here, and as a row.

    engine: that has been prepared. reasons, tracebacks: what it gave to `report` and to `details`.
    """
    where = folder()
    if where is None or not reasons:
        return
    for text in (*tracebacks, *reasons):
        print(text, file=sys.stderr, flush=True)
    rows.append(where / REFUSALS, {"kind": "refusal", **case_of(config), "wanted": _highest(engine), "got": engine.rung.name,
                                   "refused": refused(reasons), "reasons": reasons, "tracebacks": tracebacks})  # fmt: skip


def _highest(engine: Engine) -> str:
    """The rung to which its ladder leads."""
    if engine.graphs is not None and engine.ladder.cuda_graph != "off":
        return "captured"
    return "compiled" if engine.ladder.compile else "eager"


def refused(reasons: list[str]) -> list[str]:
    """The rungs that the engine's sentences say are not used, the lower first; sizes of a launch
    and precisions of a penalty are none.
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
    """Copy the Python and C++ code that Inductor generated into a cache folder to the evidence,
    under this name. Returns the number of files.
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
