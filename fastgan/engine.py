"""The ladder on which a training step runs: eager, compiled (and, above it, the place of the captured rung).

A rung is the same step made faster. Before a rung is trusted it runs beside the eager one (parity.py) and must agree in losses, optimiser moments
and in what moved. A rung that fails is left for the one below, and the reason is said. This is the only file that calls torch.compile.
"""
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from fastgan.ops import choice
from fastgan.parity import State, Step, Trial, disagreement, run_trial


class RecompilationError(RuntimeError):
    """The compiled step was compiled again after its start-up: a shape, dtype or flag changed during the run."""


@dataclass
class Rung:
    """One way to run the step. A rung above `compiled` needs the same three things."""

    name: str  # eager | compiled
    run: Step
    build_s: float = 0.0  # seconds until it could run


@dataclass
class Engine:
    """Runs a step on the highest rung that agrees with the eager one.

    step: the eager step; state: what it changes, by group; precise_step: the same step in fp32, where the step's own precision is lower.
    report: takes one sentence about what was not used and why.
    """

    step: Step
    state: State
    compile: bool = True
    precise_step: Step | None = None
    report: Callable[[str], None] = print
    rung: Rung = field(init=False)
    prepared: bool = field(default=False, init=False)
    graphs: list[torch.fx.GraphModule] = field(default_factory=list, init=False)  # what was compiled, for counting and for tests

    def __post_init__(self):
        self.rung = Rung("eager", self.step)

    def prepare(self, inputs: list[tuple]) -> Rung:
        """Climb as high as agreement with eager allows. inputs: one tuple of step inputs for each parity step. The state is left as it was.

        The operators are measured on the calls of these eager steps, so that what is compiled afterwards contains the fastest.
        """
        with choice.measuring():
            eager = run_trial(self.step, self.state, inputs)
        if self.compile:
            self._try_compiled(inputs, eager)
        self.prepared = True
        return self.rung

    def run(self, *inputs) -> torch.Tensor:
        """One training step on the chosen rung. Returns its statistics, on the device."""
        return self.rung.run(*inputs)

    def check_no_recompilation(self) -> None:
        """Raise RecompilationError if the compiled step was compiled more than once."""
        if self.rung.name == "compiled" and len(self.graphs) != 1:
            raise RecompilationError(f"the training step was compiled {len(self.graphs)} times instead of once")

    def _try_compiled(self, inputs: list[tuple], eager: Trial) -> None:
        started, graphs = time.perf_counter(), self.graphs
        try:
            candidate = compile_step(self.step, graphs)
            problem = disagreement(candidate, self.step, self.precise_step, self.state, inputs, eager)
            problem = problem or (f"it became {len(graphs)} graphs instead of one" if len(graphs) != 1 else None)
        except Exception as error:  # whatever the compiler cannot do: the reason is reported, the eager rung goes on
            problem = _first_line(error)
        if problem is None:
            self.rung = Rung("compiled", candidate, time.perf_counter() - started)
        else:
            self.report(f"the compiled step is not used, the eager one is: {problem}")


# --- the compiled rung ---------------------------------------------------------------------------------------------------------------------------


def compile_step(step: Step, graphs: list[torch.fx.GraphModule]) -> Step:
    """`step` as one graph of Inductor's. Every compilation appends its graph to `graphs`, so that a second one is noticed.

    torch.autograd.grad inside the graph needs Dynamo's private setting trace_autograd_ops (torch 2.11 to 2.13); tests fail loudly when it changes.
    Random numbers of the networks' own (dropout) are drawn as eager PyTorch draws them, so that the rungs agree.
    """
    from torch._inductor.compile_fx import compile_fx

    def backend(graph: torch.fx.GraphModule, example_inputs: list[torch.Tensor]):
        graphs.append(graph)
        return compile_fx(graph, example_inputs, config_patches={"fallback_random": True})

    torch._dynamo.config.trace_autograd_ops = True
    return torch.compile(_with_own_code(step), backend=backend, fullgraph=True, dynamic=False)


def _with_own_code(step: Step) -> Step:
    """A copy of a function with a code object of its own: Dynamo keeps compiled graphs by code object, and two engines must not share them."""
    return types.FunctionType(step.__code__.replace(), step.__globals__, step.__name__, step.__defaults__, step.__closure__)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
