"""The optimisers against torch's, and the moving average against its formula."""
import pytest
import torch
from torch import nn

from fastgan.gan.optim import Adam, Average, RMSprop, beta_for, make_average, make_optimizer
from fastgan.ops.adam_ema import follow
from fastgan.ops.dispatch import autotune, registry

SHAPES = [(3, 5), (7,), (), (2, 3, 4, 4)]


def twin_parameters(seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    ours = [torch.randn(shape, generator=generator) for shape in SHAPES]
    return ours, [tensor.clone().requires_grad_() for tensor in ours]


def run_both(optimizer, reference: torch.optim.Optimizer, theirs: list[torch.Tensor], steps: int = 100) -> None:
    """Give both the same random gradients; small and large ones, so that eps matters somewhere."""
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        gradients = [torch.randn(shape, generator=generator) * 10.0 ** (step % 7 - 5) for shape in SHAPES]
        optimizer.step(gradients)
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient
        reference.step()


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.999), (0.0, 0.99)])
@pytest.mark.parametrize("eps", [1e-8, 1e-4])
def test_adam_equals_torch_over_100_steps(betas, eps):
    ours, theirs = twin_parameters(0)
    run_both(Adam(ours, 1e-3, *betas, eps), torch.optim.Adam(theirs, 1e-3, betas, eps), theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.99, 0.9])
def test_rmsprop_equals_torch_over_100_steps(alpha):
    ours, theirs = twin_parameters(0)
    run_both(RMSprop(ours, 1e-3, alpha, 1e-8), torch.optim.RMSprop(theirs, 1e-3, alpha, 1e-8), theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-5)


def test_first_adam_step_is_lr_times_the_sign_of_the_gradient():
    parameter = torch.zeros(4)
    Adam([parameter], 0.1, 0.9, 0.999, 1e-12).step([torch.tensor([3.0, -0.2, 1e-3, -40.0])])
    torch.testing.assert_close(parameter, torch.tensor([-0.1, 0.1, -0.1, 0.1]))


def test_a_zero_gradient_moves_nothing():
    parameter = torch.ones(3)
    Adam([parameter], 0.1, 0.9, 0.999, 1e-8).step([torch.zeros(3)])
    assert torch.equal(parameter, torch.ones(3))


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_a_changed_learning_rate_takes_effect_without_new_objects(name):
    parameter = torch.zeros(1)
    optimizer = make_optimizer(name, [parameter], 0.1, 0.0, 0.0, 1e-12)
    optimizer.step([torch.ones(1)])
    optimizer.lr.fill_(0.01)
    optimizer.step([torch.ones(1)])
    torch.testing.assert_close(parameter, torch.tensor([-0.11]))


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_the_state_is_all_that_the_next_step_depends_on(name):
    """Two optimisers whose state was made equal in place make the same next step."""
    parameters, _ = twin_parameters(0)
    first = make_optimizer(name, parameters, 1e-2, 0.5, 0.9, 1e-8)
    for _ in range(3):
        first.step([torch.randn(shape) for shape in SHAPES])
    copies = [parameter.clone() for parameter in parameters]
    second = make_optimizer(name, copies, 1.0, 0.1, 0.1, 1e-8)
    for key, tensor in second.state().items():
        tensor.copy_(first.state()[key])
    gradients = [torch.randn(shape) for shape in SHAPES]
    first.step(gradients)
    second.step(gradients)
    assert all(torch.equal(a, b) for a, b in zip(parameters, copies, strict=True))


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


def test_an_extra_step_of_rmsprop_is_like_any_other():
    (ours, theirs), gradients = twin_parameters(0), [torch.randn(shape) for shape in SHAPES]
    theirs = [tensor.detach() for tensor in theirs]
    RMSprop(ours, 1e-2, 0.9, 1e-8).step(gradients, is_extra=True)
    RMSprop(theirs, 1e-2, 0.9, 1e-8).step(gradients)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


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


def test_half_life():
    """After ema_kimg thousand images half of the starting weight is left."""
    steps = round(10_000 / 64)
    assert abs(beta_for(64, 10.0) ** steps - 0.5) < 1e-2


def test_parameters_are_averaged_and_buffers_copied():
    G = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    G_ema = make_average(G)
    average = Average(G, G_ema, beta=0.75)
    before = [parameter.clone() for parameter in G_ema.parameters()]
    with torch.no_grad():
        for parameter in G.parameters():
            parameter.add_(torch.randn_like(parameter))
    G(torch.randn(8, 3))
    average.step()
    for old, new, source in zip(before, G_ema.parameters(), G.parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * source)
    assert torch.equal(G_ema[1].running_mean, G[1].running_mean)
    assert G_ema[1].running_mean.abs().sum() > 0


def test_the_average_is_a_separate_network_in_evaluation_mode():
    G = nn.Sequential(nn.Linear(3, 4), nn.Dropout())
    G_ema = make_average(G)
    assert not G_ema.training
    assert G.training
    assert G_ema[0].weight.data_ptr() != G[0].weight.data_ptr()


def test_what_was_handed_over_is_left_to_its_new_owner():
    """The averages of the weights go to the optimiser, in its order; the bias and the buffers stay."""
    G = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))
    G_ema = make_average(G)
    average = Average(G, G_ema, beta=0.75)
    handed_over = average.hand_over([G[2].weight, G[0].weight])
    assert handed_over[0] is G_ema[2].weight
    assert handed_over[1] is G_ema[0].weight
    with torch.no_grad():
        for parameter in G.parameters():
            parameter.add_(1)
    G(torch.randn(8, 3))
    before = {name: parameter.clone() for name, parameter in G_ema.named_parameters()}
    average.step()
    moved = {name for name, parameter in G_ema.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {"0.bias", "1.weight", "1.bias"}
    assert torch.equal(G_ema[1].running_mean, G[1].running_mean)


def test_all_may_be_handed_over():
    G = nn.Linear(3, 4)
    average = Average(G, make_average(G), beta=0.75)
    average.hand_over(list(G.parameters()))
    average.step()
