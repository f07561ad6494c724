"""Recorder of a run's files.

It writes pictures at the start, statistics every tick, grids and snapshots every few ticks, and a
summary at the end.
"""
import math
from collections.abc import Callable

import torch

from fastgan import plots
from fastgan.config import DENSITIES, Config
from fastgan.errors import DivergedError
from fastgan.gan.train_state import TrainState
from fastgan.metrics.names import lower_is_better
from fastgan.run import checkpoint
from fastgan.run.checkpoint import state_tensors
from fastgan.run.feeds import centres_of
from fastgan.run.folder import RunFolder
from fastgan.run.live_metrics import Measurement
from fastgan.run.sampler import Sampler


class Recorder:
    """The recorder that fills a run folder.

    sampler: of the fixed-noise images (or samples of a density). class_names: of a conditional run,
    where the data have names. real_img: uint8 [num, C, H, W] of the real set, or None where the
    data are samples of a density. nimg: images that the run was shown so far. shows_fakes: write
    grids of samples; None = where there are real images. position: gives the
    position in the data as the feed needs it beside nimg.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: Config,
        state: TrainState,
        sampler: Sampler,
        real_img: torch.Tensor | None,
        class_names: tuple[str, ...] | None = None,
        nimg: int = 0,
        position: Callable[[], dict] = dict,
        shows_fakes: bool | None = None,
    ):
        self.folder, self.config, self.state = folder, config, state
        self.sampler, self.real_img = sampler, real_img
        self.class_names, self._position = class_names, position
        self._shows_fakes = real_img is not None if shows_fakes is None else shows_fakes
        self.saved_nimg: int | None = None
        self._best = folder.read_best(nimg)

    def say(self, text: str) -> None:
        """Write one entry of log.txt: a line, or a whole traceback."""
        self.folder.log.write(text)

    def start(self) -> None:
        """Write reals.png and fakes_init.png."""
        if self.real_img is not None:
            self.folder.write_image_grid("reals.png", self.real_img)
        if self._shows_fakes:
            self._write_fakes("fakes_init.png")

    def tick(self, statistics: dict, index: int, last: bool, generator: torch.Generator) -> None:
        """Write a row of statistics, and what is due at this tick.

        Every image_ticks a grid, every snapshot_ticks weights and resumable state; at the last tick
        all of them. Raises DivergedError if a weight that would be saved is NaN or infinite.
        """
        run = self.config.run
        self.folder.log.row(statistics)
        if self._shows_fakes and (last or index % run.image_ticks == 0):
            self._write_fakes(checkpoint.fakes_name(statistics["nimg"]))
        if last or index % run.snapshot_ticks == 0:
            self.save(statistics["nimg"], generator)

    def save(self, nimg: int, generator: torch.Generator) -> None:
        """Write the weights and the state to resume from.

        Raises DivergedError if a weight is NaN or infinite.
        """
        self.folder.write_snapshot(self._finite_weights(nimg), nimg, self.class_names)
        header, position = {"nimg": nimg, "torch": torch.__version__}, self._position()
        self.folder.write_state(state_tensors(self.state, generator), header | ({"data": position} if position else {}))
        self.saved_nimg = nimg

    def measured(self, nimg: int, measurement: Measurement) -> bool:
        """Write a row of metrics, and a snapshot where the first metric is the best so far.

        Returns True in that case. Raises DivergedError as `save` does.
        """
        self.folder.log.measured(
            {"nimg": nimg, "kimg": nimg / 1000, "seconds": measurement.seconds, **measurement.numbers}
        )
        metric, value = next(iter(measurement.numbers.items()))
        if not self._is_best(metric, value):
            return False
        self.folder.write_best(self._finite_weights(nimg), nimg, self.class_names, metric, value)
        self._best = {"metric": metric, "value": value}
        return True

    def _is_best(self, metric: str, value: float) -> bool:
        """Return True if value is the best so far by this metric.

        A best one by another metric does not count, nor does a number that is not finite.
        """
        if not math.isfinite(value):
            return False
        if self._best is None or self._best["metric"] != metric:
            return True
        return value < self._best["value"] if lower_is_better(metric) else value > self._best["value"]

    def _finite_weights(self, nimg: int) -> dict[str, torch.Tensor]:
        weights = self.state.weights()
        bad = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
        if bad:
            raise self.diverged(
                f"the weight {bad[0]} became NaN or infinite before {nimg / 1000:g} kimg, with losses that were "
                "still finite"
            )
        return weights

    def diverged(self, what: str, statistics: dict | None = None) -> DivergedError:
        """Log and return the error with its cause `what` and the path of the last good snapshot.

        The row of the tick that went wrong is written as well.
        """
        if statistics:
            self.folder.log.row(statistics)
        error = DivergedError(f"{what}; the last good snapshot is {self.folder.last_snapshot() or 'none yet'}")
        self.say(str(error))
        return error

    def end(self, nimg: int, generator: torch.Generator) -> None:
        """Save the weights and state unless they are saved, then write the summary.

        The summary is losses.png, metrics.png and progress.webp; for a known density also
        histogram.png and moments.png.
        """
        if self.saved_nimg != nimg:
            self.save(nimg, generator)
        self.folder.write_summary()
        if self.config.data.source == "gaussian":
            self.folder.write_density(self.sampler.grid(), self.config.data.mean, self.config.data.std)
        elif self.config.data.source in DENSITIES:
            self.folder.write_points(self.sampler.grid(), centres_of(self.config.data.source)[0])

    def _write_fakes(self, name: str) -> None:
        images = plots.to_uint8(self.sampler.grid(), self.config.model.img_low, 1.0)
        self.folder.write_image_grid(name, plots.as_pictures(images), self.sampler.columns)
