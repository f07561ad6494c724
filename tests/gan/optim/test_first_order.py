"""RMSprop, SGD and Lion against torch's or their formulas, and what all optimisers have in common."""
import pytest
import torch
from optimizers import SHAPES, run_both, twin_parameters

from fastgan.config import OptimConfig
from fastgan.config.schema import OPTIMIZERS as NAMES
from fastgan.errors import UserError
from fastgan.gan.optim import SGD, Lion, RMSprop, make_optimizer


def make(name, parameters, lr, **changes):
    optim = OptimConfig(**{"beta1": 0.5, "beta2": 0.9, "eps": 1e-8, "momentum": 0.5, "weight_decay": 0.1} | changes)
    return make_optimizer(name, parameters, lr, optim)


@pytest.mark.parametrize("alpha", [0.99, 0.9])
def test_rmsprop_equals_torch_over_100_steps(alpha):
    ours, theirs = twin_parameters(0)
    run_both(RMSprop(ours, 1e-3, alpha, 1e-8), torch.optim.RMSprop(theirs, 1e-3, alpha, 1e-8), theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_learning_rate_takes_effect_without_new_objects(name):
    parameter = torch.zeros(1)
    optimizer = make(name, [parameter], 0.1, beta1=0.0, beta2=0.0, eps=1e-12, momentum=0.0, weight_decay=0.0)
    optimizer.step([torch.ones(1)])
    optimizer.lr.fill_(0.01)
    optimizer.step([torch.ones(1)])
    torch.testing.assert_close(parameter, torch.tensor([-0.11]))


@pytest.mark.parametrize("name", NAMES)
def test_the_state_is_all_that_the_next_step_depends_on(name):
    """Two optimisers whose state was made equal in place make the same next step."""
    parameters, _ = twin_parameters(0)
    first = make(name, parameters, 1e-2)
    for _ in range(3):
        first.step([torch.randn(shape) for shape in SHAPES])
    copies = [parameter.clone() for parameter in parameters]
    second = make(name, copies, 1.0, beta1=0.1, beta2=0.1)
    for key, tensor in second.state().items():
        tensor.copy_(first.state()[key])
    gradients = [torch.randn(shape) for shape in SHAPES]
    first.step(gradients)
    second.step(gradients)
    assert all(torch.equal(a, b) for a, b in zip(parameters, copies, strict=True))


def test_an_extra_step_of_rmsprop_is_like_any_other():
    (ours, theirs), gradients = twin_parameters(0), [torch.randn(shape) for shape in SHAPES]
    theirs = [tensor.detach() for tensor in theirs]
    RMSprop(ours, 1e-2, 0.9, 1e-8).step(gradients, is_extra=True)
    RMSprop(theirs, 1e-2, 0.9, 1e-8).step(gradients)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_sgd_and_rmsprop_equal_torch_with_momentum_and_decay(momentum, weight_decay):
    options = {"momentum": momentum, "weight_decay": weight_decay}
    for ours, theirs, lists in (
        (SGD, torch.optim.SGD, (1e-2,)),
        (RMSprop, lambda p, lr, alpha, eps, **more: torch.optim.RMSprop(p, lr, alpha, eps, **more), (1e-3, 0.9, 1e-8)),
    ):
        parameters, twins = twin_parameters(0)
        run_both(ours(parameters, *lists, **options), theirs(twins, *lists, **options), twins, steps=20)
        for a, b in zip(parameters, twins, strict=True):
            torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-5)


def test_lion_follows_its_algorithm():
    """Algorithm 2 of the paper, written out for 20 steps in float64."""
    (parameters, _), lr, beta1, beta2, decay = twin_parameters(0), 1e-2, 0.9, 0.99, 0.3
    optimizer = Lion(parameters, lr, beta1, beta2, decay)
    p, m = [each.double() for each in parameters], [torch.zeros_like(each).double() for each in parameters]
    for step in range(20):
        gradients = [torch.randn(shape, generator=torch.Generator().manual_seed(step)) for shape in SHAPES]
        optimizer.step(gradients)
        for i, g in enumerate(gradients):
            c = beta1 * m[i] + (1 - beta1) * g.double()
            p[i] = p[i] - lr * (c.sign() + decay * p[i])
            m[i] = beta2 * m[i] + (1 - beta2) * g.double()
    for ours, theirs in zip(parameters, p, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)


def test_without_a_number_only_adamw_decays():
    decays = [make(name, [torch.ones(2)], 0.1, weight_decay=None).weight_decay for name in NAMES]
    assert dict(zip(NAMES, decays, strict=True)) == {"adamw": 0.01} | dict.fromkeys(set(NAMES) - {"adamw"}, 0.0)


@pytest.mark.parametrize("name", ["sgd", "lion"])
def test_the_norm_of_the_gradients_is_followed(name):
    optimizer = make(name, [torch.zeros(3), torch.zeros(2)], 1e-3)
    assert optimizer.gradient_norm().item() == 0
    for length in (5.0, 10.0):
        optimizer.step([torch.tensor([0.0, 0.6 * length, 0.0]), torch.tensor([0.8 * length, 0.0])])
    mean = (0.99 * 0.01 * 25 + 0.01 * 100) / (1 - 0.99**2)
    assert optimizer.gradient_norm().item() == pytest.approx(mean**0.5, rel=1e-4)


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match="no optimiser 'adagrad': it can be adam, adamw"):
        make("adagrad", [torch.zeros(2)], 0.1)
