"""Does a faster way to run a step do what the eager step does? Two steps of each, from the same state and inputs, are compared.

A GAN step amplifies rounding: Adam's first step turns a gradient of rounding size into a whole step of lr, and the second step sees it. So the
yardstick is measured on the system itself. In reduced precision it is the eager step's own distance from the fp32 step; in fp32 it is its distance
from itself when its weights are nudged by a rounding error. The candidate may be a few times as far away, and no more.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

Step = Callable[..., torch.Tensor]  # step(*inputs) -> statistics; changes its state in place
State = dict[str, dict[str, torch.Tensor]]  # group -> name -> tensor that the step changes in place

PARITY_STEPS = 2
NUDGE = 1e-6  # relative: a few units in the last place, what sums in another order differ by
# Times the yardstick, beside a floor for systems that do not amplify. Measured over dcgan at 16 to 64 pixels, the MLPs and gaussian1d, in fp32 and
# bf16, three seeds each: the compiled step is 0.01 to 2.8 times as far away, but for 1e-3 of statistics where the yardstick happens to be tiny.
FACTOR = 3.0
STATISTICS_FLOOR, MOMENTS_FLOOR, WEIGHTS_FLOOR = 1e-2, 1e-2, 5e-2


@dataclass
class Trial:
    """What the steps did: statistics float64 [PARITY_STEPS, n], and the change of every tensor of the state, float64."""

    statistics: torch.Tensor
    change: State


def disagreement(candidate: Step, step: Step, precise_step: Step | None, state: State, inputs: list[tuple], eager: Trial) -> str | None:
    """What `candidate` does otherwise than the eager `step` from the present state, in words, or None. The state is left as it was.

    precise_step: the same step in fp32, where `step` computes in a lower precision. inputs: one tuple a step. eager: the trial of `step`.
    """
    ours = run_trial(candidate, state, inputs)
    if precise_step is not None:
        return compare(ours, reference=eager, truth=run_trial(precise_step, state, inputs))
    return compare(ours, reference=run_trial(step, state, inputs, nudge=NUDGE), truth=eager)


def run_trial(step: Step, state: State, inputs: list[tuple], nudge: float = 0.0) -> Trial:
    """Run the steps, and put the state back. nudge: relative size of a random change of all weights beforehand."""
    before = snapshot(state)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # a network's own random numbers (dropout) are the same in every trial
        torch.manual_seed(0)
        if nudge:
            _nudge_weights(state, nudge)
        statistics = torch.stack([step(*each).clone() for each in inputs])
    change = {group: {name: tensor.double() - before[group][name].double() for name, tensor in tensors.items()} for group, tensors in state.items()}
    restore(state, before)
    return Trial(statistics.double(), change)


def compare(ours: Trial, reference: Trial, truth: Trial) -> str | None:
    """The first way in which `ours` is further from `truth` than `reference` accounts for, in words, or None."""
    error, yardstick = (_statistics_error(trial, truth) for trial in (ours, reference))
    if not error <= FACTOR * yardstick + STATISTICS_FLOOR:  # `not <=` also catches NaN
        return f"its losses or logits differ from eager by {error:.2g}, where rounding accounts for {yardstick:.2g}"
    for group, changes in truth.change.items():
        still = [name for name in changes if bool(changes[name].any()) and not bool(ours.change[group][name].any())]
        if still:
            return f"{group} {still[0]} did not change, but does in eager"
        error, yardstick = (_relative_error(trial.change[group], changes) for trial in (ours, reference))
        floor = WEIGHTS_FLOOR if group in ("G", "D", "G_ema") else MOMENTS_FLOOR
        if not error <= FACTOR * yardstick + floor:
            return f"the change of {group} differs from eager by {error:.2g} of its size, where rounding accounts for {yardstick:.2g}"
    return None


def snapshot(state: State) -> State:
    """A copy of every tensor of the state."""
    return {group: {name: tensor.detach().clone() for name, tensor in tensors.items()} for group, tensors in state.items()}


@torch.no_grad()
def restore(state: State, saved: State) -> None:
    """Put a snapshot back in place: tensors keep their identity and memory, which compiled and captured steps rely on."""
    for group, tensors in state.items():
        for name, tensor in tensors.items():
            tensor.copy_(saved[group][name])


@torch.no_grad()
def _nudge_weights(state: State, nudge: float) -> None:
    for group in ("G", "D"):
        for tensor in state.get(group, {}).values():
            tensor.mul_(1 + nudge * torch.randn_like(tensor))


def _statistics_error(trial: Trial, truth: Trial) -> float:
    """The largest error of a statistic, absolute for small ones and relative for large ones."""
    return ((trial.statistics - truth.statistics).abs() / (1 + truth.statistics.abs())).max().item()


def _relative_error(change: dict, truth: dict) -> float:
    """|change - truth| / |truth| over all tensors of a group together: gradients of zero, which are all rounding, count for little."""
    difference = math.sqrt(sum((change[name] - truth[name]).square().sum().item() for name in truth))
    return difference / (math.sqrt(sum(tensor.square().sum().item() for tensor in truth.values())) + 1e-30)
