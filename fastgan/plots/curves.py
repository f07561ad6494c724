"""Curves of a run over kimg, and samples of a density compared with their target."""
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from fastgan.files import write_beside_and_rename

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOMENTS = ("mean", "std", "skewness", "kurtosis")
# Colours that colour-blind readers can distinguish (Okabe and Ito)
_BLUE, _ORANGE, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_GREY = "#777777"


class Panel(NamedTuple):
    """Curves that share an axis, drawn where there are values of any."""

    label: str
    keys: tuple[str, ...]
    log: bool = False  # values above 0 over decades
    reference: str | None = None  # the meaning of the value 1: a dashed line
    always: bool = False


_PANELS = (
    Panel("loss", ("d_loss", "g_loss"), always=True),
    Panel("mean logit", ("real_logits", "fake_logits"), always=True),
    Panel("gradient norm", ("gradient_norm_D", "gradient_norm_G"), log=True),
    Panel("distance of samples", ("sample_distance",), reference="real images"),
    Panel("penalty", ("gradient_penalty", "r1_penalty", "r2_penalty", "path_length"), log=True),
    Panel("loss of other heads", ("class_loss", "class_loss_fake", "reconstruction_loss")),
    Panel("augmentation", ("augment_p",)),
)


def save_losses(rows: Sequence[dict], path: str | os.PathLike) -> None:
    """Save a PNG of the losses and the mean logits of real and fake images over kimg.

    Other values are drawn where there are any: gradient norms, the mean distance between samples
    over that between real images, penalties, other losses, the probability of augmentation. Nulls
    are skipped. rows: dicts with "kimg" and the names of statistics (floats, None or absent).
    Raises DiskError.
    """
    panels = [
        panel
        for panel in _PANELS
        if panel.always or any(row.get(key) is not None for row in rows for key in panel.keys)
    ]
    figure, cells = _cells(len(panels))
    for axes, panel in zip(cells, panels, strict=True):
        _draw_panel(axes, panel, rows)
    _save_figure(figure, path)


def _draw_panel(axes: "Axes", panel: Panel, rows: Sequence[dict]) -> None:
    if panel.reference is not None:
        axes.axhline(1, color=_GREY, linestyle="--", linewidth=1.2, label=panel.reference)
    for key, color in zip(panel.keys, (_BLUE, _ORANGE, _GREEN, _PURPLE), strict=False):
        if panel.always or any(row.get(key) is not None for row in rows):
            _plot_over_kimg(axes, rows, key, color)
    if panel.log and any((row.get(key) or 0) > 0 for row in rows for key in panel.keys):
        axes.set_yscale("log", nonpositive="mask")
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))  # above the curves
    axes.set_ylabel(panel.label)


def save_metrics(
    rows: Sequence[dict], names: Sequence[str], path: str | os.PathLike, best_kimg: float | None = None
) -> None:
    """Save a PNG of the metrics of these names over kimg, each in a panel of its own.

    A dashed line marks where the best snapshot was kept. rows: dicts with "kimg" and the metrics
    (floats, None or absent). Raises DiskError.
    """
    figure, cells = _cells(len(names))
    for axes, name in zip(cells, names, strict=True):
        if best_kimg is not None:
            axes.axvline(best_kimg, color=_GREY, linestyle="--", linewidth=1.2)
        _plot_over_kimg(axes, rows, name, _BLUE)
        axes.set_title(name, fontsize=11, loc="left")
    _save_figure(figure, path)


def moments(samples: torch.Tensor) -> dict[str, float]:
    """Return mean, standard deviation, skewness and excess kurtosis of all elements, in float64.

    They are those of a whole population. Skewness and kurtosis of equal samples are NaN.
    """
    samples = samples.detach().double().flatten()
    # Exactly 0 for equal samples: a std of rounding errors would make the rest meaningless
    shifted = samples - samples[0]
    centred = shifted - shifted.mean()
    mean = samples[0] + shifted.mean()
    std = centred.square().mean().sqrt()
    standard = centred / std
    values = (mean, std, standard.pow(3).mean(), standard.pow(4).mean() - 3)
    return {name: value.item() for name, value in zip(MOMENTS, values, strict=True)}


