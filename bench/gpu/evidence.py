"""Evidence that a stage leaves beside its rows: refused rungs, generated code, traces.

It lies in a folder that the run names in the environment.

Of tests, a row for every outcome: `pytest -p fastgan.bench.gpu.evidence --outcomes FILE`
"""
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.bench import json_lines
from fastgan.config import Config
from fastgan.engine.engine import Engine

if TYPE_CHECKING:
    import pytest

REFUSABLE = ("compiled", "captured")  # that the engine may refuse
# The folder for the evidence of a stage beside its rows; unset: nobody collects evidence
EVIDENCE = "FASTGAN_BENCH_EVIDENCE"
REFUSALS, CODE = "refusals.jsonl", "code"  # in that folder
MESSAGE_LENGTH = 300  # of a failed test


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
    row = {
        "kind": "refusal",
        **case_of(config),
        "wanted": _highest(engine),
        "got": engine.rung.name,
        "refused": refused(reasons),
        "reasons": reasons,
        "tracebacks": tracebacks,
    }
    json_lines.append_row(where / REFUSALS, row)


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
        for rung in REFUSABLE
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


# --- outcomes of tests ------------------------------------------------------------------------------------------------


def pytest_addoption(parser: "pytest.Parser") -> None:
    parser.addoption("--outcomes", type=Path, metavar="FILE", help="append a line of JSON for every test")


def pytest_configure(config: "pytest.Config") -> None:
    path = config.getoption("--outcomes")
    # A worker of pytest-xdist: its reports come to the process that started it
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(path))


class Outcomes:
    """Writer that appends to `path` as tests end."""

    def __init__(self, path: Path):
        self.path = path

    def pytest_runtest_logreport(self, report: "pytest.TestReport") -> None:
        """Append a row for the test itself, or for the fixture that failed or skipped it."""
        if report.when == "call" or report.outcome != "passed":
            row = {
                "kind": "test",
                "test": report.nodeid,
                "outcome": report.outcome,
                "seconds": round(report.duration, 3),
            }
            json_lines.append_row(self.path, {**row, "message": _message(report)})


def _message(report: "pytest.TestReport") -> str:
    """Return the first line of the error, or the reason of the skip."""
    lines = [line for line in report.longreprtext.splitlines() if line.strip()]
    errors = [line.removeprefix("E").strip() for line in lines if line.startswith("E  ")]
    return (errors or lines[-1:] or [""])[0][:MESSAGE_LENGTH]
