"""Adam and AdamW against torch's."""
import pytest
import torch
from optimizers import SHAPES, run_both, twin_parameters

from fastgan.gan.optim import Adam, AdamW
from fastgan.ops.adam_ema import follow
from fastgan.ops.dispatch import autotune, registry


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.999), (0.0, 0.99)])
@pytest.mark.parametrize("eps", [1e-8, 1e-4])
def test_adam_equals_torch_over_100_steps(betas, eps):
    ours, theirs = twin_parameters(0)
    run_both(Adam(ours, 1e-3, *betas, eps), torch.optim.Adam(theirs, 1e-3, betas, eps), theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-6)


def test_first_adam_step_is_lr_times_the_sign_of_the_gradient():
    parameter = torch.zeros(4)
    Adam([parameter], 0.1, 0.9, 0.999, 1e-12).step([torch.tensor([3.0, -0.2, 1e-3, -40.0])])
    torch.testing.assert_close(parameter, torch.tensor([-0.1, 0.1, -0.1, 0.1]))


def test_a_zero_gradient_moves_nothing():
    parameter = torch.ones(3)
    Adam([parameter], 0.1, 0.9, 0.999, 1e-8).step([torch.zeros(3)])
    assert torch.equal(parameter, torch.ones(3))


@pytest.mark.parametrize("implementation", ["reference", "cpu"])
def test_adam_takes_the_average_along(implementation):
    """The average is as if it followed after the step, as it does for any other optimiser."""
    if implementation == "cpu" and registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    (parameters, _), (twins, _), beta = twin_parameters(0), twin_parameters(0), torch.tensor(0.75)
    together, alone = Adam(parameters, 1e-2, 0.5, 0.9, 1e-8), Adam(twins, 1e-2, 0.5, 0.9, 1e-8)
    averages, twin_averages = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(2))
    together.take_average(averages, beta)
    gradients = [torch.randn(shape) for shape in SHAPES]
    autotune.force({"adam_ema": implementation})
    try:
        together.step(gradients)
    finally:
        autotune.force({"adam_ema": "auto"})
    alone.step(gradients)
    follow(twin_averages, twins, beta)
    torch.testing.assert_close((parameters, averages), (twins, twin_averages))


@pytest.mark.parametrize("implementation", ["reference", "cpu"])
def test_an_extra_step_is_a_step_that_the_average_skips(implementation):
    """A penalty with an update of its own advances Adam's moments and powers.

    The average follows the next ordinary step.
    """
    if implementation == "cpu" and registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    (parameters, twins), beta = twin_parameters(0), torch.tensor(0.75)
    optimizer, reference = Adam(parameters, 1e-2, 0.5, 0.9, 1e-8), torch.optim.Adam(twins, 1e-2, (0.5, 0.9), 1e-8)
    averages = [torch.zeros_like(parameter) for parameter in parameters]
    expected = [torch.zeros_like(parameter) for parameter in parameters]
    optimizer.take_average(averages, beta)
    autotune.force({"adam_ema": implementation})
    try:
        for step in range(7):
            gradients, is_extra = [torch.randn(shape) for shape in SHAPES], step % 3 == 2
            optimizer.step(gradients, is_extra=is_extra)
            for twin, gradient in zip(twins, gradients, strict=True):
                twin.grad = gradient
            reference.step()
            if not is_extra:
                follow(expected, [twin.detach() for twin in twins], beta)
            torch.testing.assert_close(averages, expected)
    finally:
        autotune.force({"adam_ema": "auto"})
    torch.testing.assert_close(parameters, [twin.detach() for twin in twins])
    assert optimizer.beta1_power.item() == pytest.approx(0.5**7)


def test_the_correction_of_the_bias_is_right_for_a_beta2_that_changes():
    """Every step of constant gradients g is lr * sign(g).

    The weights of the mean square add up to 1 - beta2_1 * ... * beta2_n.
    """
    parameter = torch.zeros(2)
    optimizer = Adam([parameter], 0.1, 0.0, 0.9, 1e-12)
    for step, beta2 in enumerate((0.9, 0.95, 0.99, 0.5), 1):
        optimizer.beta2.fill_(beta2)
        optimizer.step([torch.tensor([3.0, -1e-3])])
        torch.testing.assert_close(parameter, torch.tensor([-0.1, 0.1]) * step)


def test_the_state_has_the_names_that_checkpoints_keep():
    optimizer = Adam(twin_parameters(0)[0][:2], 1e-2, 0.5, 0.9, 1e-8)
    optimizer.take_average(twin_parameters(1)[0][:2], torch.tensor(0.5))
    names = [
        "exp_avg.0",
        "exp_avg.1",
        "exp_avg_sq.0",
        "exp_avg_sq.1",
        "beta1_power",
        "beta2_power",
        "lr",
        "beta1",
        "beta2",
    ]
    assert list(optimizer.state()) == names


@pytest.mark.parametrize(("ours", "theirs"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)])
def test_weight_decay_is_torchs(ours, theirs):
    parameters, twins = twin_parameters(0)
    run_both(
        ours(parameters, 1e-2, 0.5, 0.99, 1e-8, weight_decay=0.3),
        theirs(twins, 1e-2, (0.5, 0.99), 1e-8, weight_decay=0.3), twins, steps=20,
    )  # fmt: skip
    for a, b in zip(parameters, twins, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-6)


def test_the_average_follows_the_decayed_parameters():
    (parameters, _), (averages, _) = twin_parameters(0), twin_parameters(1)
    expected, beta = [average.clone() for average in averages], torch.tensor(0.75)
    optimizer = AdamW(parameters, 1e-2, 0.5, 0.9, 1e-8, weight_decay=0.5)
    optimizer.take_average(averages, beta)
    optimizer.step([torch.randn(shape) for shape in SHAPES])
    follow(expected, parameters, beta)
    torch.testing.assert_close(averages, expected)
