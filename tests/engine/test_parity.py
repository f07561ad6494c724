"""The tolerance of the start-up check: accepted and rejected steps."""
import gans
import pytest
import torch

from fastgan.engine.parity import PARITY_STEPS, ParityRun, ParityRuns, Tolerance, compare, restore, snapshot
from fastgan.gan.step import update


def trial(statistics: float = 1.0, weights=(1.0, 2.0), moments=(1.0, 1.0)) -> ParityRun:
    change = {"D": {"w": weights}, "optimizer_D": {"exp_avg": moments}, "totals": {"totals": [2 * statistics] * 4}}
    return ParityRun(
        2,
        {
            group: {name: torch.tensor(values).double() for name, values in named.items()}
            for group, named in change.items()
        },
    )


def test_a_trial_agrees_with_itself():
    assert compare(trial(), trial(), trial()) is None


@pytest.mark.parametrize(
    ("ours", "reason"),
    [
        (trial(statistics=1.1), "losses"),
        (trial(statistics=float("nan")), "losses"),
        (trial(weights=(0.0, 0.0)), "D w did not change"),
        (trial(weights=(-1.0, -2.0)), "change of D"),
        (trial(weights=(float("inf"), 2.0)), "change of D"),
        (trial(moments=(1.1, 1.1)), "change of optimizer_D"),
    ],
)
def test_what_differs_is_named(ours, reason):
    assert reason in compare(ours, trial(), trial())


def test_the_yardstick_widens_what_is_allowed():
    off = trial(statistics=1.1, moments=(1.2, 1.2))
    assert compare(off, trial(), trial()) is not None
    assert compare(off, trial(statistics=1.05, moments=(1.1, 1.1)), trial()) is None
    assert compare(trial(statistics=1.4), trial(statistics=1.05), trial()) is not None


def trials_of(config, state):
    """Return (trials, the call of an eager step on random inputs)."""
    generator = torch.Generator().manual_seed(0)
    return ParityRuns(state.tensors(), [generator]), lambda: update(
        state, gans.random_inputs(config, generator)
    )


@pytest.mark.parametrize("preset", ["mlp", "dcgan", "gaussian1d"])
def test_a_system_agrees_with_itself_and_is_left_as_it_was(preset):
    config = gans.tiny_config(preset)
    state = gans.tiny_networks(config)
    before = snapshot(state.tensors())
    trials, step = trials_of(config, state)
    place, torch_place = trials.generators[0].get_state(), torch.get_rng_state()
    assert Tolerance(trials, step, None).disagreement(step) is None
    assert torch.equal(trials.generators[0].get_state(), place)
    assert torch.equal(torch.get_rng_state(), torch_place)
    for group, tensors in before.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, state.tensors()[group][name]), (group, name)


def test_a_nudge_of_rounding_size_moves_the_result_a_little():
    config = gans.tiny_config("dcgan")
    trials, step = trials_of(config, gans.tiny_networks(config))
    straight, nudged = (trials.run(step, nudge=nudge) for nudge in (0.0, 1e-6))
    difference = (straight.statistics - nudged.statistics).abs().max()
    assert 0 < difference < 0.05


def test_every_trial_meets_the_same_random_numbers_nudged_or_not():
    generator, totals = torch.Generator().manual_seed(3), torch.zeros(2)

    def draw():
        # The run's generators, and a network's own.
        totals.add_(torch.stack([torch.rand((), generator=generator), torch.rand(())]))

    trials = ParityRuns({"totals": {"totals": totals}, "D": {"w": torch.ones(5)}}, [generator])
    first, second, nudged = trials.run(draw), trials.run(draw), trials.run(draw, nudge=1e-6)
    assert torch.equal(first.statistics, second.statistics)
    assert torch.equal(first.statistics, nudged.statistics)


def test_what_fails_inside_is_undone_as_well():
    weight, generator = torch.ones(3), torch.Generator()
    place = generator.get_state()

    def fails():
        weight.zero_()
        torch.rand(1, generator=generator)
        raise ZeroDivisionError

    trials = ParityRuns({"D": {"w": weight}}, [generator])
    with pytest.raises(ZeroDivisionError):
        trials.run(fails)
    assert torch.equal(weight, torch.ones(3))
    assert torch.equal(generator.get_state(), place)


def halve_the_gradients_of_d(state, step):
    """Simulate a fault: D's gradients are half of their right values."""
    update = state.optimizer_D.step

    def faulty():
        state.optimizer_D.step = lambda gradients: update([gradient / 2 for gradient in gradients])
        try:
            step()
        finally:
            del state.optimizer_D.step

    return faulty


@pytest.mark.parametrize("preset", ["mlp", "dcgan", "gaussian1d"])
def test_a_wrong_gradient_is_found_though_adam_hides_its_size(preset):
    config = gans.tiny_config(preset)
    state = gans.tiny_networks(config)
    trials, step = trials_of(config, state)
    tolerance = Tolerance(trials, step, None)
    assert "optimizer_D" in tolerance.disagreement(halve_the_gradients_of_d(state, step))
    assert tolerance.disagreement(step) is None


@pytest.mark.parametrize("num_calls", [1, PARITY_STEPS, 5])
def test_a_step_left_out_is_found(num_calls):
    config = gans.tiny_config("mlp")
    trials, step = trials_of(config, gans.tiny_networks(config))
    assert Tolerance(trials, step, None, num_calls).disagreement(lambda: (step(), step())) is not None


def test_restore_puts_values_back_in_place():
    config = gans.tiny_config("dcgan")
    state = gans.tiny_networks(config)
    tensors = state.tensors()
    before, addresses = snapshot(tensors), [t.data_ptr() for named in tensors.values() for t in named.values()]
    update(state, gans.random_inputs(config))
    assert any(not torch.equal(before["G"][name], tensor) for name, tensor in tensors["G"].items())
    restore(tensors, before)
    assert all(
        torch.equal(before[group][name], tensor)
        for group, named in state.tensors().items()
        for name, tensor in named.items()
    )
    assert addresses == [t.data_ptr() for named in state.tensors().values() for t in named.values()]
