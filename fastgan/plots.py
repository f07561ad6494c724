"""Pictures of a run: grids of images, curves over kimg, the animation of progress, and the 1-D Gaussian against its target."""
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from fastgan.errors import UserError
from fastgan.files import write_beside_and_rename

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

MOMENTS = ("mean", "std", "skewness", "kurtosis")
_MIN_TILE = 32  # px
_MAX_GRID = 2048  # px: grids are not enlarged beyond this
_MAX_FRAME, _MAX_FRAMES, _LAST_FRAME_MS = 1024, 100, 1500
_PILLOW_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_BLUE, _ORANGE, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # told apart by colour-blind eyes (Okabe and Ito)
_GREY = "#777777"


def grid_size(num_images: int) -> tuple[int, int]:
    """(rows, columns) of the grid with the fewest empty cells and at most about four times as wide as high; the squarest of those."""
    if num_images < 1:
        raise ValueError(f"a grid needs at least one image, not {num_images}")
    candidates = range(math.ceil(math.sqrt(num_images)), math.floor(2 * math.sqrt(num_images)) + 1)
    columns = min(candidates, key=lambda columns: (-num_images % columns, columns))
    return math.ceil(num_images / columns), columns


def to_uint8(img: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Float images whose range is [low, high] as uint8 of the same shape: clamped and rounded; NaN, of a diverged G, becomes black."""
    levels = (img.float() - low) * (255 / (high - low))
    return levels.nan_to_num(nan=0.0).clamp(0, 255).round().to(torch.uint8)


def save_grid(images: torch.Tensor, path: str | os.PathLike, columns: int | None = None) -> None:
    """Write uint8 images [num, C, H, W], C = 1 (grey), 3 (RGB) or 4 (RGBA), as one PNG, row by row, without gutters.

    Small images are enlarged by a whole factor (nearest), to 32 px or more where the grid then stays within 2048 px; empty
    cells are black. `columns`: None for a grid about as wide as high. Raises UserError for other images or another suffix, DiskError.
    """
    _check_grid(images, path)
    rows, columns = grid_size(len(images)) if columns is None else (math.ceil(len(images) / columns), columns)
    num, channels, height, width = images.shape
    cells = images.new_zeros(rows * columns, channels, height, width)
    cells[:num] = images
    factor = _enlargement(rows * height, columns * width, min(height, width))
    cells = cells.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    grid = cells.view(rows, columns, channels, height * factor, width * factor).permute(0, 3, 1, 4, 2)
    _save_png(grid.reshape(rows * height * factor, columns * width * factor, channels), path)


class Panel(NamedTuple):
    """Curves that share an axis, drawn where there are values of any."""

    label: str
    keys: tuple[str, ...]
    log: bool = False  # values above 0 over decades
    reference: str | None = None  # what has the value 1: a dashed line
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
    """PNG over kimg of the losses and the mean logits of real and fake images, and of whatever else there are values of: gradient norms, the mean
    distance between samples over that between real images, penalties, other losses, the probability of augmentation. Nulls are skipped.

    rows: dicts with "kimg" and the names of statistics (floats, None or absent). Raises DiskError.
    """
    panels = [panel for panel in _PANELS if panel.always or any(row.get(key) is not None for row in rows for key in panel.keys)]
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


def save_metrics(rows: Sequence[dict], names: Sequence[str], path: str | os.PathLike, best_kimg: float | None = None) -> None:
    """PNG of the metrics of these names over kimg, each in a panel of its own; a dashed line where the best snapshot was kept.

    rows: dicts with "kimg" and the metrics (floats, None or absent). Raises DiskError.
    """
    figure, cells = _cells(len(names))
    for axes, name in zip(cells, names, strict=True):
        if best_kimg is not None:
            axes.axvline(best_kimg, color=_GREY, linestyle="--", linewidth=1.2)
        _plot_over_kimg(axes, rows, name, _BLUE)
        axes.set_title(name, fontsize=11, loc="left")
    _save_figure(figure, path)


def save_progress(frame_paths: Sequence[str | os.PathLike], path: str | os.PathLike, seconds: float = 6.0) -> int:
    """Animate grids of one run as a looping .webp of about `seconds`, the last one held longer; returns the number of frames used.

    Frames of another size than the last one are left out; of more than 100 the first, the last and evenly spread ones between
    are kept; frames above 1024 px are reduced by a whole factor. Raises UserError when a frame cannot be read, DiskError.
    """
    frames = _evenly_thinned(_frames_of_last_size([Path(frame_path) for frame_path in frame_paths]), _MAX_FRAMES)
    first, *others = map(_read_frame, frames)
    durations = [max(1, round(1000 * seconds / len(frames)))] * len(frames)
    durations[-1] += _LAST_FRAME_MS
    write_beside_and_rename(path, lambda beside: first.save(
        beside, format="WEBP", save_all=True, append_images=others, duration=durations, loop=0, quality=80, method=2))
    return len(frames)


def moments(samples: torch.Tensor) -> dict[str, float]:
    """Mean, standard deviation, skewness and excess kurtosis of all elements, in float64, as of a whole population.

    Skewness and kurtosis of equal samples are NaN.
    """
    samples = samples.detach().double().flatten()
    shifted = samples - samples[0]  # exactly 0 for equal samples, whose std would else be a rounding error and the rest nonsense
    centred = shifted - shifted.mean()
    mean = samples[0] + shifted.mean()
    std = centred.square().mean().sqrt()
    standard = centred / std
    values = (mean, std, standard.pow(3).mean(), standard.pow(4).mean() - 3)
    return {name: value.item() for name, value in zip(MOMENTS, values, strict=True)}


def save_histogram(samples: torch.Tensor, mean: float, std: float, path: str | os.PathLike) -> None:
    """PNG of the density of the samples (any shape) beside that of the target N(mean, std), with the moments of both.

    The plot spans 5 std to both sides; the share of the samples outside, NaN included, is said in the legend. Raises DiskError.
    """
    figure, axes = _figure(1, 1, height=4.2)
    low, high, bins = mean - 5 * std, mean + 5 * std, 100
    samples = samples.detach().double().flatten().cpu()
    inside = samples[(samples >= low) & (samples <= high)]
    density = torch.histc(inside, bins, low, high) / (len(samples) * (high - low) / bins)
    outside = 1 - len(inside) / len(samples)
    axes.stairs(density.numpy(), torch.linspace(low, high, bins + 1).numpy(), fill=True, color=_BLUE, alpha=0.45,
                label="G(z): " + _describe(moments(samples)) + (f"\n{outside:.1%} outside this plot" if outside else ""))
    x = torch.linspace(low, high, 400, dtype=torch.float64)
    target = torch.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    described = _describe({"mean": mean, "std": std, "skewness": 0.0, "kurtosis": 0.0})
    axes.plot(x.numpy(), target.numpy(), color=_ORANGE, linewidth=2, label=f"target: {described}")
    axes.set(xlabel="sample", ylabel="density", ylim=(0, 1.35 * max(target.max().item(), density.max().item())))
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    _save_figure(figure, path)


def save_points(samples: torch.Tensor, centres: torch.Tensor, path: str | os.PathLike) -> None:
    """PNG of samples [num, 2] in the plane, over the centres [num_modes, 2] of the modes that they should come from.

    The plot reaches as far beyond the centres as a quarter of their width, at least 1; the share of the samples outside, NaN included, is said in
    the legend. Raises DiskError.
    """
    figure, axes = _figure(1, 1, height=8.4)
    samples, centres = samples.detach().double().cpu(), centres.double().cpu()
    middle = (centres.amin(0) + centres.amax(0)) / 2
    width = (centres.amax(0) - centres.amin(0)).max().item()
    reach = width / 2 + max(width / 4, 1.0)
    inside = samples[((samples - middle).abs() <= reach).all(1)]
    outside = 1 - len(inside) / len(samples)
    axes.scatter(*centres.T.numpy(), s=260, facecolors="none", edgecolors=_ORANGE, linewidths=1.6, zorder=3, label=f"modes ({len(centres)})")
    axes.scatter(*inside.T.numpy(), s=4, color=_BLUE, alpha=0.35, linewidths=0,
                 label=f"G(z): {len(samples)} samples" + (f", {outside:.1%} outside this plot" if outside else ""))
    xlim, ylim = ((centre - reach, centre + reach) for centre in middle.tolist())
    axes.set(xlim=xlim, ylim=ylim, aspect="equal")
    legend = axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))  # above the points
    legend.legend_handles[1].set(sizes=[30], alpha=1)  # a point of the plot's size would not be seen there
    _save_figure(figure, path)


def save_moments(rows: Sequence[dict], mean: float, std: float, path: str | os.PathLike) -> None:
    """PNG of the four moments of the samples over kimg, each with its target (skewness and excess kurtosis: 0) as a dashed line.

    rows: dicts with "kimg", "sample_mean", "sample_std", "sample_skewness", "sample_kurtosis" (floats, None or absent). Raises DiskError.
    """
    figure, panels = _figure(2, 2, height=6.0)
    for axes, name, target in zip(panels.flat, MOMENTS, (mean, std, 0.0, 0.0), strict=True):
        axes.axhline(target, color=_GREY, linestyle="--", linewidth=1.2)
        _plot_over_kimg(axes, rows, f"sample_{name}", _BLUE)
        axes.set_title("excess kurtosis" if name == "kurtosis" else name, fontsize=11, loc="left")
    for axes in panels[-1]:
        axes.set_xlabel("kimg")
    _save_figure(figure, path)


def _check_grid(images: torch.Tensor, path: str | os.PathLike) -> None:
    if Path(path).suffix.lower() != ".png":
        raise UserError(f"grids are written as PNG: give {path} the suffix .png")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.numel() == 0:
        raise UserError(f"a grid needs uint8 images [num, C, H, W], not {images.dtype} {list(images.shape)}; to_uint8 makes them")
    if images.shape[1] not in _PILLOW_MODES:
        raise UserError(f"{path} cannot show images of {images.shape[1]} channels; give 1 (grey), 3 (RGB) or 4 (RGBA) of them")


def _enlargement(grid_height: int, grid_width: int, tile: int) -> int:
    wanted, allowed = math.ceil(_MIN_TILE / tile), _MAX_GRID // max(grid_height, grid_width)
    return max(1, min(wanted, allowed))


def _save_png(pixels: torch.Tensor, path: str | os.PathLike) -> None:
    from PIL import Image
    height, width, channels = pixels.shape
    image = Image.frombytes(_PILLOW_MODES[channels], (width, height), pixels.cpu().numpy().tobytes())
    write_beside_and_rename(path, lambda beside: image.save(beside, format="PNG", compress_level=3))  # a third of the time of 6


@contextmanager
def _open_frame(path: Path) -> Iterator["Image.Image"]:
    from PIL import Image
    try:
        with Image.open(path) as image:
            yield image
    except OSError as error:
        raise UserError(f"cannot read the frame {path} ({error}); remove it") from error


def _frames_of_last_size(frame_paths: list[Path]) -> list[Path]:
    if not frame_paths:
        raise UserError("an animation needs at least one frame; keep the fakes*.png of the run")
    sizes = [_image_size(frame_path) for frame_path in frame_paths]
    return [frame_path for frame_path, size in zip(frame_paths, sizes, strict=True) if size == sizes[-1]]


def _image_size(path: Path) -> tuple[int, int]:
    with _open_frame(path) as image:
        return image.size


def _evenly_thinned(frames: list[Path], most: int) -> list[Path]:
    if len(frames) <= most:
        return frames
    return [frames[round(index * (len(frames) - 1) / (most - 1))] for index in range(most)]


def _read_frame(path: Path) -> "Image.Image":
    with _open_frame(path) as image:
        return image.convert("RGB").reduce(math.ceil(max(image.size) / _MAX_FRAME))


def _describe(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items())


def _cells(num: int) -> tuple["Figure", list["Axes"]]:
    """A figure of `num` panels over kimg, two in a row."""
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
    """A figure and its panels (one Axes, or an array of them) outside pyplot, which would look for a display and keep global state."""
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
    axes.plot(*zip(*points, strict=True) if points else ([], []), color=color, linewidth=1.6, marker=marker, markersize=4, label=key)


def _save_figure(figure: "Figure", path: str | os.PathLike) -> None:
    write_beside_and_rename(path, lambda beside: figure.savefig(beside, format="png"))
