"""A stage in a line, and the summary of a run in at most LINES lines.

It lists the outcome of every stage, every problem, and every step that was measured.
"""
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fastgan.bench import json_lines, step_rows
from fastgan.bench.gpu import bisect, plan
from fastgan.bench.gpu.stage import Outcome
from fastgan.bench.tables import significant

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


def stage_line(outcome: Outcome) -> str:
    """Return the line of one stage."""
    words = "; ".join(filter(None, (outcome.figure, outcome.reason)))
    return _cut(f"{outcome.stage:<16} {outcome.state:<8} {outcome.seconds:>6.1f} s  {words}")


def summary(outcomes: list[Outcome], out: Path, head: str = "") -> str:
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
            lines += of_rows(json_lines.rows_since(out / file))
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
    table = [STEP_COLUMNS, *(cells[:6] + cells[7:9] + cells[10:] for cells in map(step_rows.cells, found))]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(STEP_COLUMNS))]
    lines = ["  ".join(_padded(cells, widths)).rstrip() for cells in table]
    notes = dict.fromkeys(f"{row['implementation']}: {row['note']}" for row in found if row["note"])
    return [*map(_cut, lines), step_rows.EXPLAINED, *map(_cut, notes), ""]


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


def _left(outcomes: list[Outcome], out: Path) -> list[str]:
    """Return the folder of the run, and the command for the stages that have not finished."""
    left = [
        outcome.stage
        for outcome in outcomes
        if outcome.state in ("skipped", "cut off") and not outcome.stage.startswith(bisect.PREFIX)
    ]
    go_on = [f"go on with: fastgan bench gpu --only {' '.join(left)}"] if left else []
    return [f"rows and log: {out}", *go_on]


def _cut(line: str) -> str:
    line = " ".join(line.splitlines())
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


# --- figures ----------------------------------------------------------------------------------------------------------

RATES = (("copy_gbytes_per_s", "copy {} GB/s"), ("bf16", "bf16 {}"), ("tf32", "TF32 {}"), ("fp32", "fp32 {} TFLOP/s"))


def figure(file: str, rows: list[dict]) -> str:
    """Return the figure of the rows that a stage has added to this file; empty without rows."""
    if not rows:
        return ""
    kind = rows[-1].get("kind", "") if file == plan.RESULTS else file
    try:
        return FIGURES.get(kind, _number_of_rows)(rows)
    except Exception as error:  # rows that look otherwise than expected must not end a run that measures more
        return f"{_number_of_rows(rows)}, no figure: {type(error).__name__} {error}"


def _number_of_rows(rows: list[dict]) -> str:
    return f"{len(rows)} rows"


def _steps(rows: list[dict]) -> str:
    """Compare fastgan's fastest rung with both baselines."""
    ours = [row for row in rows if row["implementation"] not in ("plain", "accelerated")]
    if not ours:
        return "no rung of fastgan"
    best = max(ours, key=lambda row: row["imgs_per_sec"])
    words = [f"{best['implementation']} {significant(best['imgs_per_sec'])} imgs/sec"]
    words += [
        f"{significant(best[f'ratio_to_{name}'])} x {name}"
        for name in ("accelerated", "plain")
        if best[f"ratio_to_{name}"] is not None
    ]
    return ", ".join([*words, f"{significant(best['percent_of_matmul'])} % matmul"])


def _ops(rows: list[dict]) -> str:
    """Count the calls in which an implementation is faster than the library's operator.

    Also count the wins of each implementation.
    """
    calls = dict.fromkeys((row["op"], row["call"], row["dtype"]) for row in rows)
    best = [
        max(
            (row for row in rows if (row["op"], row["call"], row["dtype"]) == call),
            key=lambda row: row["ratio_to_reference"],
        )
        for call in calls
    ]
    winners = Counter(row["implementation"] for row in best)
    return f"{len(calls)} calls, fastest: " + ", ".join(f"{name} {number}" for name, number in winners.most_common())


def _kernels(rows: list[dict]) -> str:
    """Return the number of kernels and their time in a step of every rung."""
    totals = [row for row in rows if row["kind"] == "total"]
    return "; ".join(
        f"{row['rung']} {row['kernels']:.0f} kernels {significant(row['microseconds'])} us" for row in totals
    )


def _chip(rows: list[dict]) -> str:
    rates = {**rows[-1], **rows[-1]["matmul_tflops"]}
    return ", ".join(words.format(significant(rates[name])) for name, words in RATES)


def _checks(rows: list[dict]) -> str:
    wrong = [f"{row['op']} {row['implementation']}" for row in rows if row["problem"] is not None]
    return f"{len(rows) - len(wrong)} of {len(rows)} right" + (f"; not used: {', '.join(wrong)}" if wrong else "")


def _tests(rows: list[dict]) -> str:
    outcomes = Counter(row["outcome"] for row in rows)
    return ", ".join(f"{outcomes[name]} {name}" for name in ("passed", "failed", "skipped") if outcomes[name])


def _job(rows: list[dict]) -> str:
    row = rows[-1]
    return (
        f"{row['total_s']:.1f} s to the last grid, compiling {row['compile_s'] or 0:.1f} s, "
        f"{significant(row['imgs_per_sec'])} imgs/sec"
    )


def _smoke(rows: list[dict]) -> str:
    wrong = [row["step"] for row in rows if row["problem"]]
    return f"{len(rows) - len(wrong)} of {len(rows)} right" + (f"; not: {', '.join(wrong)}" if wrong else "")


def _library(rows: list[dict]) -> str:
    row = rows[-1]
    return f"{row['used']}, {', '.join(row['architectures'] or ['architectures unknown'])}"


def _choices(rows: list[dict]) -> str:
    return "chosen: " + ", ".join(
        f"{name} {number}" for name, number in Counter(row["chosen"] for row in rows).most_common()
    )


def _sweep(rows: list[dict]) -> str:
    best = max(rows, key=lambda row: row["imgs_per_sec"])
    return (
        f"{significant(best['imgs_per_sec'])} imgs/sec with benchmark={best['cudnn_benchmark']} "
        f"combo={best['combo_kernels']}"
    )


def _culprit(rows: list[dict]) -> str:
    return f"{rows[-1]['rung']}: {rows[-1]['culprit']}"


def _ncu(rows: list[dict]) -> str:
    return (
        f"{len(rows)} kernels; the longest, {rows[0]['name']}, at {rows[0].get('dram_percent')} % of the memory's rate"
    )


def _sanitizer(rows: list[dict]) -> str:
    wrong = [f"{row['tool']} {row['op']}" for row in rows if row["problem"] is not None]
    return f"{len(rows) - len(wrong)} of {len(rows)} clean" + (f"; not: {', '.join(wrong)}" if wrong else "")


FIGURES: dict[str, Callable[[list[dict]], str]] = {
    plan.STEP: _steps,
    plan.OPS: _ops,
    plan.KERNELS: _kernels,
    "chip": _chip,
    "check": _checks,
    "test": _tests,
    "job": _job,
    "smoke": _smoke,
    "library": _library,
    "choice": _choices,
    "sweep": _sweep,
    "culprit": _culprit,
    "ncu": _ncu,
    "sanitizer": _sanitizer,
}
