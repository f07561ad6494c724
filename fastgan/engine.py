"""The ladder on which a training step runs: eager, compiled, captured.

A rung is the same step made faster: compiled into one graph of fused kernels, then recorded as a CUDA graph that the host launches as a whole. Before
a rung is trusted it runs beside the eager one (parity.py) and must agree in losses, optimiser moments and in what moved. A rung that fails is left
for the one below, and the reason is said. compiling.py is the only file that calls torch.compile, and cuda_graphs.py the only one that records.
"""
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from fastgan.cadence import Cadence, Launch, Variant
from fastgan.capture import SIZES, CapturedSteps, Graphs, best_size
from fastgan.compiling import compile_step
from fastgan.counters import BatchCounters
from fastgan.errors import UserError
from fastgan.ops import choice
from fastgan.parity import PARITY_STEPS, State, Trials, Yardstick

Inputs = tuple
Step = Callable[[Inputs], torch.Tensor]  # changes the state in place, returns statistics


class RecompilationError(RuntimeError):
    """The compiled step was compiled again after its start-up: a shape, dtype or flag changed during the run."""


@dataclass(frozen=True)
class Ladder:
    """How high to climb."""

    compile: bool = True
    autotune: bool = False  # CUDA: the compiler times its kernels
    cuda_graph: str = "auto"  # auto | on: a UserError where it cannot be used | off
    graph_steps: int | None = None  # steps in a launch of the captured rung; None = measured
    max_graph_steps: int | None = None  # what the feed can have ready at once; None = any number


@dataclass
class Rung:
    """One way to run steps."""

    name: str  # eager | compiled | captured
    run: Callable[[int, int], None]  # (number of the first step, how many)
    steps_per_launch: int = 1
    build_s: float = 0.0  # seconds until it could run


@dataclass
class System:
    """What is run.

    draw: gives the inputs of the next step, by device work alone. steps: the eager step of every variant of `cadence`; precise_steps: the same in
    fp32, where the steps' own precision is lower. state: what draw and steps change, by group, parity.TOTALS among them. generators: draw's.
    """

    draw: Callable[[], Inputs]
    steps: Mapping[Variant, Step]
    state: State
    generators: list[torch.Generator]
    precise_steps: Mapping[Variant, Step] | None = None
    cadence: Cadence = field(default_factory=Cadence)
    counters: BatchCounters = field(default_factory=lambda: BatchCounters([]))


