"""Parity check of a faster way to run a step against the eager step.

The check compares two steps of each, from the same state and random numbers. A GAN step amplifies
rounding: Adam's first step turns a gradient of rounding size into a whole step of lr, which affects
the second step. So the tolerance is measured on the system itself. In reduced precision it is the
eager step's own distance from the fp32 step; in fp32 it is its distance from itself after its
weights are changed by a rounding error. The candidate may be a few times as far away, and no more.
"""
import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

State = dict[str, dict[str, torch.Tensor]]  # group -> name -> tensor that the step changes in place

PARITY_STEPS = 2
NUDGE = 1e-6  # relative: a few units in the last place, the difference of sums in another order
TOTALS = "totals"  # the group of the state in which a step adds up its losses and logits
# Times the measured tolerance, beside a floor for systems that do not amplify. Measured over dcgan
# at 16 to 64 pixels, the MLPs and gaussian1d, in fp32 and bf16, three seeds each: the compiled step
# is 0.01 to 2.8 times as far away, but for 1e-3 of statistics where the tolerance happens to be
# tiny.
FACTOR = 3.0
STATISTICS_FLOOR, MOMENTS_FLOOR, WEIGHTS_FLOOR = 1e-2, 1e-2, 5e-2


@dataclass
class ParityRun:
    """The change of every tensor of the state over some calls of steps, float64."""

    num_calls: int
    change: State

    @property
    def statistics(self) -> torch.Tensor:
        """Losses and logits, float64 [n]: means over the calls."""
        return torch.cat([tensor.flatten() for tensor in self.change[TOTALS].values()]) / self.num_calls


class ParityRuns:
    """Trial runs of steps from the present state, which is restored afterwards.

    Each run starts from the present state and the present positions of all random generators.
    state: the tensors that the steps change in place. generators: those that the steps draw from,
    beside torch's own.
    """

    def __init__(self, state: State, generators: list[torch.Generator]):
        self.state, self.generators = state, generators

    def run(self, call: Callable[[], object], num_calls: int = PARITY_STEPS, nudge: float = 0.0) -> ParityRun:
        """Call the steps and return the change of the state.

        nudge: relative size of a random change of all weights beforehand.
        """
        with self.undone() as before:
            if nudge:
                _nudge_weights(self.state, nudge)
                torch.manual_seed(0)  # the nudge has drawn numbers
            for _ in range(num_calls):
                call()
            change = {group: {name: tensor.double() - before[group][name].double() for name, tensor in tensors.items()}
                      for group, tensors in self.state.items()}  # fmt: skip
        return ParityRun(num_calls, change)

    @contextlib.contextmanager
    def undone(self) -> Iterator[State]:
        """Undo every change of the state and of random generators at the end of the block.

        Yields a copy of the state.
        """
        before, places = snapshot(self.state), [generator.get_state() for generator in self.generators]
        # Random numbers of a network's own: dropout is the same in every trial.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(0)
            try:
                yield before
            finally:
                restore(self.state, before)
                for generator, place in zip(self.generators, places, strict=True):
                    generator.set_state(place)


class Tolerance:
    """The change that the eager step makes from the present state, and the tolerance around it.

    call: makes one eager step. precise_call: the same in fp32, where `call` computes in a lower
    precision.
    """

    def __init__(
        self,
        trials: ParityRuns,
        call: Callable[[], object],
        precise_call: Callable[[], object] | None,
        num_calls: int = PARITY_STEPS,
    ):
        self._trials, self._call, self._precise_call, self._num_calls = trials, call, precise_call, num_calls
        self._eager = trials.run(call, num_calls)
        self._other: ParityRun | None = None

    def disagreement(self, candidate: Callable[[], object]) -> str | None:
        """Return the difference between `candidate` and the eager step in words, or None.

        `candidate` is called as often as the eager step.
        """
        ours = self._trials.run(candidate, self._num_calls)
        if self._other is None:  # run when it is first needed: without a rung above eager it never is
            self._other = self._trials.run(
                self._precise_call or self._call, self._num_calls, nudge=0.0 if self._precise_call else NUDGE
            )
        if self._precise_call:
            return compare(ours, reference=self._eager, truth=self._other)
        return compare(ours, reference=self._other, truth=self._eager)


def compare(ours: ParityRun, reference: ParityRun, truth: ParityRun) -> str | None:
    """Return the first difference of `ours` that exceeds the tolerance, in words, or None.

    `ours` may be as far from `truth` as the distance of `reference` accounts for.
    """
    error, tolerance = (_statistics_error(trial, truth) for trial in (ours, reference))
    if not error <= FACTOR * tolerance + STATISTICS_FLOOR:  # `not <=` also catches NaN
        return f"its losses or logits differ from eager by {error:.2g}, where rounding accounts for {tolerance:.2g}"
    for group, changes in truth.change.items():
        if group == TOTALS:
            continue
        still = [name for name in changes if bool(changes[name].any()) and not bool(ours.change[group][name].any())]
        if still:
            return f"{group} {still[0]} did not change, but does in eager"
        error, tolerance = (_relative_error(trial.change[group], changes) for trial in (ours, reference))
        floor = WEIGHTS_FLOOR if has_weights(group) else MOMENTS_FLOOR
        if not error <= FACTOR * tolerance + floor:
            return (
                f"the change of {group} differs from eager by {error:.2g} of its size, "
                f"where rounding accounts for {tolerance:.2g}"
            )
    return None


def has_weights(group: str) -> bool:
    """Return True for groups of parameters: of G and D, and of the networks of a step of one's own."""
    return group in ("G", "D", "G_ema") or group.startswith("weights/")


def snapshot(state: State) -> State:
    """Return a copy of every tensor of the state."""
    return {
        group: {name: tensor.detach().clone() for name, tensor in tensors.items()} for group, tensors in state.items()
    }


@torch.no_grad()
def restore(state: State, saved: State) -> None:
    """Write a snapshot back into the tensors of the state.

    Tensors keep their identity and memory, which compiled and captured steps rely on.
    """
    for group, tensors in state.items():
        for name, tensor in tensors.items():
            tensor.copy_(saved[group][name])


@torch.no_grad()
def _nudge_weights(state: State, nudge: float) -> None:
    for group, tensors in state.items():
        if has_weights(group) and not group.endswith("_ema"):
            for tensor in tensors.values():
                tensor.mul_(1 + nudge * torch.randn_like(tensor))


def _statistics_error(trial: ParityRun, truth: ParityRun) -> float:
    """Return the largest error of a statistic, absolute for small ones, relative for large ones."""
    return ((trial.statistics - truth.statistics).abs() / (1 + truth.statistics.abs())).max().item()


def _relative_error(change: dict, truth: dict) -> float:
    """Return |change - truth| / |truth| over all tensors of a group together.

    Gradients of zero, which are all rounding, count for little.
    """
    difference = math.sqrt(sum((change[name] - truth[name]).square().sum().item() for name in truth))
    return difference / (math.sqrt(sum(tensor.square().sum().item() for tensor in truth.values())) + 1e-30)
