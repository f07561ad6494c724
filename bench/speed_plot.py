"""The plot of measured speed: images/s of each step, relative to the plain loop."""
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.bench.machine import describe
from fastgan.bench.quality.pictures import shrink
from fastgan.bench.step_rows import subject
from fastgan.errors import UserError
from fastgan.files import write_beside_and_rename

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLAIN = ("plain", "fp32")
# (implementation, dtype) of a bar: its label and colour, from top to bottom within a step
SERIES = {
    PLAIN: ("plain loop, fp32", "#b8b8b8"),
    ("accelerated", "bf16"): ("accelerated loop, bf16", "#56B4E9"),
    ("compiled", "fp32"): ("fastgan compiled, fp32", "#F0A868"),
    ("compiled", "bf16"): ("fastgan compiled, bf16", "#D55E00"),
}
HEIGHT = 0.8  # of a bar; the distance between bars of a step is 1
GAP = 0.7  # between two steps


def plot(rows: Sequence[dict], path: Path) -> None:
    """Write a PNG of horizontal bars: images/s over those of the plain loop, a group of bars a step.

    rows: of step_rows, oldest first. Of each bar the newest row counts. Only rows of the
    machine of the newest row are drawn, which the title names. Raises UserError, DiskError.
    """
    from matplotlib.figure import Figure

    steps = _steps(rows)
    num_bars = sum(map(len, steps.values()))
    figure = Figure(figsize=(8, 1.1 + 0.24 * num_bars + 0.17 * len(steps)), dpi=200, layout="constrained",
                    facecolor="white")  # fmt: skip
    axes = figure.subplots()
    _draw(axes, steps)
    axes.set_title("images/s of a training step, relative to the plain loop", fontsize=11, loc="left", pad=22)
    axes.text(0, 1.015, _caption(rows[-1]["machine"]), transform=axes.transAxes, fontsize=8, color="#666666")
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    labels = [label for label, _ in SERIES.values() if label in handles]
    figure.legend([handles[label] for label in labels], labels, loc="outside lower center", ncols=len(SERIES),
                  frameon=False, fontsize=8.5)  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_beside_and_rename(path, lambda beside: figure.savefig(beside, format="png"))
    shrink(path)


def _steps(rows: Sequence[dict]) -> dict[str, dict[tuple, dict]]:
    """Return the newest row of each bar of each step.

    A step that the accelerated loop was measured on has no fp32 bar of fastgan: bf16 is compared
    with bf16. Steps without one (those with penalties) show fastgan in the precision of plain too.
    """
    if not rows or any("ratio_to_plain" not in row for row in rows):
        raise UserError("--plot draws rows of bench step, such as those of bench/results/step.jsonl")
    machine = describe(rows[-1]["machine"])
    steps: dict[str, dict[tuple, dict]] = {}
    for row in rows:
        key = row["implementation"], row["dtype"]
        if key in SERIES and row["ratio_to_plain"] is not None and describe(row["machine"]) == machine:
            steps.setdefault(subject(row), {})[key] = row
    if not steps:
        raise UserError("--plot found no row that was measured beside the plain loop: run bench step with plain")
    for bars in steps.values():
        if ("accelerated", "bf16") in bars:
            bars.pop(("compiled", "fp32"), None)
    return steps


def _caption(machine: dict) -> str:
    device = f"{machine['gpu']}, " if machine["gpu"] else ""
    return (
        f"{device}{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}; "
        "median over the rounds, lines: quartiles"
    )


def _draw(axes: "Axes", steps: dict[str, dict[tuple, dict]]) -> None:
    """Draw the bars from top to bottom, each with its ratio and the quartiles over the rounds."""
    place, ticks = 0.0, []
    for bars in steps.values():
        ticks.append(place + (len(bars) - 1) / 2)
        for key in (key for key in SERIES if key in bars):
            label, color = SERIES[key]
            ratio, (low, high) = bars[key]["ratio_to_plain"], bars[key]["ratio_to_plain_quartiles"]
            axes.barh(place, ratio, HEIGHT, color=color, label=label)
            axes.plot([low, high], [place, place], color="#333333", linewidth=1)
            axes.text(max(ratio, high) + 0.04, place, "1" if key == PLAIN else f"{ratio:.2f}", va="center", fontsize=9)
            place += 1
        place += GAP
    axes.set_yticks(ticks, [name.replace(" batch ", "\nbatch ") for name in steps], fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.08, y=0.02)
    axes.axvline(1, color="#888888", linewidth=0.8, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)
