"""Diagnostics: when each is reported, and their numbers against plain computations."""
from types import SimpleNamespace

import gans
import pytest
import torch
from torch import nn

from fastgan.gan.optim import Adam, RMSprop
from fastgan.run.diagnostics import EARLY, NUM_COMPARED, Diagnostics, mean_distance

WELL = {
    "d_loss": 1.3,
    "real_logits": 0.5,
    "fake_logits": -0.5,
    "sample_distance": 0.9,
    "gradient_norm_G": 1.0,
    "gradient_norm_D": 2.0,
}
TROUBLES = {
    "D is nearly always right": {"d_loss": 0.01},
    "mean logits 9 of real and -9 of fake": {"real_logits": 9.0, "fake_logits": -9.0},
    "the samples are too similar (their mean distance is 0.10": {"sample_distance": 0.1},
    "the gradients of G have faded to 0.0009": {"gradient_norm_G": 9e-4},
    "the gradients of D have faded to 0.001": {"gradient_norm_D": 1e-3},
    "the gradients of G have grown to 1.1e+03": {"gradient_norm_G": 1100.0},
    "the gradients of D have grown to 2.1e+03": {"gradient_norm_D": 2100.0},
}


def diagnostics(has_probabilities: bool = True) -> Diagnostics:
    return Diagnostics(
        gans.tiny_networks(gans.tiny_config("mlp")), lambda num: torch.randn(num, 4), None, has_probabilities
    )


@pytest.mark.parametrize(("words", "trouble"), TROUBLES.items(), ids=[str(number) for number in range(len(TROUBLES))])
def test_trouble_is_said_once_when_it_begins_and_again_when_it_comes_back(words, trouble):
    each, bad = diagnostics(), WELL | trouble
    said = [each.said(statistics) for statistics in (WELL, WELL, bad, bad, bad, WELL, bad)]
    assert [len(sentences) for sentences in said] == [0, 0, 1, 0, 0, 0, 1]
    assert words in said[2][0]
    assert said[2] == said[6]
    assert "\n" not in said[2][0]


def test_samples_of_the_first_ticks_may_look_alike():
    each, alike = diagnostics(), WELL | {"sample_distance": 0.1}
    said = [each.said(alike) for _ in range(EARLY + 3)]
    assert [len(sentences) for sentences in said] == EARLY * [0] + [1, 0, 0]


def test_two_troubles_are_two_sentences_and_a_new_one_is_said_beside_an_old_one():
    each = diagnostics()
    each.said(WELL)
    assert len(each.said(WELL | {"sample_distance": 0.1, "d_loss": 0.001})) == 2
    (said,) = each.said(WELL | {"sample_distance": 0.1, "d_loss": 0.001, "gradient_norm_G": 1e-9})
    assert "gradients of G" in said


ALMOST = [
    {"d_loss": 0.021}, {"real_logits": 7.9, "fake_logits": -7.9}, {"sample_distance": 0.41},
    {"gradient_norm_G": 1.1e-3}, {"gradient_norm_D": 1900.0},
]  # fmt: skip


@pytest.mark.parametrize("almost", ALMOST)
def test_what_is_not_quite_trouble_is_not_said(almost):
    each = diagnostics()
    assert each.said(WELL) == each.said(WELL | almost) == []


def test_logits_of_other_losses_mean_no_certainty():
    each = diagnostics(has_probabilities=False)
    assert each.said(WELL) == each.said(WELL | {"d_loss": -50.0, "real_logits": 100.0, "fake_logits": -100.0}) == []


def test_gradients_that_begin_at_nothing_neither_fade_nor_grow():
    each = diagnostics()
    still = WELL | {"gradient_norm_G": 0.0}
    assert each.said(still) == each.said(WELL) == each.said(still) == []


@pytest.mark.parametrize(
    "statistics",
    [{"sample_distance": float("nan")}, {"gradient_norm_G": float("nan")}, {"gradient_norm_D": float("inf")}],
)
def test_numbers_that_are_not_finite_are_no_error(statistics):
    each = diagnostics()
    each.said(WELL)
    assert len(each.said(WELL | statistics)) <= 1


def test_a_density_has_no_images_to_compare():
    each = diagnostics()
    assert set(each.measure()) == {"gradient_norm_G", "gradient_norm_D"}
    assert each.said({name: value for name, value in WELL.items() if name != "sample_distance"}) == []


# --- the numbers ------------------------------------------------------------------------------------------------------


