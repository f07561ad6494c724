"""Trainer.from_step: the loop around a step of one's own."""
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from fastgan.config.keywords import config_of, keys_of
from fastgan.config.validation import validate
from fastgan.data.tensors.fields import open_fields
from fastgan.device.determinism import refusals_said, settle_algorithms
from fastgan.device.memory import cuda_oom_as_user_error, keep_freed_memory
from fastgan.device.precision import choose_precision
from fastgan.engine.engine import Engine
from fastgan.engine.parity import ParityRuns
from fastgan.engine.phase_schedule import Interval, PhaseSchedule
from fastgan.engine.system import Ladder, System
from fastgan.errors import UserError
from fastgan.gan.statistics import Totals
from fastgan.ops.dispatch import autotune
from fastgan.run.build import graphs_of
from fastgan.run.checkpoint import load_state
from fastgan.run.feeds import batch_size_of
from fastgan.run.folder import RunFolder
from fastgan.run.log import refuse_existing_run
from fastgan.run.recorder import Recorder
from fastgan.training.loop import Loop
from fastgan.training.own_phase import OwnStep, Trial, make_phase, named, try_step
from fastgan.training.own_sampler import Sample, StepSampler
from fastgan.training.own_state import make_step_state

SECTIONS = ("run", "ops")  # of options that a step of one's own has
ALSO = ("data.cache",)


