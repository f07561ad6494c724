"""The parts of a training step that the engine runs: phases, the system that they form, and rungs."""
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from fastgan.engine.batchnorm_counters import BatchCounters
from fastgan.engine.parity import State
from fastgan.engine.phase_schedule import Interval, PhaseSchedule
from fastgan.errors import first_line

Inputs = tuple
Step = Callable[[Inputs], object]  # changes the state in place


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

    @property
    def device_type(self) -> str:
        """cuda where any tensor of the state is there, else cpu."""
        types = {tensor.device.type for tensors in self.state.values() for tensor in tensors.values()}
        return "cuda" if "cuda" in types else "cpu"

    def label(self, *phases: str) -> str:
        """Return the names of the phases in brackets; empty if the system has only one phase."""
        return f" ({', '.join(phases)})" if len(self.phases) > 1 else ""


def single_phase(
    phase: Phase, state: State, generators: list[torch.Generator], counters: BatchCounters | None = None
) -> System:
    """Return a system of one phase that is due in every step."""
    return System(
        {"update": phase}, state, generators, PhaseSchedule({"update": Interval()}), counters or BatchCounters([])
    )


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
class EngineLog:
    """The takers of what the engine has to say.

    report: takes one sentence for each rung or option that is not used, with the reason. details:
    takes the traceback behind such a sentence, before the sentence, if there is one.
    """

    report: Callable[[str], None] = print
    details: Callable[[str], None] = lambda text: None

    def explain(self, error: Exception) -> str:
        """Pass the traceback of an error to `details` as text; return the first line of the error.

        The text keeps none of the error's tensors alive.
        """
        self.details("".join(traceback.format_exception(error)).rstrip())
        return first_line(error)
