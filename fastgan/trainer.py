"""Trainer: what `fastgan train` runs, and what a user with a G and a D of their own calls."""
import dataclasses
import math
from collections.abc import Callable
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
from fastgan.data.tensors.opening import vector_width
from fastgan.device.determinism import refusals_said
from fastgan.device.memory import cuda_oom_as_user_error
from fastgan.errors import UserError
from fastgan.gan.losses import CROSS_ENTROPIES
from fastgan.gan.own import NOTHING, Own, take_own
from fastgan.gan.phases import batches_per_step
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
from fastgan.training.loop import Loop
from fastgan.training.step_trainer import StepTrainer, from_step


def completed(config: Config) -> tuple[Config, Source | None]:
    """Return the configuration with what the data decide, and its data, None for a density.

    Raises UserError for data that cannot be opened, and for what does not go with them.
    """
    data = None if config.data.source in DENSITIES else open_source(config.data.source, config.data.range)
    return validate(fit_to_data(config, data, models.sizes(config.model))), data


class Trainer(Loop):
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
    - loss also as (d_loss, g_loss): d_loss(real_out, fake_out) and g_loss(fake_out), or
      g_loss(fake_out, real_out), return one number of D's own outputs in float32, whatever D
      returns; logits=lambda out: ... names the logits in it, for penalties;
    - optimizer also as (that of G, that of D), each a name or one of torch.optim, whose values are
      taken over;
    - lr: of both optimisers, or (lr_G, lr_D); betas: (beta1, beta2) of Adam;
    - lr, penalties and weights of losses also as functions of kimg, in torch operations;
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
        z_dim: int | tuple[int, ...] | None = None,
        condition: tuple[Callable | None, Callable | None] = (None, None),
        logits: Callable | None = None,
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
        if not isinstance(condition, tuple | list) or len(condition) != 2:
            raise UserError("condition is a pair of functions, for G and for D; None = labels as they are")
        options, own = take_own(options, logits, G, D)
        if z_dim is not None:
            options = {"z_dim": z_dim if isinstance(z_dim, int) else math.prod(z_dim), **options}
        if vectors := vector_width(data):
            options = {"c_dim": vectors, **options}
        config = config_of(config, source, options)
        own.check(config)
        self._build(G, D, data, validate(config), z_dim, condition, out, resume, progress, own)

    @classmethod
    def from_config(
        cls, config: Config, out: str | Path | None = None, resume: bool = False, progress: bool = True
    ) -> "Trainer":
        """Return the trainer of a preset, with networks and data as the configuration names them."""
        trainer = cls.__new__(cls)
        config, data = completed(config)
        torch.manual_seed(config.run.seed)
        G, D = models.build(config.model)
        trainer._build(G, D, data, config, config.model.z_dim, (None, None), out, resume, progress)
        return trainer

    @classmethod
    def from_step(cls, step=None, **arguments) -> StepTrainer:
        """Return a trainer of a step of one's own: any networks, losses and updates.

        step(nets, batch, draw, update) -> statistics: one training step, as plain code. It becomes
        one compiled graph, a CUDA graph on a GPU, checked against eager PyTorch.
        - nets: the networks by name, as nets["G"]; they may be called in any way.
        - batch: the fields of the data, [batch_size, ...]; uint8 images as floats in [-1, 1].
        - draw: random numbers, draw.normal("z", 64, 128), draw.uniform, draw.integers; each has a
          name of its own. draw.kimg: float32 [], thousands of images shown so far.
        - update("G", loss): minimise a loss by the parameters of the group G alone, at once.
        - it returns a dict of tensors of one number, the statistics of a tick.

        nets: name -> nn.Module. data: a dict of arrays or tensors; a map-style Dataset; a name or
        path of images. optimizers: group -> learning rate of Adam, or a dict of name, lr, beta1,
        beta2, eps. groups: group -> names of networks; None = each group is the network of its
        name. ema: networks with a moving average (ema_kimg: its half-life). sample(nets, draw) ->
        samples, from the averages. steps={"main": f, "r1": (h, 16)}: several steps instead of one,
        h in every 16th; start={"r1": 1000}: from that number on. Other keywords are options of the
        run: batch_size, seed, amp, compile, device, kimg, tick_kimg, deterministic, ... With
        out="run" it writes a run folder, and resume=True goes on from it, on a CPU to the bit.
        Raises UserError, by name, for a step that reads values on the host, returns no statistics,
        updates an unknown group, or draws other shapes in a later call.
        """
        return from_step(step, **arguments)

    @cuda_oom_as_user_error()
    @refusals_said()
    def _build(
        self, G, D, data, config: Config, z_dim, condition, out, resume: bool, progress: bool, own: Own = NOTHING
    ) -> None:
        if resume and out is None:
            raise UserError("resume=True goes on with the run in a folder: give out=...")
        if out is not None and not resume:
            refuse_existing_run(Path(out))
        self.show_progress = progress

        # The networks, their state, and the engine that runs their steps on the data.
        autotune.fix(config.run.deterministic)
        autotune.force(dataclasses.asdict(config.ops))
        is_vector = bool(config.model.c_dim) and vector_width(data) == config.model.c_dim
        if is_vector and (config.loss.class_D or config.loss.class_G):
            raise UserError("labels are vectors of floats, which a classifier cannot learn: leave class_weight out")
        training = build_training(G, D, config, z_dim, own, condition, is_vector)
        self.config = config = training.config
        self.device, self.signature, self.state = training.device, training.signature, training.state
        self.generator, self.precision = training.generator, training.state.precision
        opened = open_feed(data, self.signature, config, self.generator, progress)
        self.feed, self.real_set, self.scaling = opened.feed, opened.real_set, opened.scaling
        self.epoch_nimg = None if self.real_set is None else self.real_set.num_images
        self.engine = training.engine_on(self.feed, self._say)
        self._start_loop()

        # What is looked at between steps: samples, statistics, metrics.
        self.sampler = Sampler(config, self.signature, self.state, self._real_shape(), self._real_vectors())
        samples = partial(self.sampler.samples, seed=config.run.seed)
        self.diagnostics = Diagnostics(self.state, samples, self._real_to_compare(), _has_probabilities(config))
        self.live_metrics = LiveMetrics(config, self.real_set, self.sampler, self.state) if config.run.metrics else None
        self.notes = [*training.notes, *opened.notes, *self._notes_of_data()]

        # The place in an earlier run, and the folder that the run writes.
        if resume:
            self._resume(Path(out))
        if out is not None:
            self.recorder = self._make_recorder(Path(out), resume)

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

    def sample(self, num: int, seed: int | None = None, c: torch.Tensor | int | None = None) -> torch.Tensor:
        """float32 [num, C, H, W] from G_ema (or G, where there is no average), in evaluation mode,
        on the CPU. seed: None = fresh randomness.

        c: one class, or int64 [num]; None = all classes in turn, for a conditional G. Samples of
        data that were scaled, as a notice says, are in the units of the data.
        """
        samples = self.sampler.samples(num, seed, c).cpu()
        return samples if self.scaling is None else self.scaling.undo(samples)

    @property
    def is_density(self) -> bool:
        """True if the real data are fresh samples of a known density."""
        return self.config.data.source in DENSITIES

    # --- what a tick adds to the loop's own ---------------------------------------------------------------------------

    def _look(self) -> dict[str, float]:
        moments = {}
        if self.is_density:
            samples = self.sample(10_000, seed=self.config.run.seed)
            moments = {f"sample_{name}": value for name, value in plots.moments(samples).items()}
        return self.diagnostics.measure() | moments

    def _signs_of_trouble(self, statistics: dict) -> list[str]:
        return list(self.diagnostics.said(statistics))

    def _measures_now(self, index: int, last: bool) -> bool:
        return self.live_metrics is not None and self.live_metrics.is_due(index, last=last)

    def _shapes(self) -> str | None:
        if self.config.model.architecture != "custom":
            return None
        num, signature = self.config.run.batch_size, self.signature
        shapes = f"z {[num, *signature.z_shape]} and images {[num, *signature.img_shape]}"
        return f"{shapes} in {self.precision.name}"

    def _measure(self, progress: Progress) -> dict[str, float]:
        """The metrics, which are said and written down."""
        measurement = self.live_metrics.measure()
        is_best = self.recorder is not None and self.recorder.measured(self.nimg, measurement)
        text = f"at {self.nimg / 1000:g} kimg {measurement.describe()}, measured in {measurement.seconds:.1f} s"
        self._say(progress, f"{text}: the best snapshot so far" if is_best else text)
        return measurement.numbers

    # --- images -------------------------------------------------------------------------------------------------------

    def _real_shape(self) -> tuple[int, ...] | None:
        """(C, H, W) of a real image or the shape of another real sample, None for a density."""
        if self.real_set is None or len(self.real_set.img_shape) != 3:
            return None if self.real_set is None else self.real_set.img_shape
        height, width, channels = self.real_set.img_shape
        return channels, height, width

    def _real_vectors(self) -> torch.Tensor | None:
        """Labels of the real set, float32 [num, c_dim] where they are vectors, else None."""
        labels = getattr(self.real_set, "labels", None) if self.config.model.c_dim else None
        return None if labels is None or labels.dim() != 2 else labels

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
