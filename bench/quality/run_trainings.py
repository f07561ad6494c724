"""Trainings one after the other, each row kept as soon as it is there."""
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fastgan.bench import json_lines, machine
from fastgan.bench.places import DOCS
from fastgan.bench.quality.compare import compare
from fastgan.bench.quality.quality_rows import QualityRow
from fastgan.bench.quality.train import train
from fastgan.bench.quality.training_cases import TrainingCase

PICTURES = DOCS / "family"
SHOWN_SEED = 0  # whose pictures are kept


def by_fastgan(cases: Sequence[TrainingCase], path: Path | None, say: Callable[[str], None]) -> int:
    """Train every case from seeds 0, 1, ... and report the results.

    Returns the exit code: 1 where a training diverged.

    path: the file that rows are appended to, with pictures into docs/family; None = neither. Raises
    UserError and DiskError.
    """
    busy = machine.busy_note()
    trainings = ((case, seed) for case in cases for seed in range(case.seeds))
    return keep(
        (train(case, seed, busy, PICTURES if path and seed == SHOWN_SEED else None) for case, seed in trainings),
        path,
        say,
    )


def beside_plain(cases: Sequence[TrainingCase], path: Path | None, say: Callable[[str], None]) -> int:
    """Do the same without pictures, and train by the loop of the tutorials as well."""
    busy = machine.busy_note()
    return keep((row for case in cases for row in compare(case, busy)), path, say)


def keep(rows: Iterable[QualityRow], path: Path | None, say: Callable[[str], None]) -> int:
    """Append rows to the file, if any, as they come, and print each; return the exit code."""
    has_diverged = False
    for row in rows:
        if path is not None:
            json_lines.append_rows(path, [row])
        say(describe_training(row))
        has_diverged |= "diverged" in row.note
    return int(has_diverged)


def describe_training(row: QualityRow) -> str:
    """Describe a row in one line.

    The line has the subject, the length, and every number from the first point to the last.
    """
    curves = ", ".join(f"{name} {values[0]} -> {values[-1]}" for name, values in row.numbers.items())
    return (f"{row.preset} on {row.data}, seed {row.seed}, {row.implementation} {row.dtype} {row.rung}: "
            f"{row.nimg[-1] / 1000:g} kimg in {row.train_s[-1]:.0f} s, ready after {row.build_s:.0f} s: "
            f"{curves}" + (f" ({row.note})" if row.note else ""))
