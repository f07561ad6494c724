"""The phase schedule of every kind of configuration, against counting by hand."""
import dataclasses
import itertools

import pytest

from fastgan.config import Config, LossConfig, PenaltyConfig
from fastgan.gan.phases import PHASES, batches_per_step, phase_schedule_of, phases_of

PENALTIES = {
    "none": {},
    "in every update": {"gp_weight": 10.0},
    "lazy": {"r1_gamma": 1.0, "D_reg_interval": 4},
    "lazy at fakes": {"r2_gamma": 1.0, "D_reg_interval": 3},
    "lazy between": {"gp_weight": 10.0, "D_reg_interval": 2},
    "D_reg_interval of nothing": {"D_reg_interval": 4},
    "path length": {"pl_weight": 2.0, "G_reg_interval": 4},
    "both": {"r1_gamma": 1.0, "D_reg_interval": 16, "pl_weight": 2.0, "G_reg_interval": 3},
}
INTROS = {"no intro": (0, 0), "of one": (1, 3), "of three": (3, 2), "of seven": (7, 1)}


def config_of(n_critic: int, fresh_fakes: bool, intro: tuple[int, int], penalty: dict) -> Config:
    loss = LossConfig(n_critic=n_critic, fresh_fakes=fresh_fakes, n_critic_intro=intro[0], intro_updates=intro[1])
    return Config(loss=loss, penalty=PenaltyConfig(**penalty))


def counted_by_hand(config: Config, num_steps: int) -> list[tuple[str, ...]]:
    """Return the phases of a loop with an `if` for everything."""
    loss, penalty, steps = config.loss, config.penalty, []
    for step in range(num_steps):
        n_critic = loss.n_critic_intro if step < loss.n_critic_intro * loss.intro_updates else loss.n_critic
        updates_G = (step + 1) % n_critic == 0
        in_one = n_critic == 1 or not loss.fresh_fakes
        phases = (["update"] if in_one else ["D", "G"]) if updates_G else ["D"]
        if (
            penalty.D_reg_interval > 1
            and (penalty.r1_gamma or penalty.r2_gamma or penalty.gp_weight)
            and step % penalty.D_reg_interval == 0
        ):
            phases.append("D_penalty")
        if penalty.pl_weight and updates_G and (step // n_critic) % penalty.G_reg_interval == 0:
            phases.append("G_penalty")
        steps.append(tuple(phases))
    return steps


COMBINATIONS = list(itertools.product((1, 2, 5), (False, True), INTROS, PENALTIES))


@pytest.mark.parametrize(("n_critic", "fresh_fakes", "intro", "penalty"), COMBINATIONS, ids=str)
def test_what_is_due_is_what_one_counts_by_hand(n_critic, fresh_fakes, intro, penalty):
    config = config_of(n_critic, fresh_fakes, INTROS[intro], PENALTIES[penalty])
    phase_schedule = phase_schedule_of(config)
    steps = [phase_schedule.due(step) for step in range(60)]
    assert steps == counted_by_hand(config, 60)
    assert set(itertools.chain(*steps)) <= set(phases_of(phase_schedule)) <= set(PHASES)
    for phases in steps:
        assert sum(PHASES[phase].reads_next for phase in phases) == 1  # a step moves on by one batch
        assert PHASES[phases[0]].reads_next  # before any other phase reads it again
        assert sum(phase in ("update", "D") for phase in phases) == 1
        assert len({"update", "G"} & set(phases)) <= 1


def test_a_beginning_with_many_updates_of_d():
    """Arjovsky's schedule: 100 updates of D for each of the first 25 of G, 5 afterwards."""
    phase_schedule = phase_schedule_of(config_of(5, False, (100, 25), {}))
    assert phase_schedule.intro_steps == 2500
    updates_G = [step for step in range(2520) if "update" in phase_schedule.due(step)]
    assert updates_G == [*range(99, 2500, 100), 2504, 2509, 2514, 2519]


def test_an_intro_of_no_updates_is_none():
    assert phase_schedule_of(config_of(2, True, (100, 0), {})).intro_steps == 0


@pytest.mark.parametrize("name", ["non_saturating", "relativistic"])
def test_a_loss_that_compares_takes_a_batch_for_each_network(name):
    assert batches_per_step(dataclasses.replace(Config(), loss=LossConfig(name))) == (
        2 if name == "relativistic" else 1
    )
