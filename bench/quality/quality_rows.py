"""Columns of the rows of trained presets."""
import datetime
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fastgan.bench import machine
from fastgan.bench.places import RESULTS
from fastgan.bench.quality.training_cases import TrainingCase

QUALITY_RESULTS = RESULTS / "quality.jsonl"
COMPARE = "--compare-plain"  # in the command of rows that stand beside the plain loop
DIGITS = 5  # significant ones, of what is kept of a curve


@dataclass(frozen=True)
class QualityRow:
    """One training from one seed.

    The lists are the curve: one entry a point, the first of the untrained generator.
    """

    preset: str
    data: str  # its name: of a file without folder and suffix
    resolution: int | None  # None where the data are samples
    channels: int | None
    batch_size: int
    seed: int
    implementation: str  # fastgan | plain: the loop of the tutorials
    dtype: str  # bf16 | fp32
    rung: str  # of the engine; nothing for plain
    changes: list[str]  # KEY=VALUE of what is not the preset's
    build_s: float  # compiling and checking the step, before the training
    nimg: list[int]  # images shown
    train_s: list[float]  # seconds of training so far, without compiling and measuring
    numbers: dict[str, list[float | None]]  # metrics by name, None = not finite
    metric: str  # the one of `numbers` that measures this preset
    note: str
    command: str
    date: str
    commit: str | None
    torch: str
    machine: dict

    @property
    def value(self) -> float | None:
        """The metric at the end."""
        return self.numbers[self.metric][-1]


class Curve:
    """The points of a training, in the order in which they come."""

    def __init__(self):
        self.nimg: list[int] = []
        self.train_s: list[float] = []
        self.numbers: dict[str, list[float | None]] = {}

    def add(self, nimg: int, train_s: float, numbers: dict[str, float]) -> None:
        """Add a point; every point has the same numbers."""
        self.nimg.append(nimg)
        self.train_s.append(_short(train_s))
        for name, value in numbers.items():
            self.numbers.setdefault(name, []).append(_short(value))

    def columns(self) -> dict:
        """Return the columns of a row that are the curve."""
        return {"nimg": self.nimg, "train_s": self.train_s, "numbers": self.numbers}


def command(case: TrainingCase, data: str) -> str:
    """Return the command that trains a case again.

    data: the name of its set, since a path means nothing elsewhere.
    """
    chosen = "" if case.data is None else f" --data {shlex.quote(data)}"
    return (
        f"fastgan bench quality --preset {case.preset}{chosen} --kimg {case.kimg:g} --seeds "
        f"{case.seeds}{changed(case)}"
    )


def changed(case: TrainingCase) -> str:
    """Return the changes as options."""
    return "".join(f" --set {shlex.quote(change)}" for change in case.changes)


def stamped() -> dict:
    """Return the columns of the date, the machine and the code."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "torch": torch.__version__,
        "machine": machine.stamp(),
    }


def latest(rows: Sequence[dict]) -> list[dict]:
    """Return the last added row of each training, in the order of the first ones."""
    def training(row: dict) -> tuple:
        return (
            row["preset"],
            row["data"],
            row["implementation"],
            str(row["changes"]),
            row["seed"],
            COMPARE in row["command"],
        )

    return list({training(row): row for row in rows}.values())


def _short(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
