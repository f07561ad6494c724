"""The end of a run in at most so many lines: what became of every stage, what is wrong, every step that was measured."""
from pathlib import Path
from typing import TYPE_CHECKING

from bench import results
from bench.gpu import plan, rows
from bench.results import significant

if TYPE_CHECKING:
    from bench.gpu.run import Outcome

LINES, WIDTH = 60, 150
PROBLEMS = 10  # lines about what is wrong
STEP_COLUMNS = ("", "", "", "imgs/sec", "x plain", "x accelerated", "GFLOP/s", "% matmul", "compile s")


def stage_line(outcome: "Outcome") -> str:
    """One stage in one line."""
    words = "; ".join(filter(None, (outcome.figure, outcome.reason)))
    return _cut(f"{outcome.stage:<16} {outcome.state:<8} {outcome.seconds:>6.1f} s  {words}")


def summary(outcomes: list["Outcome"], out: Path) -> str:
    """The whole run, at most LINES lines, from the outcomes and the rows in the folder; the last line says how to go on."""
    lines = [""]
    for of_rows, file in ((_step_lines, plan.STEP), (_kernel_lines, plan.KERNELS), (_problems, plan.RESULTS)):
        try:
            lines += of_rows(rows.since(out / file))
        except Exception as error:  # a table is the last thing that a run says, and must not be what it fails at
            lines.append(f"no table of {file}: {type(error).__name__} {error}")
    ending = ["", *map(stage_line, outcomes), *_left(outcomes, out)]
    room = LINES - len(ending)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"... and {len(lines) - room + 1} lines more, from the rows in {out}"]
    return "\n".join(lines + ending)


def _step_lines(found: list[dict]) -> list[str]:
    """A line for every implementation that was measured, and its note where it has one."""
    if not found:
        return []
    table = [STEP_COLUMNS, *(results.cells(row)[: len(STEP_COLUMNS)] for row in found)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(STEP_COLUMNS))]
    lines = ["  ".join(_padded(cells, widths)).rstrip() for cells in table]
    notes = dict.fromkeys(f"{row['implementation']}: {row['note']}" for row in found if row["note"])
    return [*map(_cut, lines), *map(_cut, notes), ""]


def _padded(cells, widths: list[int]) -> list[str]:
    return [cell.ljust(width) if column < 3 else cell.rjust(width) for column, (cell, width) in enumerate(zip(cells, widths, strict=True))]


def _kernel_lines(found: list[dict], num: int = 4) -> list[str]:
    """The longest kernels of every rung."""
    lines = []
    for rung in dict.fromkeys(row["rung"] for row in found):
        longest = sorted((row for row in found if row["rung"] == rung and row["kind"] == "kernel"), key=lambda row: -row["microseconds"])[:num]
        lines += [f"{rung}: {100 * row['share']:.0f} % {significant(row['microseconds'])} us {row['name']}" for row in longest]
    return [*map(_cut, lines), ""] if lines else []


def _problems(found: list[dict]) -> list[str]:
    """What failed among the checks and the tests."""
    checks = [row for row in found if row["kind"] == "check" and row["problem"] is not None]
    wrong = [f"check {row['op']} {row['implementation']}: {row['problem']}" for row in checks]
    wrong += [f"failed {row['test']}: {row['message']}" for row in found if row["kind"] == "test" and row["outcome"] == "failed"]
    more = [f"... and {len(wrong) - PROBLEMS} more in {plan.RESULTS}"] if len(wrong) > PROBLEMS else []
    return [*map(_cut, wrong[:PROBLEMS]), *more]


def _left(outcomes: list["Outcome"], out: Path) -> list[str]:
    """Where everything is, and the command for what has not run to its end."""
    left = [outcome.stage for outcome in outcomes if outcome.state in ("skipped", "cut off")]
    go_on = [f"go on with: python -m bench gpu --only {' '.join(left)}"] if left else []
    return [f"rows and log: {out}", *go_on]


def _cut(line: str) -> str:
    line = " ".join(line.splitlines())
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
