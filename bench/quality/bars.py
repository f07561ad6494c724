"""Quality bars: the thresholds that a trained preset has to reach."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MODES = {"ring8": 8, "grid25": 25}


@dataclass(frozen=True)
class Bar:
    """A quality bar.

    text: the bar in words. holds(first, last): whether the numbers at the end are good enough,
    beside those of the untrained generator.
    """

    text: str
    holds: Callable[[dict[str, float], dict[str, float]], bool]


GAUSSIAN = Bar(
    "mean 4 ± 0.1, std 1.25 ± 0.15",
    lambda first, last: abs(last["mean"] - 4) <= 0.1 and abs(last["std"] - 1.25) <= 0.15,
)


def bar(row: dict) -> Bar | None:
    """Return the bar for a row, None where it has none.

    For one, the plain loss on modes has none: it is there to be seen losing them.
    """
    metric, data = row["metric"], row["data"]
    if data == "gaussian":
        return GAUSSIAN
    if data in MODES:
        num = MODES[data]
        bar = Bar(
            f"all {num} modes, 80 % within 3 std; goal 95 %",
            lambda first, last: last["modes"] == num and last["high_quality"] >= 0.8,
        )
        return bar if row["preset"].endswith("-gp") else None
    if metric.startswith("modes"):
        return Bar("700 of the 1000 modes; goal 990", lambda first, last: last[metric] >= 700)
    if metric.startswith("accuracy"):
        return (
            Bar("90 % in the right class; goal 97 %", lambda first, last: last[metric] >= 0.9)
            if data == "mnist"
            else None
        )
    return Bar("lower than before training", lambda first, last: last[metric] < first[metric])


def reached(rows: Sequence[dict]) -> str:
    """Return `yes`, `no` or `2 of 5` seeds; nothing where there is no bar.

    rows: of one preset on one data set.
    """
    bars = [(bar(row), row) for row in rows]
    held = [_holds(each, row) for each, row in bars if each is not None]
    if not held:
        return ""
    return "yes" if all(held) else "no" if not any(held) else f"{sum(held)} of {len(held)}"


def at(row: dict, point: int) -> dict[str, float]:
    """Return the numbers of one point of a row's curve, NaN for what was not finite."""
    return {name: float("nan") if values[point] is None else values[point] for name, values in row["numbers"].items()}


def end(row: dict) -> float:
    """Return the metric of a row at the end, a distance.

    It is infinite for a training that has diverged.
    """
    value = row["numbers"][row["metric"]][-1]
    return float("inf") if value is None or "diverged" in row["note"] else value


def _holds(bar: Bar, row: dict) -> bool:
    return "diverged" not in row["note"] and bar.holds(at(row, 0), at(row, -1))