class StepTrainer(Loop):
    """Trains networks by a step of one's own; made by Trainer.from_step, which describes it."""

    @cuda_oom_as_user_error()
    @refusals_said()
    def __init__(
        self,
        steps: Mapping[str, tuple[OwnStep, int]],
        nets: Mapping[str, nn.Module],
        data: object,
        optimizers: Mapping[str, Mapping | float],
        groups: Mapping[str, Sequence[str]] | None,
        ema: Sequence[str],
        ema_kimg: float,
        sample: Sample | None,
        start: Mapping[str, int],
        out: str | Path | None,
        resume: bool,
        progress: bool,
        options: dict,
    ):
        if resume and out is None:
            raise UserError("resume=True goes on with the run in a folder: give out=...")
        if out is not None and not resume:
            refuse_existing_run(Path(out))
        self.show_progress = progress
        self.config = config = _config_of(data, options)
        run, schedule = config.run, _schedule(steps, start)

        # Device, precision, and the networks with their optimisers.
        self.device = torch.device(run.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.precision = choose_precision(run.amp, self.device)
        algorithms = settle_algorithms(run.deterministic, self.device)
        autotune.fix(run.deterministic)
        autotune.force(dataclasses.asdict(config.ops))
        if self.device.type == "cpu":
            keep_freed_memory()
        self.generator = torch.Generator(self.device).manual_seed(run.seed)
        self.state, about_nets = make_step_state(
            nets, optimizers, groups, ema, ema_kimg, run.batch_size, self.device, self.precision, run.accelerate
        )

        # The data, one trial of every step, and the engine of them all.
        self.feed = open_fields(data, run.batch_size, self.device, run.seed, cache=config.data.cache, progress=progress)
        self.epoch_nimg = self.feed.num_items
        trials = self._try_steps(steps)
        self.state.totals = Totals(_names(trials), self.device)
        self.engine = self._make_engine(steps, trials, schedule)
        self._start_loop()
        self.notes = [*about_nets, *self.feed.notes, self.precision.describe(), *filter(None, [algorithms])]
        self.sampler = None if sample is None else StepSampler(sample, self.state, self.device, run.seed)

        # The place in an earlier run, and the folder that the run writes.
        if resume:
            self._resume(Path(out))
        if out is not None:
            self.recorder = self._make_recorder(Path(out), resume)

    def sample(self, seed: int | None = None) -> torch.Tensor:
        """Return what `sample` of from_step returns, on the CPU: in evaluation mode, with averages.

        seed: None = fresh randomness.
        """
        if self.sampler is None:
            raise UserError("there is nothing to sample: give sample=lambda nets, draw: ... to Trainer.from_step")
        return self.sampler.sample(seed).cpu()

    def _try_steps(self, steps: Mapping[str, tuple[OwnStep, int]]) -> dict[str, Trial]:
        """Run every step once, in their order, and undo it."""
        runs = ParityRuns(self.state.tensors() | {"feed": self.feed.state()}, [self.generator])
        trials = {}
        with runs.undone():
            self.feed.reserve(1)
            for name, (step, _) in steps.items():
                with named(name):
                    trials[name] = try_step(name, step, self.state, self.feed, self.generator)
        return trials

    def _make_engine(
        self, steps: Mapping[str, tuple[OwnStep, int]], trials: dict[str, Trial], schedule: PhaseSchedule
    ) -> Engine:
        run, graphs = self.config.run, graphs_of(self.device, [self.generator])
        if graphs is None and run.cuda_graph == "on":
            raise UserError(f"cuda_graph='on' needs a CUDA device, and this run is on {self.device.type}")
        first = next(iter(steps))
        phases = {
            name: make_phase(step, trials[name], self.state, self.feed, self.generator, run.batch_size, name == first)
            for name, (step, _) in steps.items()
        }
        state = self.state.tensors() | {"feed": self.feed.state()}
        system = System(phases, state, [self.generator], schedule, self.state.counters)
        ladder = Ladder(
            run.compile, run.autotune, run.combo_kernels, run.cuda_graph, run.graph_steps, self.feed.max_steps
        )
        return Engine(system, ladder, graphs, self._say)

    def _resume(self, folder: Path) -> None:
        header, notes = load_state(folder, self.state, self.generator)
        self.nimg = header["nimg"]
        note = self.feed.resume(self.nimg, header.get("data", {}))
        self.notes += notes if note is None else [*notes, note]

    def _make_recorder(self, out: Path, resume: bool) -> Recorder:
        folder = RunFolder(out, self.config, resume_nimg=self.nimg if resume else None)
        shows = self.sampler is not None and self.sampler.makes_images()
        real = next((field for field in self.feed.items.values() if _is_picture(field)), None) if shows else None
        real = None if real is None else real[:self.config.run.grid]
        return Recorder(
            folder, self.config, self.state, self.sampler, real, nimg=self.nimg, position=self.feed.position,
            shows_fakes=shows,
        )

    def _shapes(self) -> str:
        names = ", ".join(self.state.nets)
        return f"a batch of {self.config.run.batch_size} and the networks {names} in {self.precision.name}"


def from_step(
    step: OwnStep | None = None,
    *,
    nets: Mapping[str, nn.Module],
    data: object,
    optimizers: Mapping[str, Mapping | float],
    steps: Mapping[str, OwnStep | tuple[OwnStep, int]] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    ema: Sequence[str] = (),
    ema_kimg: float = 10.0,
    sample: Callable | None = None,
    start: Mapping[str, int] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    **options,
) -> StepTrainer:
    """Return a trainer of a step of one's own; see Trainer.from_step."""
    if (step is None) == (steps is None):
        raise UserError("give one step, or steps={NAME: step, NAME: (step, every)}")
    if ema_kimg <= 0:
        raise UserError(f"ema_kimg is {ema_kimg:g}; it must be above 0")
    named_steps = {"update": step} if steps is None else steps
    with_interval = {name: each if isinstance(each, tuple) else (each, 1) for name, each in named_steps.items()}
    return StepTrainer(with_interval, nets, data, optimizers, groups, ema, ema_kimg, sample, start or {}, out, resume,
                       progress, options)  # fmt: skip


def _config_of(data: object, options: dict):
    for keyword, value in options.items():
        for key in keys_of(keyword, value):
            if key.split(".")[0] not in SECTIONS and key not in ALSO:
                raise UserError(f"{keyword} is an option of the built-in recipes: a step of one's own does it itself")
    if options.get("device") is not None:
        options["device"] = str(options["device"])
    if not options.keys() & {"batch_size", "run.batch_size"} and batch_size_of(data):
        options["batch_size"] = batch_size_of(data)
    source = str(data) if isinstance(data, str | Path) else type(data).__name__
    return validate(config_of(None, source, options))


def _schedule(steps: Mapping[str, tuple[OwnStep, int]], start: Mapping[str, int]) -> PhaseSchedule:
    """Return when each step is due: every so many steps, from the number `start` on."""
    if not steps:
        raise UserError("steps is empty: give steps={NAME: step}")
    for name, (_, every) in steps.items():
        if not isinstance(every, int) or every < 1:
            raise UserError(f"the step {name!r} is due in every {every!r} steps: give a whole number of at least 1")
    first = next(iter(steps))
    for name in start:
        if name not in steps:
            raise UserError(f"start names {name!r}, and steps are {', '.join(steps)}")
    if steps[first][1] != 1 or start.get(first, 0):
        raise UserError(f"the first step, {first!r}, reads the data: it is due in every step, from the start")
    late = {name: number for name, number in start.items() if number > 0}
    if len(set(late.values())) > 1:
        raise UserError(f"steps start late at {sorted(set(late.values()))}: give one number for all that start late")
    intervals = {name: Interval(every) for name, (_, every) in steps.items()}
    intro = {name: interval for name, interval in intervals.items() if name not in late}
    return PhaseSchedule(intervals, (next(iter(late.values())), intro) if late else (0, {}))


def _names(trials: dict[str, Trial]) -> tuple[str, ...]:
    """Return the names of all statistics; raise UserError where two steps share one."""
    names: dict[str, str] = {}
    for step, trial in trials.items():
        for name in trial.statistics:
            if name in names:
                raise UserError(f"the steps {names[name]!r} and {step!r} both return {name!r}: give each its own names")
            names[name] = step
    return tuple(names)


def _is_picture(field: torch.Tensor) -> bool:
    return field.dtype == torch.uint8 and field.dim() == 4 and field.shape[1] in (1, 3)
