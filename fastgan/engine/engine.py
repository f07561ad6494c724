"""The execution ladder of a training step: eager, compiled, captured.

A rung is the same step made faster: compiled into one graph of fused kernels, then recorded as a
CUDA graph that the host launches as a whole. Before a rung is used, it runs beside the eager one
(parity.py) and must agree with it in losses, optimiser moments and the set of tensors that changed.
A rung that fails this check is dropped for the one below, and the reason is reported. compiled.py
is the only file that calls torch.compile, and cuda_graphs.py the only one that records CUDA graphs.
"""
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from fastgan.engine.batchnorm_counters import BatchCounters
from fastgan.engine.captured import SIZES, CapturedSteps, Graphs, best_size
from fastgan.engine.compiled import compile_step, compiler_options
from fastgan.engine.parity import PARITY_STEPS, ParityRuns, State, Tolerance
from fastgan.engine.phase_schedule import Interval, Launch, PhaseSchedule, Variant
from fastgan.errors import UserError, first_line
from fastgan.ops.dispatch import autotune

Inputs = tuple
Step = Callable[[Inputs], object]  # changes the state in place


class RecompilationError(RuntimeError):
    """The compiled step was compiled again after start-up.

    A shape, dtype or flag changed during the run.
    """


@dataclass(frozen=True)
class Ladder:
    """Options of the execution ladder: the highest rung and its settings."""

    compile: bool = True
    autotune: bool = False  # CUDA: the compiler times its kernels
    combo_kernels: bool = False  # CUDA: the compiler puts small kernels into one launch
    cuda_graph: str = "auto"  # auto | on: a UserError where it cannot be used | off
    graph_steps: int | None = None  # steps in a launch of the captured rung; None = measured
    max_graph_steps: int | None = None  # batches that the feed can have ready at once; None = any number


@dataclass
class Rung:
    """One way to run steps."""

    name: str  # eager | compiled | captured
    run: Callable[[int, int], None]  # (number of the first step, how many)
    steps_per_launch: int = 1
    build_s: float = 0.0  # seconds until it could run


@dataclass
class Phase:
    """One part of a step, compiled as one graph.

    draw: returns the inputs, by device work alone. step: the eager code. precise_step: the same in
    fp32, where `step` computes in a lower precision. careful_step: the same with its penalty in
    fp32, for compilers that cannot differentiate twice in the lower precision.
    """

    draw: Callable[[], Inputs]
    step: Step
    precise_step: Step | None = None
    careful_step: Step | None = None


@dataclass
class System:
    """The training step as phases by name, with the state and generators that they use.

    state: the tensors that the phases change, by group, parity.TOTALS among them. generators: those
    that the phases draw from. phase_schedule: the steps in which each phase is due.
    """

    phases: Mapping[str, Phase]
    state: State
    generators: list[torch.Generator]
    phase_schedule: PhaseSchedule
    counters: BatchCounters = field(default_factory=lambda: BatchCounters([]))


def single_phase(
    phase: Phase, state: State, generators: list[torch.Generator], counters: BatchCounters | None = None
) -> System:
    """Return a system of one phase that is due in every step."""
    return System(
        {"update": phase}, state, generators, PhaseSchedule({"update": Interval()}), counters or BatchCounters([])
    )


