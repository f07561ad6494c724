"""What the examples share: arguments, data made by a script, and the picture at the end."""
import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from fastgan import UserError
from fastgan.plots import save_grid, to_uint8


def main(make: Callable, show: Callable, steps: int) -> None:
    """Train what `make` returns, and let `show(trainer, path)` save OUT/NAME.png.

    make(compile=...) -> trainer. steps: as many as docs/examples.md trained, without --steps.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--steps", type=int, default=steps, help="training steps (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder of the picture")
    parser.add_argument("--compile", action="store_true", help="compile every phase into one graph")
    args = parser.parse_args()
    try:
        trainer = make(compile=args.compile)
        statistics = trainer.fit(steps=args.steps)
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / f"{Path(sys.argv[0]).stem}.png"
        show(trainer, path)
    except UserError as error:
        sys.exit(str(error))
    print(f"{path}: after {args.steps} steps on the {statistics['rung']} rung")


def save_images(images: torch.Tensor, path: Path, columns: int | None = None) -> None:
    """Save float images in [-1, 1] as a grid, row by row."""
    save_grid(to_uint8(images.cpu(), -1, 1), path, columns)


def save_clouds(clouds: Mapping[str, torch.Tensor], path: Path) -> None:
    """Save clouds of points [num, 2] side by side, by title, on the axes of the first."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(clouds), 3), dpi=80, layout="constrained")
    axes = figure.subplots(1, len(clouds), sharex=True, sharey=True)
    for (title, points), axis in zip(clouds.items(), axes, strict=True):
        axis.scatter(*points.T.cpu().numpy(), s=1)
        axis.set_title(title, fontsize=9)
    figure.savefig(path)


def save_curves(rows: Mapping[str, torch.Tensor], path: Path) -> None:
    """Save series [num, length] of several kinds, a kind a row, by title."""
    from matplotlib.figure import Figure

    count = max(len(series) for series in rows.values())
    figure = Figure(figsize=(1.5 * count, 1.5 * len(rows)), dpi=80, layout="constrained")
    axes = figure.subplots(len(rows), count, sharex=True, sharey=True, squeeze=False)
    for (title, series), line in zip(rows.items(), axes, strict=True):
        line[0].set_ylabel(title, fontsize=9)
        for values, axis in zip(series.cpu().numpy(), line, strict=True):
            axis.plot(values, linewidth=1)
    figure.savefig(path)


def scenes(num: int, size: int, seed: int = 0, is_striped: bool = False) -> torch.Tensor:
    """Return uint8 [num, 3, size, size]: three discs and boxes in front of a gradient of colours.

    is_striped: with black stripes on discs and boxes, as zebras are striped horses.
    """
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size].astype(np.float32)[:, None] / size  # each [1, size, size]

    def numbers(low: float, high: float, *shape: int) -> np.ndarray:
        return generator.uniform(low, high, (num, *shape)).astype(np.float32)

    top, bottom = numbers(120, 255, 3, 1, 1), numbers(0, 120, 3, 1, 1)
    images = top + (bottom - top) * y
    for _ in range(3):
        dx, dy, radius = x - numbers(0.2, 0.8, 1, 1), y - numbers(0.2, 0.8, 1, 1), numbers(0.1, 0.25, 1, 1)
        is_disc = numbers(0, 1, 1, 1) < 0.5
        inside = np.where(is_disc, np.hypot(dx, dy), np.maximum(abs(dx), abs(dy))) < radius
        if is_striped:
            inside_stripe = np.sin((dx + dy) * 60) < 0
            images = np.where((inside & inside_stripe)[:, None], 0, np.where(inside[:, None], 250, images))
        else:
            images = np.where(inside[:, None], numbers(0, 255, 3, 1, 1), images)
    return torch.from_numpy(images.astype(np.uint8))


def on_device(images: torch.Tensor, nets: torch.nn.ModuleDict) -> torch.Tensor:
    """Return uint8 images as the networks take them: in [-1, 1], on their device."""
    return images.to(next(nets.parameters()).device).float() / 127.5 - 1
