"""The phases of a configuration and their schedule."""
from collections.abc import Callable
from dataclasses import dataclass

from fastgan.config import Config
from fastgan.engine.phase_schedule import Interval, PhaseSchedule
from fastgan.gan import step


@dataclass(frozen=True)
class PhaseKind:
    """A phase: its function, and what it minimises, from which follows what it reads and draws.

    function: (state, inputs) -> statistics; it updates parameters in place.
    """

    function: Callable
    d_loss: bool = False
    g_loss: bool = False
    d_penalty: bool = False  # alone, in an update of its own
    path_length: bool = False  # alone, in an update of its own

    @property
    def reads_next(self) -> bool:
        """True if it moves on in the data: every step has one such phase, its first."""
        return self.d_loss

    @property
    def has_d_penalty(self) -> bool:
        """True if D's penalties, where there are some, may be part of it."""
        return self.d_loss or self.d_penalty


PHASES = {
    "update": PhaseKind(step.update, d_loss=True, g_loss=True),
    "D": PhaseKind(step.d_update, d_loss=True),
    "G": PhaseKind(step.g_update, g_loss=True),
    "D_penalty": PhaseKind(step.d_penalty_update, d_penalty=True),
    "G_penalty": PhaseKind(step.g_penalty_update, path_length=True),
}


def phase_schedule_of(config: Config) -> PhaseSchedule:
    """Return the phase schedule of a run.

    A step is one update of D on one batch, followed by the other phases that are due after it.
    """
    loss = config.loss
    intro = _intervals(config, loss.n_critic_intro) if loss.intro_updates else {}
    return PhaseSchedule(_intervals(config, loss.n_critic), (loss.n_critic_intro * loss.intro_updates, intro))


def _intervals(config: Config, n_critic: int) -> dict[str, Interval]:
    """Return the intervals of the updates, then of the penalties with updates of their own."""
    penalty = config.penalty
    intervals = _updates(n_critic, config.loss.fresh_fakes)
    if penalty.D_reg_interval > 1 and (penalty.gp_weight or penalty.r1_gamma or penalty.r2_gamma):
        intervals["D_penalty"] = Interval(penalty.D_reg_interval)
    if penalty.pl_weight:
        intervals["G_penalty"] = Interval(n_critic * penalty.G_reg_interval, (n_critic - 1,))
    return intervals


def _updates(n_critic: int, fresh_fakes: bool) -> dict[str, Interval]:
    """Return the intervals of n_critic updates of D for one of G.

    A G that uses fresh fakes has an update in a graph of its own; otherwise it shares D's last
    fakes.
    """
    last = n_critic - 1
    if n_critic == 1:
        return {"update": Interval()}
    if fresh_fakes:
        return {"D": Interval(), "G": Interval(n_critic, (last,))}
    return {"D": Interval(n_critic, tuple(range(last))), "update": Interval(n_critic, (last,))}


def phases_of(phase_schedule: PhaseSchedule) -> list[str]:
    """Return the phases that occur in a phase schedule."""
    return list(dict.fromkeys([*phase_schedule.intro_intervals, *phase_schedule.intervals]))


def batches_per_step(config: Config) -> int:
    """Return the number of batches that a step reads: 2 for the relativistic loss, else 1.

    D reads one; G reads another where its loss compares its fakes with real images.
    """
    return 2 if config.loss.name == "relativistic" else 1