def save_histogram(samples: torch.Tensor, mean: float, std: float, path: str | os.PathLike) -> None:
    """Save a PNG of the density of the samples (any shape) beside the target N(mean, std).

    It shows the moments of both. The plot spans 5 std to both sides; the legend gives the share of
    the samples outside, NaN included. Raises DiskError.
    """
    figure, axes = _figure(1, 1, height=4.2)
    low, high, bins = mean - 5 * std, mean + 5 * std, 100
    samples = samples.detach().double().flatten().cpu()
    inside = samples[(samples >= low) & (samples <= high)]
    density = torch.histc(inside, bins, low, high) / (len(samples) * (high - low) / bins)
    outside = 1 - len(inside) / len(samples)
    axes.stairs(
        density.numpy(),
        torch.linspace(low, high, bins + 1).numpy(),
        fill=True,
        color=_BLUE,
        alpha=0.45,
        label="G(z): " + _describe(moments(samples)) + (f"\n{outside:.1%} outside this plot" if outside else ""),
    )
    x = torch.linspace(low, high, 400, dtype=torch.float64)
    target = torch.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    described = _describe({"mean": mean, "std": std, "skewness": 0.0, "kurtosis": 0.0})
    axes.plot(x.numpy(), target.numpy(), color=_ORANGE, linewidth=2, label=f"target: {described}")
    axes.set(xlabel="sample", ylabel="density", ylim=(0, 1.35 * max(target.max().item(), density.max().item())))
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    _save_figure(figure, path)


def save_points(samples: torch.Tensor, centres: torch.Tensor, path: str | os.PathLike) -> None:
    """Save a PNG of samples [num, 2] in the plane, over the centres [num_modes, 2] of their modes.

    The plot reaches as far beyond the centres as a quarter of their width, at least 1; the legend
    gives the share of the samples outside, NaN included. Raises DiskError.
    """
    figure, axes = _figure(1, 1, height=8.4)
    samples, centres = samples.detach().double().cpu(), centres.double().cpu()
    middle = (centres.amin(0) + centres.amax(0)) / 2
    width = (centres.amax(0) - centres.amin(0)).max().item()
    reach = width / 2 + max(width / 4, 1.0)
    inside = samples[((samples - middle).abs() <= reach).all(1)]
    outside = 1 - len(inside) / len(samples)
    axes.scatter(
        *centres.T.numpy(),
        s=260,
        facecolors="none",
        edgecolors=_ORANGE,
        linewidths=1.6,
        zorder=3,
        label=f"modes ({len(centres)})",
    )
    axes.scatter(*inside.T.numpy(), s=4, color=_BLUE, alpha=0.35, linewidths=0,
                 label=f"G(z): {len(samples)} samples" + (f", {outside:.1%} outside this plot" if outside else ""))
    xlim, ylim = ((centre - reach, centre + reach) for centre in middle.tolist())
    axes.set(xlim=xlim, ylim=ylim, aspect="equal")
    legend = axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))  # above the points
    legend.legend_handles[1].set(sizes=[30], alpha=1)  # a point of the plot's size would not be seen there
    _save_figure(figure, path)


def save_moments(rows: Sequence[dict], mean: float, std: float, path: str | os.PathLike) -> None:
    """Save a PNG of the four moments of the samples over kimg.

    Each has its target (skewness and excess kurtosis: 0) as a dashed line. rows: dicts with "kimg",
    "sample_mean", "sample_std", "sample_skewness", "sample_kurtosis" (floats, None or absent).
    Raises DiskError.
    """
    figure, panels = _figure(2, 2, height=6.0)
    for axes, name, target in zip(panels.flat, MOMENTS, (mean, std, 0.0, 0.0), strict=True):
        axes.axhline(target, color=_GREY, linestyle="--", linewidth=1.2)
        _plot_over_kimg(axes, rows, f"sample_{name}", _BLUE)
        axes.set_title("excess kurtosis" if name == "kurtosis" else name, fontsize=11, loc="left")
    for axes in panels[-1]:
        axes.set_xlabel("kimg")
    _save_figure(figure, path)


def _describe(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items())


def _cells(num: int) -> tuple["Figure", list["Axes"]]:
    """Return a figure of `num` panels over kimg, two in a row."""
    columns = min(2, num)
    rows = math.ceil(num / columns)
    figure, grid = _figure(rows, columns, height=2.9 * rows, width=6.5 * columns)
    cells = [grid] if num == 1 else list(grid.flat)
    for unused in cells[num:]:
        unused.remove()
    for lowest in cells[max(0, num - columns):num]:
        lowest.set_xlabel("kimg")
        lowest.tick_params(labelbottom=True)  # also beside an empty cell
    return figure, cells[:num]


def _figure(rows: int, columns: int, height: float, width: float = 8) -> tuple["Figure", Any]:
    """Return a figure and its panels (one Axes, or an array of them) outside pyplot.

    pyplot would look for a display and keep global state.
    """
    from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
    panels = figure.subplots(rows, columns, sharex=True)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, panels


def _plot_over_kimg(axes: "Axes", rows: Sequence[dict], key: str, color: str) -> None:
    points = [(row["kimg"], row[key]) for row in rows if row.get(key) is not None]
    marker = "o" if len(points) <= 20 else None  # a single point has no line
    axes.plot(
        *zip(*points, strict=True) if points else ([], []),
        color=color,
        linewidth=1.6,
        marker=marker,
        markersize=4,
        label=key,
    )


def _save_figure(figure: "Figure", path: str | os.PathLike) -> None:
    write_beside_and_rename(path, lambda beside: figure.savefig(beside, format="png"))
