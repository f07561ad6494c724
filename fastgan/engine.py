"""The ladder on which a training step runs: eager, compiled (and, above it, the place of the captured rung).

A rung is the same step made faster. Before a rung is trusted it runs two steps beside the eager one, from the same state and the same inputs,
and must agree in losses, optimiser moments (the gradients) and in which parameters moved. A rung that fails is left for the one below, and the
reason is said.
This is the only file that calls torch.compile.
"""
import math
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

Step = Callable[..., torch.Tensor]  # step(*inputs) -> statistics; changes its state in place
State = dict[str, dict[str, torch.Tensor]]  # group -> name -> tensor that the step changes in place

PARITY_STEPS = 2
LOSS_TOLERANCE = 1e-3  # absolute and relative, of the statistics in fp32
# Relative errors over a whole network in fp32. Adam's first step turns the rounding of a tiny gradient into a whole step of lr, which the second step
# sees: 0.03 was measured on dcgan at 32x32. A lost term or a stale graph gives about 1.
MOMENT_TOLERANCE = 0.1
UPDATE_TOLERANCE = 0.2
REFERENCE_FACTOR = 2.0  # in reduced precision: at most twice the eager step's own error against fp32, beside the tolerances above


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
        """Climb as high as agreement with eager allows. inputs: one tuple of step inputs for each parity step. The state is left as it was."""
        if self.compile:
            self._try_compiled(inputs)
        self.prepared = True
        return self.rung

    def run(self, *inputs) -> torch.Tensor:
        """One training step on the chosen rung. Returns its statistics, on the device."""
        return self.rung.run(*inputs)

    def check_no_recompilation(self) -> None:
        """Raise RecompilationError if the compiled step was compiled more than once."""
        if self.rung.name == "compiled" and len(self.graphs) != 1:
            raise RecompilationError(f"the training step was compiled {len(self.graphs)} times instead of once")

    def _try_compiled(self, inputs: list[tuple]) -> None:
        started = time.perf_counter()
        before = snapshot(self.state)
        try:
            candidate = compile_step(self.step, self.graphs)
            problem = self._disagreement(candidate, inputs)
        except Exception as error:  # whatever the compiler cannot do: the reason is reported, the eager rung goes on
            problem = _first_line(error)
        restore(self.state, before)
        if problem is None:
            self.rung = Rung("compiled", candidate, time.perf_counter() - started)
        else:
            self.report(f"the compiled step is not used, the eager one is: {problem}")

    def _disagreement(self, candidate: Step, inputs: list[tuple]) -> str | None:
        """What the candidate does otherwise than the eager step from the present state, or None."""
        before = snapshot(self.state)
        trials = [_trial(step, self.state, before, inputs) for step in (candidate, self.step, self.precise_step or self.step)]
        if len(self.graphs) != 1:
            return f"it became {len(self.graphs)} graphs instead of one"
        return compare_trials(*trials)


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


# --- parity --------------------------------------------------------------------------------------------------------------------------------------


@dataclass
class Trial:
    """What two steps did to the state: statistics of each, and the change of every tensor by group."""

    statistics: torch.Tensor
    change: State


def snapshot(state: State) -> State:
    """A copy of every tensor of the state."""
    return {group: {name: tensor.detach().clone() for name, tensor in tensors.items()} for group, tensors in state.items()}


@torch.no_grad()
def restore(state: State, saved: State) -> None:
    """Put a snapshot back in place: tensors keep their identity and memory, which compiled and captured steps rely on."""
    for group, tensors in state.items():
        for name, tensor in tensors.items():
            tensor.copy_(saved[group][name])


def _trial(step: Step, state: State, before: State, inputs: list[tuple]) -> Trial:
    """Run the parity steps from `before`."""
    restore(state, before)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # a network's own random numbers (dropout) are the same for every rung
        torch.manual_seed(0)
        statistics = torch.stack([step(*each).clone() for each in inputs])
    after = snapshot(state)
    change = {group: {name: tensor.double() - before[group][name].double() for name, tensor in tensors.items()} for group, tensors in after.items()}
    restore(state, before)
    return Trial(statistics.double(), change)


def compare_trials(ours: Trial, reference: Trial, truth: Trial) -> str | None:
    """The first disagreement of `ours` with `truth` beyond what `reference` itself has, in words, or None."""
    allowed = REFERENCE_FACTOR * (reference.statistics - truth.statistics).abs() + LOSS_TOLERANCE * (1 + truth.statistics.abs())
    error = (ours.statistics - truth.statistics).abs()
    if not bool((error <= allowed).all()):  # also catches NaN
        return f"its losses differ from eager by up to {error.max().item():.3g}"
    for group in truth.change:
        problem = _compare_group(group, ours.change[group], reference.change[group], truth.change[group])
        if problem:
            return problem
    return None


def _compare_group(group: str, ours: dict, reference: dict, truth: dict) -> str | None:
    still = [name for name in truth if bool(reference[name].any()) and not bool(ours[name].any())]
    if still:
        return f"{group} {still[0]} did not change, but does in eager"
    tolerance = UPDATE_TOLERANCE if group in ("G", "D", "G_ema") else MOMENT_TOLERANCE
    error, allowed = _relative_error(ours, truth), REFERENCE_FACTOR * _relative_error(reference, truth) + tolerance
    return None if error <= allowed else f"the change of {group} differs from eager by {error:.3g} of its size (allowed {allowed:.3g})"


def _relative_error(change: dict, truth: dict) -> float:
    """|change - truth| / |truth| over all tensors of a group together."""
    difference = math.sqrt(sum((change[name] - truth[name]).square().sum().item() for name in truth))
    return difference / (math.sqrt(sum(tensor.square().sum().item() for tensor in truth.values())) + 1e-30)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
