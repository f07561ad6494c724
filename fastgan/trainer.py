"""THE LOOP: what `fastgan train` runs, and what a user with a G and a D of their own calls."""
import contextlib
import dataclasses
import math
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn

from fastgan import models, plots
from fastgan.augment.basic import scale_images
from fastgan.config import DENSITIES, Config
from fastgan.config.keywords import config_of
from fastgan.config.validation import validate
from fastgan.data import Source, open_source
from fastgan.device.determinism import refusals_said
from fastgan.device.memory import cuda_oom_as_user_error, memory_gb, memory_in_words
from fastgan.device.throttle import Throttle
from fastgan.engine.parity import PARITY_STEPS
from fastgan.errors import DivergedError, UserError
from fastgan.gan.losses import CROSS_ENTROPIES
from fastgan.gan.phases import batches_per_step
from fastgan.gan.statistics import Readout
from fastgan.ops.dispatch import autotune
from fastgan.progress import Progress
from fastgan.run.build import build_training
from fastgan.run.checkpoint import load_state
from fastgan.run.diagnostics import NUM_COMPARED, Diagnostics
from fastgan.run.feeds import batch_size_of, fit_to_data, open_feed
from fastgan.run.folder import RunFolder
from fastgan.run.live_metrics import LiveMetrics
from fastgan.run.log import refuse_existing_run
from fastgan.run.recorder import Recorder
from fastgan.run.sampler import Sampler
from fastgan.run.stopwatch import Stopwatch


def completed(config: Config) -> tuple[Config, Source | None]:
    """Return the configuration with what the data decide, and its data, None for a density.

    Raises UserError for data that cannot be opened, and for what does not go with them.
    """
    data = None if config.data.source in DENSITIES else open_source(config.data.source)
    return validate(fit_to_data(config, data, models.sizes(config.model))), data


