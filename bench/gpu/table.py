"""The summary of a run in at most LINES lines.

It lists the outcome of every stage, every problem, and every step that was measured.
"""
from pathlib import Path
from typing import TYPE_CHECKING

from bench import results
from bench.gpu import bisect, plan, rows
from bench.results import significant

if TYPE_CHECKING:
    from bench.gpu.run import Outcome

LINES, WIDTH = 60, 170
PROBLEMS = 12  # lines about what is wrong
SWEEPS = 6  # lines of the sweeps
STEP_COLUMNS = (
    "",
    "",
    "",
    "imgs/sec",
    "x plain",
    "x accelerated",
    "% matmul",
    "compile s",
    "launches",
    "syncs",
    "peak MB",
)


def stage_line(outcome: "Outcome") -> str:
    """Return the line of one stage."""
    words = "; ".join(filter(None, (outcome.figure, outcome.reason)))
    return _cut(f"{outcome.stage:<16} {outcome.state:<8} {outcome.seconds:>6.1f} s  {words}")


def summary(outcomes: list["Outcome"], out: Path, head: str = "") -> str:
    """Summarise the whole run, at most LINES lines, from the outcomes and the rows in the folder.

    The last line is the command that continues the run. head: the first line.
    """
    lines = [head]
    for of_rows, file in (
        (_problems, plan.RESULTS),
        (_step_lines, plan.STEP),
        (_sweep_lines, plan.RESULTS),
        (_kernel_lines, plan.KERNELS),
    ):
        try:
            lines += of_rows(rows.since(out / file))
        except Exception as error:  # a table is the last output of a run, and must not be the part that fails
            lines.append(f"no table of {file}: {type(error).__name__} {error}")
    ending = ["", *map(stage_line, outcomes), *_left(outcomes, out)]
    room = LINES - len(ending)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"... and {len(lines) - room + 1} lines more, from the rows in {out}"]
    return "\n".join(lines + ending)


def _step_lines(found: list[dict]) -> list[str]:
    """Return a line for every implementation that was measured, and its note where it has one."""
    if not found:
        return []
    table = [STEP_COLUMNS, *(cells[:6] + cells[7:9] + cells[10:] for cells in map(results.cells, found))]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(STEP_COLUMNS))]
    lines = ["  ".join(_padded(cells, widths)).rstrip() for cells in table]
    notes = dict.fromkeys(f"{row['implementation']}: {row['note']}" for row in found if row["note"])
    return [*map(_cut, lines), *map(_cut, notes), ""]


def _padded(cells, widths: list[int]) -> list[str]:
    return [
        cell.ljust(width) if column < 3 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def _kernel_lines(found: list[dict], num: int = 4) -> list[str]:
    """Return the longest kernels of every rung."""
    lines = []
    for rung in dict.fromkeys(row["rung"] for row in found):
        longest = sorted(
            (row for row in found if row["rung"] == rung and row["kind"] == "kernel"),
            key=lambda row: -row["microseconds"],
        )[:num]
        lines += [
            f"{rung}: {100 * row['share']:.0f} % {significant(row['microseconds'])} us {row['name']}" for row in longest
        ]
    return [*map(_cut, lines), ""] if lines else []


def _sweep_lines(found: list[dict]) -> list[str]:
    """Return the settings of the sweeps, the fastest first."""
    sweeps = sorted((row for row in found if row["kind"] == "sweep"), key=lambda row: -row["imgs_per_sec"])
    lines = [f"sweep {row['preset']} {row['batch_size']}: {significant(row['imgs_per_sec'])} imgs/sec {row['rung']} "
             f"deconv={row['deconv']} "
             f"benchmark={row['cudnn_benchmark']} combo={row['combo_kernels']}" for row in sweeps]  # fmt: skip
    return [*map(_cut, lines[:SWEEPS]), ""] if lines else []


def _problems(found: list[dict]) -> list[str]:
    """List the refusals and the failures.

    The failures are those of the first steps, the checks, the tools and the tests.
    """
    wrong = [
        f"culprit {row['preset']} {row['rung']}: {row['culprit']} ({row['reason'] or 'no reason'})"
        for row in _of_kind(found, "culprit")
    ]
    wrong += [
        f"refused in {row['stage']}: {row['preset']} {reason}"
        for row in _of_kind(found, "refusal")
        for reason in row["reasons"]
    ]
    wrong += [
        f"smoke {row['step']}: {row['problem'].splitlines()[-1]}" for row in _of_kind(found, "smoke") if row["problem"]
    ]
    wrong += [f"library {row['used']}: {row['why']}" for row in _of_kind(found, "library") if row["why"]]
    wrong += [
        f"check {row['op']} {row['implementation']}: {row['problem']}"
        for row in _of_kind(found, "check")
        if row["problem"] is not None
    ]
    wrong += [
        f"{row['tool']} {row['op']}: {row['problem']}"
        for row in _of_kind(found, "sanitizer")
        if row["problem"] is not None
    ]
    wrong += [
        f"failed {row['test']}: {row['message']}" for row in _of_kind(found, "test") if row["outcome"] == "failed"
    ]
    more = [f"... and {len(wrong) - PROBLEMS} more in {plan.RESULTS}"] if len(wrong) > PROBLEMS else []
    return [*map(_cut, wrong[:PROBLEMS]), *more, ""] if wrong else []


def _of_kind(found: list[dict], kind: str) -> list[dict]:
    return [row for row in found if row["kind"] == kind]


def _left(outcomes: list["Outcome"], out: Path) -> list[str]:
    """Return the folder of the run, and the command for the stages that have not finished."""
    left = [
        outcome.stage
        for outcome in outcomes
        if outcome.state in ("skipped", "cut off") and not outcome.stage.startswith(bisect.PREFIX)
    ]
    go_on = [f"go on with: python -m bench gpu --only {' '.join(left)}"] if left else []
    return [f"rows and log: {out}", *go_on]


def _cut(line: str) -> str:
    line = " ".join(line.splitlines())
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