class Engine:
    """Runs a system on the highest rung that agrees with the eager one.

    graphs: records on the device; None where nothing can. report: takes one sentence for each rung
    or option that is not used, with the reason. details: an attribute, for a log; takes the whole
    traceback behind such a sentence, before the sentence, if there is one.
    """

    def __init__(
        self, system: System, ladder: Ladder, graphs: Graphs | None = None, report: Callable[[str], None] = print
    ):
        self.system, self.ladder, self.graphs, self.report = system, ladder, graphs, report
        self.details: Callable[[str], None] = lambda text: None
        self.prepared = False
        self.compiled: list[torch.fx.GraphModule] = []  # graphs that were compiled, for counting and for tests
        self._num_compiled = 0  # of them, those of the start-up
        # The fastest of each, below the captured rung.
        self._steps = {name: phase.step for name, phase in system.phases.items()}
        self._trials = ParityRuns(system.state, system.generators)
        self.rung = Rung("eager", self._run_one_by_one)

    def limit_launches(self, num_steps: int) -> None:
        """Set the most steps that a launch will ever be asked for; call it before `prepare`."""
        most = self.ladder.max_graph_steps
        self.ladder = replace(self.ladder, max_graph_steps=num_steps if most is None else min(most, num_steps))

    def prepare(self) -> Rung:
        """Climb the ladder as high as agreement with eager allows; leave the state unchanged.

        The operators are measured on the calls of the first eager steps, so that the compiled code
        contains the fastest ones.
        """
        started, captures = time.perf_counter(), self.graphs is not None and self.ladder.cuda_graph != "off"
        sizes = self._launch_sizes() if captures else []
        with self.system.counters.off():
            with autotune.measuring():
                yardsticks = {name: self._measure_eager(name) for name in self.system.phases}
            if self.ladder.compile and self._compile_all(yardsticks):
                self.rung = Rung("compiled", self._run_one_by_one, 1, time.perf_counter() - started)
            if captures:
                captured = self._capture_or_say_why(yardsticks, sizes)
                if captured is not None:
                    self.rung = Rung("captured", captured.run, captured.size, time.perf_counter() - started)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the trials needed more memory than training does
        self._num_compiled = len(self.compiled)
        self.prepared = True
        return self.rung

    def steps_at_once(self, first: int, most: int) -> int:
        """Return the number of steps to run next, from number `first` on, at most `most`.

        It is a launch of the rung, or the number of steps until a launch can begin.
        """
        return self.system.phase_schedule.at_once(first, most, self.rung.steps_per_launch)

    def run(self, first: int, num: int) -> None:
        """Run the training steps first to first + num - 1 on the chosen rung."""
        with self.system.counters.off():
            self.rung.run(first, num)
        for phase, times in self.system.phase_schedule.count(first, num).items():
            self.system.counters.add(phase, times)

    def check_no_recompilation(self) -> None:
        """Raise RecompilationError if a compiled step was compiled more than once."""
        if len(self.compiled) != self._num_compiled:
            raise RecompilationError(
                f"the training step was compiled {len(self.compiled)} times instead of {self._num_compiled}"
            )

    def _run_one_by_one(self, first: int, num: int) -> None:
        for step in range(first, first + num):
            self._call(self.system.phase_schedule.due(step))

    def _call(self, variant: Variant) -> None:
        """Run a step on the highest rung below the captured one."""
        for name in variant:
            self._steps[name](self.system.phases[name].draw())

    def _call_eager(self, variant: Variant) -> None:
        for name in variant:
            self.system.phases[name].step(self.system.phases[name].draw())

    def _call_precise(self, variant: Variant) -> None:
        for name in variant:
            phase = self.system.phases[name]
            (phase.precise_step or phase.step)(phase.draw())

    def _measure_eager(self, name: str) -> Tolerance:
        """Run the eager phase and return the tolerance for the rungs above."""
        with self.system.counters.watching(name, PARITY_STEPS):
            return self._yardstick((name,))

    def _yardstick(self, variant: Variant) -> Tolerance:
        is_lower = any(self.system.phases[name].precise_step for name in variant)
        return Tolerance(
            self._trials, partial(self._call_eager, variant), partial(self._call_precise, variant) if is_lower else None
        )

    # --- the compiled rung ------------------------------------------------------------------------

    def _compile_all(self, yardsticks: dict[str, Tolerance]) -> bool:
        """Compile every phase that can be compiled; the others stay eager, with the reason.

        Returns True if any phase was compiled.
        """
        for name in self.system.phases:
            problem = self._compile(name, yardsticks[name])
            if problem is not None and self.system.phases[name].careful_step is not None:
                problem = self._compile_carefully(name, yardsticks, problem)
            if problem is not None:
                self.report(f"the compiled step{self._of(name)} is not used, the eager one is: {problem}")
        return self._num_compiled > 0

    def _compile(self, name: str, tolerance: Tolerance) -> str | None:
        """Replace the eager phase by the compiled one; return None, or the problem.

        Where there is a problem, everything stays as before.
        """
        eager, before = self._steps[name], len(self.compiled)
        problem = self._try_to_compile(name, tolerance)
        graphs = len(self.compiled) - before
        problem = problem or (None if graphs == 1 else f"it became {graphs} graphs instead of one")
        if problem is None:
            self._num_compiled += 1
        else:
            self._steps[name], self.compiled[before:] = eager, []
        return problem

    def _try_to_compile(self, name: str, tolerance: Tolerance) -> str | None:
        try:
            self._steps[name] = compile_step(self._steps[name], self.compiled, self._compiler_options())
            return tolerance.disagreement(partial(self._call, (name,)))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # any compiler error: the reason is reported, the eager rung stays
            return self._in_words(error)

    def _compile_carefully(self, name: str, yardsticks: dict[str, Tolerance], problem: str) -> str | None:
        """Compile the phase with its penalty in fp32, for every rung where that succeeds."""
        phase = self.system.phases[name]
        self.system.phases = {**self.system.phases, name: replace(phase, step=phase.careful_step, careful_step=None)}
        self._steps[name] = phase.careful_step
        careful_yardstick = self._measure_eager(name)
        if self._compile(name, careful_yardstick) is None:
            yardsticks[name] = careful_yardstick
            self.report(f"the penalty{self._of(name)} computes in fp32 inside the compiled step: {problem}")
            return None
        self.system.phases = {**self.system.phases, name: phase}
        self._steps[name] = phase.step
        return problem

    def _compiler_options(self) -> dict:
        device_types = {tensor.device.type for tensors in self.system.state.values() for tensor in tensors.values()}
        return compiler_options(
            "cuda" if "cuda" in device_types else "cpu", self.ladder.autotune, self.ladder.combo_kernels
        )

    # --- the captured rung ------------------------------------------------------------------------

    def _capture_or_say_why(self, yardsticks: Mapping[str, Tolerance], sizes: list[int]) -> CapturedSteps | None:
        """Return the steps as graphs, or None, with a report of the reason.

        None: they cannot be recorded, or differ from eager. Raises UserError in these cases if the
        user requires graphs.
        """
        try:
            candidates = self._capture(sizes)
            problem = self._disagreement(candidates[0], yardsticks)
        except Exception as error:  # any recording error: the reason is reported, the rung below stays
            problem = self._in_words(error)
        if problem and self.ladder.cuda_graph == "on":
            raise UserError(f"--cuda-graph on, but the step cannot be a CUDA graph: {problem}")
        if problem:
            self.report(f"the captured step is not used, the {self.rung.name} one is: {problem}")
            return None
        candidates = candidates[:1] + [each for each in candidates[1:] if self._is_like(candidates[0], each)]
        if self.ladder.graph_steps is not None:
            return candidates[-1]
        with self._trials.undone():
            return best_size(candidates, self.system.phase_schedule, self.graphs.synchronize)

    def _capture(self, sizes: list[int]) -> list[CapturedSteps]:
        """Record the launches of every size, the single steps first; leave the state unchanged."""
        calls = {variant: partial(self._call, variant) for variant in self.system.phase_schedule.variants()}
        with self._trials.undone():
            for call in calls.values():
                self.graphs.warm_up(call)
            return self._record(calls, sizes)

    def _record(self, calls: Mapping[Variant, Callable[[], None]], sizes: list[int]) -> list[CapturedSteps]:
        """Return the recordings of all sizes that can be made.

        Only those of single steps, with a report of the reason, where launches of several steps
        cannot be recorded.
        """
        candidates: list[CapturedSteps] = []
        for size in sizes:
            try:
                single = candidates[0] if candidates else None
                candidates.append(CapturedSteps(self.graphs, calls, self.system.phase_schedule, size, other=single))
            except Exception as error:
                if not candidates:
                    raise
                self._say_size_is_not_used(size, self._in_words(error))
                # Record all again: a failed recording has separated its generators from the earlier
                # ones.
                return [CapturedSteps(self.graphs, calls, self.system.phase_schedule, 1)]
        return candidates

    def _disagreement(self, single: CapturedSteps, yardsticks: Mapping[str, Tolerance]) -> str | None:
        """Return the difference of graphs of single steps from eager steps in words, or None."""
        for variant in self.system.phase_schedule.variants():
            tolerance = yardsticks[variant[0]] if len(variant) == 1 else self._yardstick(variant)
            problem = tolerance.disagreement(partial(single.replay, (variant,)))
            if problem:
                return problem + self._of(*variant)
        return None

    def _is_like(self, single: CapturedSteps, candidate: CapturedSteps) -> bool:
        """Return True if graphs of several steps agree with single steps, else report it."""
        for launch in filter(lambda launch: len(launch) > 1, self.system.phase_schedule.launches_of(candidate.size)):
            problem = self._difference(single, candidate, launch)
            if problem:
                self._say_size_is_not_used(candidate.size, problem)
                return False
        return True

    def _difference(self, single: CapturedSteps, candidate: CapturedSteps, launch: Launch) -> str | None:
        def one_by_one() -> None:
            for variant in launch:
                single.replay((variant,))

        def precisely() -> None:
            for variant in launch:
                self._call_precise(variant)

        precise = precisely if any(phase.precise_step for phase in self.system.phases.values()) else None
        return Tolerance(self._trials, one_by_one, precise, num_calls=1).disagreement(partial(candidate.replay, launch))

    def _say_size_is_not_used(self, size: int, problem: str) -> None:
        self.report(f"{size} steps in one CUDA graph are not used: {problem}")

    def _in_words(self, error: Exception) -> str:
        """Pass the traceback of an error to `details` as text; return the first line of the error.

        The text keeps none of the error's tensors alive.
        """
        self.details("".join(traceback.format_exception(error)).rstrip())
        return first_line(error)

    def _of(self, *phases: str) -> str:
        """Return the names of the phases in brackets, empty if the system has only one."""
        return f" ({', '.join(phases)})" if len(self.system.phases) > 1 else ""

    def _launch_sizes(self) -> list[int]:
        """Return the numbers of steps in a launch that are worth recording.

        Single steps for the remainder, then the requested size or the sizes that may be faster.
        """
        wanted, most = self.ladder.graph_steps, self.ladder.max_graph_steps
        if wanted is not None and most is not None and wanted > most:
            raise UserError(
                f"--graph-steps {wanted} is more than the {most} batches "
                "that the data can have ready at once: give fewer"
            )
        return sorted({1, wanted}) if wanted else [size for size in SIZES if most is None or size <= most]