class Engine:
    """Runs a system on the highest rung that agrees with the eager one.

    graphs: what can record on the device, None where nothing can. report: takes one sentence about what was not used and why.
    """

    def __init__(self, system: System, ladder: Ladder, graphs: Graphs | None = None, report: Callable[[str], None] = print):
        self.system, self.ladder, self.graphs, self.report = system, ladder, graphs, report
        self.prepared = False
        self.compiled: list[torch.fx.GraphModule] = []  # graphs that were compiled, for counting and for tests
        self._num_compiled = 0  # of them, those of the start-up
        self._steps = dict(system.steps)  # the fastest of each variant, below the captured rung
        self._trials = Trials(system.state, system.generators)
        self.rung = Rung("eager", self._run_one_by_one)

    def limit_launches(self, num_steps: int) -> None:
        """Before `prepare`: launches of more than so many steps would never be made."""
        most = self.ladder.max_graph_steps
        self.ladder = replace(self.ladder, max_graph_steps=num_steps if most is None else min(most, num_steps))

    def prepare(self) -> Rung:
        """Climb as high as agreement with eager allows. The state is left as it was.

        The operators are measured on the calls of the first eager steps, so that what is compiled afterwards contains the fastest.
        """
        started, captures = time.perf_counter(), self.graphs is not None and self.ladder.cuda_graph != "off"
        sizes = self._launch_sizes() if captures else []
        with self.system.counters.off():
            with choice.measuring():
                yardsticks = {variant: self._measure_eager(variant) for variant in self.system.steps}
            if self.ladder.compile and self._compile_all(yardsticks):
                self.rung = Rung("compiled", self._run_one_by_one, 1, time.perf_counter() - started)
            if captures:
                captured = self._capture_or_say_why(yardsticks, sizes)
                if captured is not None:
                    self.rung = Rung("captured", captured.run, captured.size, time.perf_counter() - started)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # what was tried out needed more than training does
        self._num_compiled = len(self.compiled)
        self.prepared = True
        return self.rung

    def steps_at_once(self, first: int, most: int) -> int:
        """How many steps from number `first` on should be run next, at most `most`: a launch of the rung, or what is missing until one can begin."""
        return self.system.cadence.at_once(first, most, self.rung.steps_per_launch)

    def run(self, first: int, num: int) -> None:
        """Launch the training steps number first to first + num - 1 on the chosen rung."""
        with self.system.counters.off():
            self.rung.run(first, num)
        for variant, times in self.system.cadence.count(first, num).items():
            self.system.counters.add(variant, times)

    def check_no_recompilation(self) -> None:
        """Raise RecompilationError if a compiled step was compiled more than once."""
        if len(self.compiled) != self._num_compiled:
            raise RecompilationError(f"the training step was compiled {len(self.compiled)} times instead of {self._num_compiled}")

    def _run_one_by_one(self, first: int, num: int) -> None:
        for step in range(first, first + num):
            self._call(self.system.cadence.due(step))

    def _call(self, variant: Variant) -> None:
        self._steps[variant](self.system.draw())

    def _measure_eager(self, variant: Variant) -> Yardstick:
        """What the eager step does, which is what the rungs above are held to."""
        draw, step, precise_steps = self.system.draw, self.system.steps[variant], self.system.precise_steps
        with self.system.counters.watching(variant, PARITY_STEPS):
            return Yardstick(self._trials, lambda: step(draw()), precise_steps and (lambda: precise_steps[variant](draw())))

    # --- the compiled rung -----------------------------------------------------------------------------------------------------------------------

    def _compile_all(self, yardsticks: Mapping[Variant, Yardstick]) -> bool:
        """Compile every variant that can be; the others stay eager, with the reason. Returns whether any was."""
        for variant, yardstick in yardsticks.items():
            eager, before = self._steps[variant], len(self.compiled)
            problem = self._compile(variant, yardstick)
            if problem is None:
                self._num_compiled += 1
            else:
                self._steps[variant], self.compiled[before:] = eager, []
                self.report(f"the compiled step{_of(variant)} is not used, the eager one is: {problem}")
        return self._num_compiled > 0

    def _compile(self, variant: Variant, yardstick: Yardstick) -> str | None:
        """Put the compiled step in the place of the eager one. Returns what speaks against it, or None."""
        before = len(self.compiled)
        try:
            self._steps[variant] = compile_step(self._steps[variant], self.compiled, self._compiler_options())
            problem = yardstick.disagreement(partial(self._call, variant))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the compiler cannot do: the reason is reported, the eager rung goes on
            return _first_line(error)
        graphs = len(self.compiled) - before
        return problem or (None if graphs == 1 else f"it became {graphs} graphs instead of one")

    def _compiler_options(self) -> dict:
        """Inductor's options. Random numbers of the networks' own (dropout) are drawn as eager PyTorch draws them, so that the rungs agree."""
        on_cuda = any(tensor.is_cuda for tensors in self.system.state.values() for tensor in tensors.values())
        tuning = {"max_autotune": True, "coordinate_descent_tuning": True} if on_cuda and self.ladder.autotune else {}
        return {"fallback_random": True, **tuning}

    # --- the captured rung -----------------------------------------------------------------------------------------------------------------------

    def _capture_or_say_why(self, yardsticks: Mapping[Variant, Yardstick], sizes: list[int]) -> CapturedSteps | None:
        """The steps as graphs; None, with the reason, where they cannot be or differ. Raises UserError then if they have to be."""
        try:
            candidates = self._capture(sizes)
            problem = self._disagreement(candidates[0], yardsticks)
        except Exception as error:  # whatever cannot be recorded: the reason is reported, the rung below goes on
            problem = _first_line(error)
        if problem and self.ladder.cuda_graph == "on":
            raise UserError(f"--cuda-graph on, but the step cannot be a CUDA graph: {problem}")
        if problem:
            self.report(f"the captured step is not used, the {self.rung.name} one is: {problem}")
            return None
        candidates = candidates[:1] + [each for each in candidates[1:] if self._is_like(candidates[0], each)]
        if self.ladder.graph_steps is not None:
            return candidates[-1]
        with self._trials.undone():
            return best_size(candidates, self.system.cadence.period, self.graphs.synchronize)

    def _capture(self, sizes: list[int]) -> list[CapturedSteps]:
        """Record what every size of a launch takes, the single steps first; the state is left as it was."""
        calls = {variant: partial(self._call, variant) for variant in self._steps}
        with self._trials.undone():
            for call in calls.values():
                self.graphs.warm_up(call)
            return self._record(calls, sizes)

    def _record(self, calls: Mapping[Variant, Callable[[], None]], sizes: list[int]) -> list[CapturedSteps]:
        """The recordings; of single steps alone, with the reason, where those of several cannot be made."""
        candidates: list[CapturedSteps] = []
        for size in sizes:
            try:
                single = candidates[0] if candidates else None
                candidates.append(CapturedSteps(self.graphs, calls, self.system.cadence, size, other=single))
            except Exception as error:
                if not candidates:
                    raise
                self._say_size_is_not_used(size, _first_line(error))
                # All anew: a recording that broke off has parted its generators from the earlier ones.
                return [CapturedSteps(self.graphs, calls, self.system.cadence, 1)]
        return candidates

    def _disagreement(self, single: CapturedSteps, yardsticks: Mapping[Variant, Yardstick]) -> str | None:
        """What the graphs of single steps do otherwise than the eager steps, in words, or None."""
        for variant, yardstick in yardsticks.items():
            problem = yardstick.disagreement(partial(single.replay, (variant,)))
            if problem:
                return problem + _of(variant)
        return None

    def _is_like(self, single: CapturedSteps, candidate: CapturedSteps) -> bool:
        """Whether graphs of several steps do what as many single ones do; what they do otherwise is reported."""
        for launch in filter(lambda launch: len(launch) > 1, self.system.cadence.launches_of(candidate.size)):
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
                self.system.precise_steps[variant](self.system.draw())

        precise = None if self.system.precise_steps is None else precisely
        return Yardstick(self._trials, one_by_one, precise, num_calls=1).disagreement(partial(candidate.replay, launch))

    def _say_size_is_not_used(self, size: int, problem: str) -> None:
        self.report(f"{size} steps in one CUDA graph are not used: {problem}")

    def _launch_sizes(self) -> list[int]:
        """Steps in a launch that are worth recording: single ones for what is left over, then what was asked for or may be faster."""
        wanted, most = self.ladder.graph_steps, self.ladder.max_graph_steps
        if wanted is not None and most is not None and wanted > most:
            raise UserError(f"--graph-steps {wanted} is more than the {most} batches that the data can have ready at once: give fewer")
        return sorted({1, wanted}) if wanted else [size for size in SIZES if most is None or size <= most]


def _of(variant: Variant) -> str:
    return f" with {' and '.join(variant)}" if variant else ""


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
