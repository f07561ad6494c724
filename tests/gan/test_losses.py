"""Losses against their closed forms."""
import math

import pytest
import torch
import torch.nn.functional as F
from checking import check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.gan import losses
from fastgan.gan.losses import D_LOSSES, G_OBJECTIVES, bce_with_logits


def d_loss(real, fake, real_target=1.0, fake_target=0.0):
    """Add up D's loss as the step does."""
    return bce_with_logits(real, real_target) + bce_with_logits(fake, fake_target)


def g_loss(fake, name):
    loss, target, sign = G_OBJECTIVES[name]
    return sign * loss(fake, target)


LOGITS = torch.tensor([-1e4, -30.0, -2.0, -1e-3, 0.0, 1e-3, 2.0, 30.0, 1e4], dtype=torch.float64)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(0, 1)), min_size=1, max_size=8))
def test_bce_is_torchs(pairs):
    logits, target = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    theirs = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    # torch computes softplus(20) as 20
    torch.testing.assert_close(bce_with_logits(logits, target), theirs, rtol=1e-12, atol=3e-9)


@pytest.mark.parametrize("target", [0.0, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bce_and_its_gradient_are_finite_for_extreme_logits(target, dtype):
    logits = LOGITS.to(dtype).requires_grad_()
    losses = bce_with_logits(logits, target)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    truth = F.binary_cross_entropy_with_logits(LOGITS, torch.full_like(LOGITS, target), reduction="none")
    assert torch.isfinite(losses).all()
    torch.testing.assert_close(losses.double(), truth, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gradient.double(), LOGITS.sigmoid() - target, rtol=1e-6, atol=1e-6)


def test_a_loss_near_zero_is_not_lost_in_rounding():
    sure = torch.tensor([8.0, 12.0, 16.0])
    expected = torch.log1p(torch.exp(-sure.double())).float()
    torch.testing.assert_close(bce_with_logits(sure, 1.0), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(bce_with_logits(-sure, 0.0), expected, rtol=1e-5, atol=0)


def test_gradients_of_both_orders():
    logits = torch.tensor([-3.0, -0.5, 0.2, 4.0])
    check_gradients(lambda real, fake: d_loss(real, fake, 0.9, 0.1), [logits, logits.flip(0)])
    for name in ("non_saturating", "saturating"):
        check_gradients(lambda fake, name=name: g_loss(fake, name), [logits])


def test_d_at_known_probabilities():
    """D says 3/4 for the real image and 1/3 for the fake: -log(3/4) - log(2/3)."""
    real, fake = torch.tensor([math.log(3.0)]), torch.tensor([math.log(0.5)])
    assert d_loss(real, fake).item() == pytest.approx(-math.log(3 / 4) - math.log(2 / 3))
    undecided = d_loss(torch.zeros(5, 1), torch.zeros(5, 1))
    assert undecided.flatten().tolist() == pytest.approx([2 * math.log(2)] * 5)
    assert undecided.shape == (5, 1)


def test_a_smoothed_target_is_where_the_loss_is_least():
    real = torch.linspace(-4, 4, 801)
    losses = d_loss(real, torch.full_like(real, -50.0), real_target=0.9)
    assert real[losses.argmin()].item() == pytest.approx(math.log(0.9 / 0.1), abs=0.01)


def test_targets_may_differ_from_image_to_image():
    real, fake = torch.randn(4, 1), torch.randn(4, 1)
    flips = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    mixed = d_loss(real, fake, 1 - flips, flips)
    assert torch.equal(mixed[::2], d_loss(real, fake)[::2])
    assert torch.equal(mixed[1::2], d_loss(real, fake, 0.0, 1.0)[1::2])


@pytest.mark.parametrize(
    ("name", "loss", "slope"),
    [
        ("non_saturating", lambda p: -math.log(p), lambda p: p - 1),
        ("saturating", lambda p: math.log(1 - p), lambda p: -p),
    ],
)
@pytest.mark.parametrize("p", [0.01, 0.5, 0.99])
def test_g_at_known_probabilities(name, loss, slope, p):
    logit = torch.tensor(math.log(p / (1 - p)), dtype=torch.float64, requires_grad=True)
    value = g_loss(logit, name)
    assert value.item() == pytest.approx(loss(p))
    assert torch.autograd.grad(value, logit)[0].item() == pytest.approx(slope(p))


def test_where_d_is_sure_only_the_non_saturating_loss_teaches():
    logit = torch.tensor(-20.0, requires_grad=True)
    slopes = {
        name: torch.autograd.grad(g_loss(logit, name), logit)[0].item() for name in ("non_saturating", "saturating")
    }
    assert slopes["non_saturating"] == pytest.approx(-1)
    assert slopes["saturating"] == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("name", ["non_saturating", "saturating"])
def test_g_is_finite_for_extreme_logits(name):
    assert torch.isfinite(g_loss(LOGITS.float(), name)).all()


# --- the other losses -------------------------------------------------------------------------------------------------

FORMULAS = {  # logit, target -> loss
    "wasserstein": lambda x, t: -x * t + x * (1 - t),
    "hinge": lambda x, t: t * max(0.0, 1 - x) + (1 - t) * max(0.0, 1 + x),
    "least_squares": lambda x, t: (x - t) ** 2 / 2,
    "non_saturating": lambda x, t: -t * math.log(1 / (1 + math.exp(-x))) - (1 - t) * math.log(1 / (1 + math.exp(x))),
    "saturating": lambda x, t: -t * math.log(1 / (1 + math.exp(-x))) - (1 - t) * math.log(1 / (1 + math.exp(x))),
}
G_FORMULAS = {  # logit of a fake -> G's loss
    "wasserstein": lambda x: -x,
    "hinge": lambda x: -x,
    "least_squares": lambda x: (x - 1) ** 2 / 2,
    "non_saturating": lambda x: math.log(1 + math.exp(-x)),
    "saturating": lambda x: -math.log(1 + math.exp(x)),
}


def test_every_loss_has_its_formula_here():
    assert D_LOSSES.keys() == FORMULAS.keys() == G_OBJECTIVES.keys() == G_FORMULAS.keys()


@pytest.mark.parametrize("name", D_LOSSES)
@settings(deadline=None)
@given(pairs=st.lists(st.tuples(st.floats(-20, 20), st.floats(0, 1)), min_size=1, max_size=8))
def test_d_minimises_the_formula_element_by_element(name, pairs):
    logits, target = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    expected = [FORMULAS[name](*pair) for pair in pairs]
    assert D_LOSSES[name](logits, target).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-8)
    at_0_5 = [FORMULAS[name](logit, 0.5) for logit, _ in pairs]
    assert D_LOSSES[name](logits, 0.5).tolist() == pytest.approx(at_0_5, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", G_OBJECTIVES)
@settings(deadline=None)
@given(logits=st.lists(st.floats(-20, 20), min_size=1, max_size=8))
def test_g_minimises_the_formula_element_by_element(name, logits):
    expected = [G_FORMULAS[name](logit) for logit in logits]
    assert g_loss(torch.tensor(logits, dtype=torch.float64), name).tolist() == pytest.approx(
        expected, rel=1e-6, abs=1e-8
    )


@pytest.mark.parametrize("name", G_OBJECTIVES)
def test_whatever_g_minimises_raises_the_logits_of_its_fakes(name):
    logits = torch.tensor([-2.0, -0.3, 0.4], requires_grad=True)
    assert (torch.autograd.grad(g_loss(logits, name).sum(), logits)[0] < 0).all()


@pytest.mark.parametrize("name", D_LOSSES)
def test_d_is_taught_to_part_real_from_fake(name):
    real, fake = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    loss = (D_LOSSES[name](real, 1.0) + D_LOSSES[name](fake, 0.0)).sum()
    by_real, by_fake = torch.autograd.grad(loss, (real, fake))
    assert (by_real < 0).all()
    # The target of fakes is 0 itself
    assert ((by_fake > 0).all() if name != "least_squares" else (by_fake == 0).all())


def test_losses_at_their_targets():
    at = torch.tensor([1.0, 0.0])
    assert losses.least_squares(at, at).tolist() == [0, 0]
    assert (
        losses.hinge(torch.tensor([1.0, 5.0]), 1.0).tolist()
        == losses.hinge(torch.tensor([-1.0, -5.0]), 0.0).tolist()
        == [0, 0]
    )
    assert losses.hinge(torch.zeros(2), at).tolist() == [1, 1]
    assert losses.wasserstein(torch.tensor([3.0, 3.0]), at).tolist() == [-3, 3]
    assert losses.relativistic(torch.tensor([2.0, 60.0]), torch.tensor([2.0, 0.0])).tolist() == pytest.approx(
        [math.log(2), 0]
    )


def test_the_margin_of_a_hinge_may_differ_from_image_to_image():
    margin = torch.tensor([[0.8], [1.0]])
    assert losses.hinge(torch.tensor([[0.9, 0.0], [0.9, 0.0]]), 1.0, margin).flatten().tolist() == pytest.approx(
        [0, 0.8, 0.1, 1]
    )
    assert losses.hinge(torch.tensor([[-0.9], [-0.5]]), 0.0, margin).flatten().tolist() == pytest.approx([0, 0.5])


@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), min_size=1, max_size=8))
def test_the_relativistic_loss_knows_differences_alone(pairs):
    real, fake = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    expected = [math.log1p(math.exp(-(r - f))) for r, f in pairs]
    assert losses.relativistic(real, fake).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-8)
    torch.testing.assert_close(losses.relativistic(real + 3, fake + 3), losses.relativistic(real, fake))


def test_gradients_of_both_orders_of_the_smooth_ones():
    logits = torch.tensor([-3.0, -0.5, 0.2, 4.0])
    check_gradients(lambda real, fake: losses.relativistic(real, fake), [logits, logits.flip(0)])
    check_gradients(lambda fake: losses.least_squares(fake, 0.9), [logits])


def test_classification_is_the_log_probability_of_the_class():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    assert losses.classification(logits, torch.tensor([1, 0])).tolist() == pytest.approx(
        [-math.log(3 / 4), math.log(2)]
    )
    assert losses.classification(logits.bfloat16(), torch.tensor([1, 0])).dtype == torch.float32
