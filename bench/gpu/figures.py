"""The most important number of a stage's rows, in words."""
from collections import Counter
from collections.abc import Callable

from bench.gpu import plan
from bench.results import significant

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