class Trainer:
    """Trains a pair of plain nn.Modules, G(z) -> images and D(images) -> logits, in place.

    G: z -> images [N, C, H, W] in [-1, 1], flat or shaped. D: images -> one logit, or a map of
    logits, an image. z: float32 [N, z_dim] or [N, z_dim, 1, 1], whichever G takes. data: a name or a
    path (fastgan.data.open_source), whose images are converted to G's size and channels; an array, a
    tensor, a torch Dataset, a pair (images, labels) or a dict of fields by name (img, c): images in
    bytes alike, other samples of the shape that G makes as they are, in float32, scaled to G's range
    where a notice says so; a 2-D float array or tensor [num, features] holds samples of a density. A
    DataLoader or an IterableDataset is iterated as it is, with its own batch size unless batch_size
    is given; cache=True reads its data set once.

    config: a Config or the name of a preset, whose losses, penalties, optimisers and schedules are
    taken; None = the defaults. z_dim: length of z, None = G's own. out: a run folder to write
    grids, statistics and resumable snapshots into; None writes nothing. resume: go on from the
    state in `out`. progress: show a bar.

    options: every option of docs/options.md by its name, as `n_critic=5`, beside the config, and
    - loss, optimizer, augment, data_backend: loss.name, optim.name, augment.kind, data.backend;
    - lr: of both optimisers, or (lr_G, lr_D); betas: (beta1, beta2) of Adam;
    - class_weight: (D's, G's) weight of an auxiliary classifier; D returns (logits, class_logits);
    - c_dim: above 0 the networks are called G(z, c), D(images, c) with c int64 [N] or one-hot
      float32 [N, c_dim], whichever they take.

    deterministic=True sets torch's global switches for the whole process (device/determinism.py).
    Raises UserError, in one sentence, for what cannot be trained.
    """

    def __init__(
        self,
        G: nn.Module,
        D: nn.Module,
        data,
        config: Config | str | None = None,
        *,
        z_dim: int | None = None,
        out: str | Path | None = None,
        resume: bool = False,
        progress: bool = True,
        **options,
    ):
        if options.get("device") is not None:
            options["device"] = str(options["device"])
        own_batch_size = None if isinstance(config, Config) or options.get("cache") else batch_size_of(data)
        if own_batch_size and not options.keys() & {"batch_size", "run.batch_size"}:
            options["batch_size"] = own_batch_size
        source = str(data) if isinstance(data, str | Path) else type(data).__name__
        config = config_of(config, source, options if z_dim is None else {"z_dim": z_dim, **options})
        self._build(G, D, data, validate(config), z_dim, out, resume, progress)

    @classmethod
    def from_config(
        cls, config: Config, out: str | Path | None = None, resume: bool = False, progress: bool = True
    ) -> "Trainer":
        """Return the trainer of a preset, with networks and data as the configuration names them."""
        trainer = cls.__new__(cls)
        config, data = completed(config)
        torch.manual_seed(config.run.seed)
        G, D = models.build(config.model)
        trainer._build(G, D, data, config, config.model.z_dim, out, resume, progress)
        return trainer

    @cuda_oom_as_user_error()
    @refusals_said()
    def _build(self, G, D, data, config: Config, z_dim: int | None, out, resume: bool, progress: bool) -> None:
        if resume and out is None:
            raise UserError("resume=True goes on with the run in a folder: give out=...")
        if out is not None and not resume:
            refuse_existing_run(Path(out))
        self.config, self.show_progress = config, progress
        self.nimg, self.stop_requested, self.last_finite = 0, False, {}

        # The networks, their state, and the engine that runs their steps on the data.
        autotune.fix(config.run.deterministic)
        autotune.force(dataclasses.asdict(config.ops))
        training = build_training(G, D, config, z_dim)
        self.device, self.signature, self.state = training.device, training.signature, training.state
        self.generator, self.precision = training.generator, training.state.precision
        opened = open_feed(data, self.signature, config, self.generator, progress)
        self.feed, self.real_set, self.scaling = opened.feed, opened.real_set, opened.scaling
        self.engine = training.engine_on(self.feed, self._say)

        # What is looked at between steps: samples, statistics, metrics.
        self.sampler = Sampler(config, self.signature, self.state, self._real_shape())
        samples = partial(self.sampler.samples, seed=config.run.seed)
        self.diagnostics = Diagnostics(self.state, samples, self._real_to_compare(), _has_probabilities(config))
        self.live_metrics = LiveMetrics(config, self.real_set, self.sampler, self.state) if config.run.metrics else None
        self.readout, self.throttle = Readout(self.state.totals.tensor), Throttle(self.device)
        self.notes = [*training.notes, *opened.notes, *self._notes_of_data()]

        # The place in an earlier run, and the folder that the run writes.
        if resume:
            self._resume(Path(out))
        self.recorder = None if out is None else self._make_recorder(Path(out), resume)

    def _notes_of_data(self) -> list[str]:
        notes = list(self.live_metrics.notes) if self.live_metrics else []
        if self.real_set is not None and self.real_set.skipped:
            notes += [f"skipped {len(self.real_set.skipped)} files:", *self.real_set.skipped]
        return notes

    def _resume(self, folder: Path) -> None:
        """Restore the state in the folder, and move the data to its place."""
        header, notes = load_state(folder, self.state, self.generator)
        self.nimg = header["nimg"]
        note = self.feed.resume(self.nimg * batches_per_step(self.config), header.get("data", {}))
        if self.state.counts_images:
            self.state.nimg.fill_(self.nimg)
        self.notes += notes if note is None else [*notes, note]

    def _make_recorder(self, out: Path, resume: bool) -> Recorder:
        return Recorder(
            RunFolder(out, self.config, resume_nimg=self.nimg if resume else None),
            self.config,
            self.state,
            self.sampler,
            self._real_pictures(self.config.run.grid),
            self._class_names(),
            self.nimg,
            self.feed.position,
        )

    # --- the public surface -------------------------------------------------------------------------------------------

    def fit(self, *, kimg: float | None = None, epochs: float | None = None, steps: int | None = None) -> dict:
        """Train until `kimg` thousand images (or epochs, or steps) have been shown since the very
        start. Returns the statistics of the last tick.
        """
        last_tick = deque(self.ticks(kimg=kimg, epochs=epochs, steps=steps), maxlen=1)
        return last_tick[0] if last_tick else {}

    def sample(self, num: int, seed: int | None = None, c: torch.Tensor | int | None = None) -> torch.Tensor:
        """float32 [num, C, H, W] from G_ema (or G, where there is no average), in evaluation mode,
        on the CPU. seed: None = fresh randomness.

        c: one class, or int64 [num]; None = all classes in turn, for a conditional G. Samples of
        data that were scaled, as a notice says, are in the units of the data.
        """
        samples = self.sampler.samples(num, seed, c).cpu()
        return samples if self.scaling is None else self.scaling.undo(samples)

    def ticks(
        self, *, kimg: float | None = None, epochs: float | None = None, steps: int | None = None
    ) -> Iterator[dict]:
        """Train, and yield the statistics of every tick; leaving the loop early leaves a run that
        `fit` or `ticks` can go on with.
        """
        run = self.config.run
        total_nimg = self._total_nimg(kimg, epochs, steps)
        tick_nimg = max(run.batch_size, round(1000 * run.tick_kimg) if run.tick_kimg else math.ceil(total_nimg / 100))

        with (
            Progress(total_nimg, self.nimg, enabled=self.show_progress) as progress,
            cuda_oom_as_user_error(),
            refusals_said(),
        ):
            # Say what will be done, and write down where it starts.
            self._announce(progress)
            if self.recorder and self.nimg == 0:
                self.recorder.start()

            # Climb the ladder: compile the whole step and check it beside the eager one.
            self._prepare_step(progress, tick_nimg // run.batch_size)
            stopwatch, whole = Stopwatch(self.nimg), Stopwatch(self.nimg)

            while self.nimg < total_nimg and not self.stop_requested:
                # One launch: real images, fresh noise and the whole update, for as many steps as
                # the rung takes at once.
                tick_end = min((self.nimg // tick_nimg + 1) * tick_nimg, total_nimg)
                with stopwatch.stepping():
                    self._launch(math.ceil((tick_end - self.nimg) / run.batch_size))
                progress.advance(self.nimg)
                if self.nimg < tick_end and not self.stop_requested:
                    continue

                # A tick: read the statistics (this waits for the device), say them, write them.
                statistics = self._read_statistics(stopwatch)
                progress.update(self.nimg, statistics, memory_in_words())
                for text in self.diagnostics.said(statistics):
                    self._say(progress, f"at {self.nimg / 1000:g} kimg {text}")
                if self.recorder:
                    last = self.nimg >= total_nimg or self.stop_requested
                    self.recorder.tick(statistics, self.nimg // tick_nimg, last, self.generator)
                if self.live_metrics and self.live_metrics.is_due(self.nimg // tick_nimg, last=self.nimg >= total_nimg):
                    with stopwatch.paused(), whole.stepping(), progress.busy(f"measuring {self.config.run.metrics}"):
                        statistics |= self._measure(progress)
                self.engine.check_no_recompilation()
                with stopwatch.paused(), whole.paused():
                    yield statistics

            # The end, or a stop in between: the pictures of the whole run.
            if whole.step_s:
                self._say(
                    progress, f"measuring took {whole.step_s:.1f} s, {whole.step_s / whole.seconds():.0%} of the time"
                )
            if self.recorder:
                self.recorder.end(self.nimg, self.generator)

    def request_stop(self) -> None:
        """Finish the step that is running, write snapshot and state, and leave the loop.

        For signal handlers.
        """
        self.stop_requested = True

    def _total_nimg(self, kimg: float | None, epochs: float | None, steps: int | None) -> int:
        """The length asked for, else the configuration's, in images: a whole number of batches."""
        asked = (kimg, epochs, steps)
        if all(length is None for length in asked):
            asked = (self.config.run.kimg, self.config.run.epochs, self.config.run.steps)
        if sum(length is not None for length in asked) != 1:
            raise UserError("give exactly one of kimg, epochs and steps")
        kimg, epochs, steps = asked
        length = next(length for length in asked if length is not None)
        if not isinstance(length, int | float) or not 0 < length < math.inf:
            raise UserError(f"a run cannot be {length!r} long: kimg, epochs or steps is a number above 0")
        if epochs is not None and (self.real_set is None or self.real_set.num_images is None):
            raise UserError("an epoch needs a set of known length: give kimg or steps for a density or a stream")
        batch_size = self.config.run.batch_size
        nimg = (
            1000 * kimg
            if kimg is not None
            else epochs * self.real_set.num_images
            if epochs is not None
            else steps * batch_size
        )
        return math.ceil(nimg / batch_size) * batch_size

    # --- steps --------------------------------------------------------------------------------------------------------

    def _launch(self, most: int) -> None:
        """As many steps as the rung takes at once, and at most so many; nothing here waits until
        the device has nothing left to do.
        """
        first = self.nimg // self.config.run.batch_size
        num_steps = self.engine.steps_at_once(first, most)
        self.feed.reserve(num_steps)
        self.engine.run(first, num_steps)
        self.feed.launched(num_steps)
        self.throttle.launched()
        self.nimg += num_steps * self.config.run.batch_size

    @property
    def is_density(self) -> bool:
        """True if the real data are fresh samples of a known density."""
        return self.config.data.source in DENSITIES

    def _prepare_step(self, progress: Progress, steps_per_tick: int) -> None:
        """Climb the ladder, once; afterwards the first trained step is still the first.

        A launch of several steps has to fit into a tick.
        """
        if self.engine.prepared:
            return
        if self.engine.ladder.graph_steps is None:
            self.engine.limit_launches(steps_per_tick)
        self.engine.log.report = lambda text: self._say(progress, text)
        if self.recorder:
            self.engine.log.details = self.recorder.say
        self.feed.reserve(self.feed.max_steps or PARITY_STEPS)
        climbing = progress.busy(
            "compiling the training step and checking it against eager",
            "compiled and checked the step in {seconds:.1f} s",
        )
        with climbing if self.config.run.compile else contextlib.nullcontext():
            rung = self.engine.prepare()
        if self.recorder:
            at_once = f", {rung.steps_per_launch} steps a launch" if rung.name == "captured" else ""
            self.recorder.say(
                f"training on {self.device.type} with the {rung.name} step{at_once}, ready in {rung.build_s:.1f} s"
            )
            self.recorder.say(f"fused operators of the step: {autotune.used()}")

    # --- what a tick says and writes ----------------------------------------------------------------------------------

    def _announce(self, progress: Progress) -> None:
        for text in self.notes:
            self._say(progress, text)
        self.notes = []

    def _say(self, progress: Progress, text: str) -> None:
        progress.message(text)
        if self.recorder:
            self.recorder.say(text)

    def _read_statistics(self, stopwatch: Stopwatch) -> dict:
        """The means over a tick, its speed, and what signs of trouble go by; the next tick begins.

        Raises DivergedError if a mean is not finite.
        """
        num_images = self.nimg - stopwatch.start_nimg
        means = self.state.totals.means(self.readout.take())  # waits for the device
        self.state.counters.write()
        seconds, step_s = stopwatch.seconds(), stopwatch.step_s
        stopwatch.restart(self.nimg)  # looking and writing counts as time outside the step in the next tick
        statistics = {
            "nimg": self.nimg,
            "kimg": self.nimg / 1000,
            **means,
            "imgs_per_sec": num_images / seconds,
            "sec_per_kimg": 1000 * seconds / num_images,
            **self.diagnostics.measure(),
            "outside_step": 1 - step_s / seconds,
            "memory_gb": memory_gb(),
            "rung": self.engine.rung.name,
        }
        bad = [name for name, mean in means.items() if not math.isfinite(mean)]
        if bad:
            raise self._diverged(
                f"{' and '.join(bad)} became NaN or infinite before {self.nimg / 1000:g} kimg", statistics
            )
        if self.is_density:
            statistics |= {
                f"sample_{name}": value
                for name, value in plots.moments(self.sample(10_000, seed=self.config.run.seed)).items()
            }
        self.last_finite = statistics
        return statistics

    def _measure(self, progress: Progress) -> dict[str, float]:
        """The metrics, which are said and written down."""
        measurement = self.live_metrics.measure()
        is_best = self.recorder is not None and self.recorder.measured(self.nimg, measurement)
        text = f"at {self.nimg / 1000:g} kimg {measurement.describe()}, measured in {measurement.seconds:.1f} s"
        self._say(progress, f"{text}: the best snapshot so far" if is_best else text)
        return measurement.numbers

    def _diverged(self, what: str, statistics: dict) -> DivergedError:
        """The end of the run: what was last finite, and where the last good snapshot is."""
        values = ", ".join(
            f"{name} {self.last_finite[name]:.4g}"
            for name in ("kimg", *self.state.totals.names)
            if name in self.last_finite
        )
        what = f"{what}; last finite: {values or 'nothing, it was the first tick'}"
        return self.recorder.diverged(what, statistics) if self.recorder else DivergedError(what)

    # --- images -------------------------------------------------------------------------------------------------------

    def _real_shape(self) -> tuple[int, ...] | None:
        """(C, H, W) of a real image or the shape of another real sample, None for a density."""
        if self.real_set is None or len(self.real_set.img_shape) != 3:
            return None if self.real_set is None else self.real_set.img_shape
        height, width, channels = self.real_set.img_shape
        return channels, height, width

    def _class_names(self) -> tuple[str, ...] | None:
        return self.real_set.class_names if self.config.model.c_dim and self.real_set is not None else None

    def _real_to_compare(self) -> torch.Tensor | None:
        """A few real images as D sees them, float [num, C, H, W] on the device."""
        images = self._some_real_images(NUM_COMPARED)
        return None if images is None else scale_images(images.to(self.device), self.config.model.img_low)

    def _real_pictures(self, num: int) -> torch.Tensor | None:
        """Pictures of real samples, uint8 [num, 1 or 3 or 4, H, W]; None for what has no picture."""
        images = self._some_real_images(num)
        if images is not None and images.dtype != torch.uint8:
            images = plots.to_uint8(images, self.config.model.img_low, 1.0)
        return None if images is None else plots.as_pictures(images)

    def _some_real_images(self, num: int) -> torch.Tensor | None:
        """`num` real samples spread over the set: uint8 [num, C, H, W], or what else D sees."""
        images = None if self.real_set is None else self.real_set.sample(num)
        return images.permute(0, 3, 1, 2) if images is not None and images.dim() == 4 else images


def _has_probabilities(config: Config) -> bool:
    return config.loss.name in CROSS_ENTROPIES
