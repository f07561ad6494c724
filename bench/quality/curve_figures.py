"""The curves of the rows: a metric over the images shown, and over the seconds of training."""
from collections.abc import Sequence
from pathlib import Path

from fastgan.bench.quality.pictures import shrink
from fastgan.files import write_beside_and_rename


def save_curves(rows: Sequence[dict], metric: str, path: Path, logarithmic: bool) -> None:
    """Write a PNG of `metric` of the rows over kimg and over seconds.

    Seeds of one preset have one colour; the legend names the data where they differ.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), dpi=90, layout="constrained", facecolor="white")
    panels = figure.subplots(1, 2, sharey=True)
    names = list(dict.fromkeys(_name(row, rows) for row in rows))
    colors = colormaps["tab20" if len(names) > 10 else "tab10"]
    for row in rows:
        name = _name(row, rows)
        values = [float("nan") if value is None else value for value in row["numbers"][metric]]
        for axes, places in zip(panels, ([nimg / 1000 for nimg in row["nimg"]], row["train_s"]), strict=True):
            axes.plot(
                places, values, color=colors(names.index(name)), linewidth=1.4, marker=".", markersize=4, label=name
            )
    for axes, label in zip(panels, ("kimg", "seconds of training"), strict=True):
        axes.set_xlabel(label)
        axes.set_xscale("symlog", linthresh=10)
        axes.grid(color="#e5e5e5", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(metric)
    if logarithmic:
        panels[0].set_yscale("log")
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))  # one entry a name
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_beside_and_rename(path, lambda beside: figure.savefig(beside, format="png"))
    shrink(path)


def _name(row: dict, rows: Sequence[dict]) -> str:
    several = len({other["data"] for other in rows}) > 1
    return f"{row['preset']}, {row['data']}" if several else row["preset"]