def gradients(num_steps: int, shapes: tuple = ((3, 5), (7,))) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [[torch.randn(shape, generator=generator) * 2.0**step for shape in shapes] for step in range(num_steps)]


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_the_norm_of_adam_is_that_of_torchs_own_state(num_steps):
    ours = [torch.zeros(3, 5), torch.zeros(7)]
    theirs = [nn.Parameter(torch.zeros(3, 5)), nn.Parameter(torch.zeros(7))]
    optimizer, reference = Adam(ours, 1e-3, 0.5, 0.99, 1e-8), torch.optim.Adam(theirs, 1e-3, (0.5, 0.99))
    for each in gradients(num_steps):
        optimizer.step([gradient.clone() for gradient in each])
        for parameter, gradient in zip(theirs, each, strict=True):
            parameter.grad = gradient
        reference.step()
    squares = sum(state["exp_avg_sq"].double().sum() for state in reference.state.values())
    assert optimizer.gradient_norm().item() == pytest.approx((squares / (1 - 0.99**num_steps)).sqrt().item(), rel=1e-5)
    if num_steps == 1:
        assert optimizer.gradient_norm().item() == pytest.approx(
            torch.cat([each.flatten() for each in gradients(1)[0]]).norm().item(), rel=1e-4
        )


def test_the_norm_of_adam_with_a_beta2_that_changes():
    """The running means weigh past gradients by the product of the betas.

    The optimiser keeps this product.
    """
    optimizer, (first, second) = Adam([torch.zeros(3)], 1e-3, 0.0, 0.5, 1e-8), gradients(2, ((3,),))
    optimizer.step([first[0].clone()])
    optimizer.beta2.fill_(0.9)
    optimizer.step([second[0].clone()])
    mean = 0.9 * 0.5 * first[0].double().square() + 0.1 * second[0].double().square()
    assert optimizer.gradient_norm().item() == pytest.approx((mean.sum() / (1 - 0.5 * 0.9)).sqrt().item(), rel=1e-5)


def test_the_norm_of_rmsprop_is_that_of_torchs_own_state():
    ours, theirs = [torch.zeros(3, 5), torch.zeros(7)], [nn.Parameter(torch.zeros(3, 5)), nn.Parameter(torch.zeros(7))]
    optimizer, reference = RMSprop(ours, 1e-3, 0.9, 1e-8), torch.optim.RMSprop(theirs, 1e-3, 0.9)
    for each in gradients(4):
        optimizer.step([gradient.clone() for gradient in each])
        for parameter, gradient in zip(theirs, each, strict=True):
            parameter.grad = gradient
        reference.step()
    squares = sum(state["square_avg"].sum() for state in reference.state.values())
    assert optimizer.gradient_norm().item() == pytest.approx(squares.sqrt().item(), rel=1e-5)


def test_before_the_first_step_the_norm_is_nothing():
    assert Adam([torch.zeros(3)], 1e-3, 0.5, 0.99, 1e-8).gradient_norm().item() == 0
    assert RMSprop([torch.zeros(3)], 1e-3, 0.9, 1e-8).gradient_norm().item() == 0


@pytest.mark.parametrize("shape", [(2, 3), (7, 2, 4, 4), (64, 1, 8, 8)])
def test_the_mean_distance_is_that_of_all_pairs(shape):
    samples = torch.randn(shape, generator=torch.Generator().manual_seed(1)) + 3
    pairs = [(a - b).double().norm() for i, a in enumerate(samples) for b in samples[:i]]
    assert mean_distance(samples).item() == pytest.approx((sum(pairs) / len(pairs)).item(), rel=1e-4)


def test_one_sample_and_equal_samples_are_no_distance_apart():
    assert mean_distance(torch.randn(1, 3)).item() == 0
    assert mean_distance(torch.ones(5, 3)).item() == pytest.approx(0, abs=1e-3)


def test_what_is_measured():
    """Samples half as far from each other as real images.

    The real images have a batch axis of their own size.
    """
    real = torch.randn(50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    asked = []

    def samples(num):
        asked.append(num)
        return real.repeat(2, 1, 1, 1)[:50] / 2

    optimizers = {f"optimizer_{name}": Adam([torch.zeros(3)], 1e-3, 0.5, 0.99, 1e-8) for name in "GD"}
    optimizers["optimizer_D"].step([torch.tensor([3.0, 4.0, 0.0])])
    measured = Diagnostics(SimpleNamespace(**optimizers), samples, real, True).measure()
    assert measured == {
        "gradient_norm_G": 0.0,
        "gradient_norm_D": pytest.approx(5.0, rel=1e-4),
        "sample_distance": pytest.approx(0.5, rel=1e-4),
    }
    assert asked == [NUM_COMPARED]
