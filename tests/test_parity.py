"""The yardstick of the start-up check: what it lets pass, and what it does not."""
import gans
import pytest
import torch

from fastgan.parity import Trial, compare, disagreement, restore, run_trial, snapshot
from fastgan.step import gan_step


def trial(statistics: float = 1.0, weights=(1.0, 2.0), moments=(1.0, 1.0)) -> Trial:
    change = {"D": {"w": torch.tensor(weights, dtype=torch.float64)}, "optimizer_D": {"exp_avg": torch.tensor(moments, dtype=torch.float64)}}
    return Trial(torch.full((2, 4), statistics, dtype=torch.float64), change)


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


def eager_step(networks):
    return lambda inputs: gan_step(networks, gans.FP32, inputs)


@pytest.mark.parametrize("preset", ["mlp", "dcgan", "gaussian1d"])
def test_a_system_agrees_with_itself_and_is_left_as_it_was(preset):
    config = gans.tiny_config(preset)
    networks = gans.tiny_networks(config)
    before = snapshot(networks.state())
    inputs = [(gans.random_inputs(config, seed),) for seed in (0, 1)]
    eager = run_trial(eager_step(networks), networks.state(), inputs)
    assert disagreement(eager_step(networks), eager_step(networks), None, networks.state(), inputs, eager) is None
    for group, tensors in before.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, networks.state()[group][name]), (group, name)


def test_a_nudge_of_rounding_size_moves_the_result_a_little():
    config = gans.tiny_config("dcgan")
    networks = gans.tiny_networks(config)
    inputs = [(gans.random_inputs(config, seed),) for seed in (0, 1)]
    straight, nudged = (run_trial(eager_step(networks), networks.state(), inputs, nudge) for nudge in (0.0, 1e-6))
    difference = (straight.statistics - nudged.statistics).abs().max()
    assert 0 < difference < 0.05


def halve_the_gradients_of_d(networks):
    """A step with a plain fault: D's gradients are half of what they should be."""
    step = networks.optimizer_D.step

    def faulty(inputs):
        networks.optimizer_D.step = lambda gradients: step([gradient / 2 for gradient in gradients])
        try:
            return gan_step(networks, gans.FP32, inputs)
        finally:
            del networks.optimizer_D.step

    return faulty


@pytest.mark.parametrize("preset", ["mlp", "dcgan", "gaussian1d"])
def test_a_wrong_gradient_is_found_though_adam_hides_its_size(preset):
    config = gans.tiny_config(preset)
    networks = gans.tiny_networks(config)
    inputs = [(gans.random_inputs(config, seed),) for seed in (0, 1)]
    eager = run_trial(eager_step(networks), networks.state(), inputs)
    problem = disagreement(halve_the_gradients_of_d(networks), eager_step(networks), None, networks.state(), inputs, eager)
    assert "optimizer_D" in problem


def test_restore_puts_values_back_in_place():
    config = gans.tiny_config("dcgan")
    networks = gans.tiny_networks(config)
    state = networks.state()
    before, addresses = snapshot(state), [t.data_ptr() for named in state.values() for t in named.values()]
    gan_step(networks, gans.FP32, gans.random_inputs(config))
    assert any(not torch.equal(before["G"][name], tensor) for name, tensor in state["G"].items())
    restore(state, before)
    assert all(torch.equal(before[group][name], tensor) for group, named in networks.state().items() for name, tensor in named.items())
    assert addresses == [t.data_ptr() for named in networks.state().values() for t in named.values()]
