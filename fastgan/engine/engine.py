"""The execution ladder of a training step: eager, compiled, captured.

A rung is the same step made faster: compiled into one graph of fused kernels (compiled.py), then
recorded as a CUDA graph that the host launches as a whole (captured.py). Before a rung is used, it
runs beside the eager one (parity.py) and must agree with it in losses, optimiser moments and the
set of tensors that changed. A rung that fails this check is dropped for the one below, and the
reason is reported.
"""
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from fastgan.engine.captured import Capture, Graphs
from fastgan.engine.compiled import CompiledPhases
from fastgan.engine.eager import EagerSteps
from fastgan.engine.system import EngineLog, Ladder, Rung, System
from fastgan.ops.dispatch import autotune


class RecompilationError(RuntimeError):
    """The compiled step was compiled again after start-up.

    A shape, dtype or flag changed during the run.
    """


class Engine:
    """Runs a system on the highest rung that agrees with the eager one.

    graphs: records on the device; None where nothing can. report: takes one sentence for each rung
    or option that is not used, with the reason.
    """

    def __init__(
        self, system: System, ladder: Ladder, graphs: Graphs | None = None, report: Callable[[str], None] = print
    ):
        self.system, self.ladder, self.graphs = system, ladder, graphs
        self.log = EngineLog(report)
        self.prepared = False
        self.eager = EagerSteps(system)
        self.phases = CompiledPhases(system, ladder, self.eager, self.log)
        self.rung = Rung("eager", self._run_one_by_one)
        self._num_graphs = 0  # compiled at the start-up

    def limit_launches(self, num_steps: int) -> None:
        """Set the most steps that a launch will ever be asked for; call it before `prepare`."""
        most = self.ladder.max_graph_steps
        self.ladder = replace(self.ladder, max_graph_steps=num_steps if most is None else min(most, num_steps))

    def prepare(self) -> Rung:
        """Climb the ladder as high as agreement with eager allows; leave the state unchanged.

        The operators are measured on the calls of the first eager steps, so that the compiled code
        contains the fastest ones.
        """
        started = time.perf_counter()
        capture = self._make_capture()
        with self.system.counters.off():
            with autotune.measuring():
                tolerances = {name: self.eager.measure(name) for name in self.system.phases}
            if self.ladder.compile and self.phases.compile(tolerances):
                self.rung = Rung("compiled", self._run_one_by_one, 1, time.perf_counter() - started)
            captured = capture.record(tolerances, self.rung.name) if capture else None
            if captured is not None:
                self.rung = Rung("captured", captured.run, captured.size, time.perf_counter() - started)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the trials needed more memory than training does
        self._num_graphs = len(self.phases.graphs)
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
        if len(self.phases.graphs) != self._num_graphs:
            raise RecompilationError(
                f"the training step was compiled {len(self.phases.graphs)} times instead of {self._num_graphs}"
            )

    def _make_capture(self) -> Capture | None:
        if self.graphs is None or self.ladder.cuda_graph == "off":
            return None
        return Capture(self.system, self.ladder, self.eager, self.phases, self.graphs, self.log)

    def _run_one_by_one(self, first: int, num: int) -> None:
        for step in range(first, first + num):
            self.phases.call(self.system.phase_schedule.due(step))
