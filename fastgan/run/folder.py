"""The folder of one run.

It has the configuration, log, statistics, pictures, snapshots and the state to resume from.
"""
import dataclasses
import json
import re
from pathlib import Path

import torch

from fastgan import plots
from fastgan.config import Config, from_dict, to_json
from fastgan.errors import UserError
from fastgan.files import write_text
from fastgan.metrics.names import is_of_one_class
from fastgan.run import checkpoint
from fastgan.run.log import METRICS, RunLog, read_rows

STATES_KEPT = 2  # the newest and the one before it


class RunFolder:
    """The writer of a run folder, whose files architecture.md lists.

    Every file but the appended logs is written beside and renamed.
    """

    def __init__(self, path: Path, config: Config, resume_nimg: int | None = None):
        self.path = Path(path)
        self.config = config
        self.log = RunLog(self.path, tensorboard=config.run.tensorboard, resume_nimg=resume_nimg)
        write_text(self.path / "training_options.json", to_json(config) + "\n")

    def write_image_grid(self, name: str, images: torch.Tensor, columns: int | None = None) -> None:
        """Write a PNG of uint8 images [num, C, H, W]."""
        plots.save_grid(images, self.path / name, columns)

    def write_snapshot(
        self, state: dict[str, torch.Tensor], nimg: int, class_names: tuple[str, ...] | None = None
    ) -> Path:
        """Write the weights of G, D and G_ema, with the configuration that rebuilds them.

        class_names: the names of its classes.
        """
        path = self.path / checkpoint.snapshot_name(nimg)
        checkpoint.save_tensors(path, state, self._header(nimg, class_names))
        return path

    def write_best(
        self, state: dict[str, torch.Tensor], nimg: int, class_names: tuple[str, ...] | None, metric: str, value: float
    ) -> None:
        """Write the best snapshot so far by a metric, in place of the one before."""
        best = {"metric": metric, "value": value}
        checkpoint.save_tensors(self.path / checkpoint.BEST_SNAPSHOT, state, self._header(nimg, class_names) | best)

    def read_best(self, most_nimg: int) -> dict | None:
        """Return the header of the best snapshot: nimg, metric, value.

        None where there is none, a damaged one, or one of after most_nimg images.
        """
        try:
            header = checkpoint.read_header(self.path / checkpoint.BEST_SNAPSHOT, "snapshot")
        except UserError:
            return None
        return header if header["nimg"] <= most_nimg else None

    def _header(self, nimg: int, class_names: tuple[str, ...] | None) -> dict:
        return {"kind": "snapshot", "nimg": nimg, "config": dataclasses.asdict(self.config), "class_names": class_names}

    def write_state(self, tensors: dict[str, torch.Tensor], header: dict) -> None:
        """Write the state to resume from; then remove older states but one."""
        checkpoint.save_tensors(self.path / checkpoint.state_name(header["nimg"]), tensors, {"kind": "state"} | header)
        checkpoint.remove_older_states(self.path, STATES_KEPT)

    def write_summary(self) -> None:
        """Write losses.png, metrics.png, where there are metrics, and progress.webp.

        progress.webp shows the fixed-noise grid over time.
        """
        rows, measured = read_rows(self.path), read_rows(self.path, METRICS)
        if rows:
            plots.save_losses(rows, self.path / "losses.png")
        if measured:
            self._draw_metrics(measured)
        frames = [self.path / "fakes_init.png", *sorted(self.path.glob("fakes[0-9]*.png"))]
        frames = [frame for frame in frames if frame.exists()]
        if len(frames) > 1:
            plots.save_progress(frames, self.path / "progress.webp")

    def _draw_metrics(self, rows: list[dict]) -> None:
        best, no_metrics = self.read_best(rows[-1]["nimg"]), {"nimg", "kimg", "seconds", "nonfinite"}
        names = dict.fromkeys(
            name for row in rows for name in row if name not in no_metrics and not is_of_one_class(name)
        )
        plots.save_metrics(rows, list(names), self.path / "metrics.png", None if best is None else best["nimg"] / 1000)

    def write_density(self, samples: torch.Tensor, mean: float, std: float) -> None:
        """Write the histogram of samples of a 1-D density beside the truth, and its moments.

        The moments are drawn over time.
        """
        plots.save_histogram(samples, mean, std, self.path / "histogram.png")
        plots.save_moments(read_rows(self.path), mean, std, self.path / "moments.png")

    def write_points(self, samples: torch.Tensor, centres: torch.Tensor) -> None:
        """Write the samples [num, 2] of a 2-D density over the modes."""
        plots.save_points(samples, centres, self.path / "points.png")

    def last_snapshot(self) -> Path | None:
        """Return the newest snapshot that was completed."""
        return checkpoint.newest_snapshot(self.path)


def read_options(path: Path) -> Config:
    """Return the configuration of an existing run folder.

    Raises UserError where there is none, or a damaged one.
    """
    options = Path(path) / "training_options.json"
    if not options.is_file():
        raise UserError(
            f"{path} is not a run folder: it has no training_options.json; give the folder of a run"
        )
    try:
        return from_dict(json.loads(options.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"cannot read {options}: {error.strerror}; give yourself permission to read it") from None
    except ValueError as error:  # no UTF-8, no JSON, or no configuration
        raise UserError(f"{options} is damaged ({error}); put an intact copy in its place") from None


def next_run_folder(parent: Path, name: str) -> Path:
    """Return parent/00000-name, with the number after the highest that is there."""
    taken = (
        [int(match[1]) for match in (re.match(r"(\d{5})-", entry.name) for entry in parent.glob("*-*")) if match]
        if parent.is_dir()
        else []
    )
    safe_name = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)
    return parent / f"{max(taken, default=-1) + 1:05d}-{safe_name}"
