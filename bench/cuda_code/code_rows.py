"""Rows of generated code: their columns, the modelled time, tables and comparisons."""

import json
from dataclasses import dataclass
from pathlib import Path

from fastgan.bench.places import RESULTS
from fastgan.bench.tables import significant
from fastgan.errors import UserError

CUDA_CODE_RESULTS = RESULTS / "cuda_code.jsonl"
# The model, nothing of which was measured: a launch in a CUDA graph costs LAUNCH_US beside its
# bytes at BANDWIDTH (bytes a second), and LEAST_US whatever it does.
LAUNCH_US, LEAST_US, BANDWIDTH = 1.8, 2.5, 3.5e12
COLUMNS = (
    "preset", "phase", "Triton launches", "library launches", "MB", "modelled us", "kernels", "registers", "shared KB",
    "spilling",
)  # fmt: skip


@dataclass(frozen=True)
class CodeRow:
    """The code of one phase.

    Bytes are what Triton kernels read and write; a call of a library counts as one launch.
    """

    preset: str
    phase: str
    batch_size: int
    resolution: int | None
    words: str  # difference of the case from its preset
    triton_launches: int
    library_launches: int
    triton_bytes: int
    spills: int | None  # kernels of which something lies in memory instead of registers; None = not compiled
    modelled_us: float  # of the Triton launches alone
    launches_by_kind: dict
    bytes_by_kind: dict
    library_by_kind: dict
    kernels: int  # different ones
    registers: int | None  # the most that a thread of one takes
    shared_bytes: int | None  # the most that a block of one takes
    problem: str | None  # reason why there is no code, or no machine code
    implementations: dict  # of operators, those that were taken
    command: str
    date: str
    commit: str | None
    torch: str
    triton: str | None


def modelled_us(launch_bytes: list[int]) -> float:
    """Return the modelled microseconds of launches that run one after the other."""
    return sum(max(LEAST_US, LAUNCH_US + 1e6 * each / BANDWIDTH) for each in launch_bytes)


def code_table(rows: list[dict]) -> str:
    """Return a Markdown table for every torch and commit, with the model in words."""
    model = (
        f"modelled: {LAUNCH_US} us a launch and {BANDWIDTH / 1e12} TB/s, at least {LEAST_US} us; nothing ran on a GPU"
    )
    tables = []
    for stamp in dict.fromkeys(map(_stamp, rows)):
        of_stamp = [row for row in rows if _stamp(row) == stamp]
        lines = [f"{stamp}; {model}", "", "| " + " | ".join(COLUMNS) + " |", "| - | - |" + " -: |" * (len(COLUMNS) - 2)]
        lines += ["| " + " | ".join(cells(row)) + " |" for row in of_stamp]
        tables.append("\n".join([*lines, "", *dict.fromkeys(f"    {row['command']}" for row in of_stamp)]))
    return "\n\n".join(tables)


def cells(row: dict) -> list[str]:
    """Return a row as the texts under COLUMNS."""
    if row["problem"] and not row["triton_launches"]:
        return [_subject(row), row["phase"], row["problem"], *[""] * (len(COLUMNS) - 3)]
    shared = None if row["shared_bytes"] is None else row["shared_bytes"] / 1024
    counts = row["triton_launches"], row["library_launches"], row["triton_bytes"] / 1e6, row["modelled_us"]
    code = row["kernels"], row["registers"], shared, row["spills"]
    return [_subject(row), row["phase"], *map(significant, counts + code)]


def compare_code(rows: list[dict], before: list[dict]) -> str:
    """Compare each phase with the same one in `before`.

    Compared are launches, bytes and modelled time, with their ratio.
    """
    known = {_key(row): row for row in before}
    lines = [
        "in brackets: what it is now over what it was; counted and modelled, so nothing was timed",
        "",
        "| preset | phase | launches | MB | modelled us |",
        "| - | - | -: | -: | -: |",
    ]
    for row in rows:
        old = known.get(_key(row))
        if old is None:
            lines.append(f"| {_subject(row)} | {row['phase']} | not in the other file | | |")
            continue
        pairs = [
            (each["triton_launches"] + each["library_launches"], each["triton_bytes"] / 1e6, each["modelled_us"])
            for each in (old, row)
        ]
        lines.append(
            f"| {_subject(row)} | {row['phase']} | "
            + " | ".join(_change(*pair) for pair in zip(*pairs, strict=True))
            + " |"
        )
    return "\n".join(lines)


def read_json(path: Path) -> list[dict]:
    """Read the rows of a file that --json has written.

    Raises UserError for a missing file and for any other content.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    needed = {
        "preset",
        "phase",
        "batch_size",
        "resolution",
        "words",
        "triton_launches",
        "library_launches",
        "triton_bytes",
        "modelled_us",
    }
    if not isinstance(rows, list) or not all(isinstance(row, dict) and needed <= row.keys() for row in rows):
        raise UserError(f"{path} is no list of rows of fastgan bench cuda-code --json")
    return rows


def _change(before: float, after: float) -> str:
    return (
        f"{significant(before)} -> {significant(after)} ({after / before:.2f})"
        if before
        else f"{significant(before)} -> {significant(after)}"
    )


def _key(row: dict) -> tuple:
    return row["preset"], row["phase"], row["batch_size"], row["resolution"], row["words"]


def _subject(row: dict) -> str:
    size = "" if row["resolution"] is None else f" {row['resolution']}x{row['resolution']}"
    return f"{row['preset']}{size} batch {row['batch_size']} {row['words']}".rstrip()


def _stamp(row: dict) -> str:
    return f"torch {row['torch']}, Triton {row['triton']}; commit {row['commit'] or 'none'}"
