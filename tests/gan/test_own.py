"""What a caller of Trainer gives as Python objects: losses, functions of kimg, optimisers."""
import math

import pytest
import torch
from torch import nn

from fastgan.config.keywords import config_of
from fastgan.errors import UserError
from fastgan.gan.losses import num_arguments
from fastgan.gan.own import SMALLEST, take_own


def d_loss(real, fake):
    return (fake - real).mean()


def g_loss(fake):
    return -fake.mean()


class WithOptions(nn.Module):
    def forward(self, fake, real, weight=1.0):
        return weight * (real - fake).mean()


def taken(logits=None, **keywords):
    return take_own(keywords, logits, nn.Linear(2, 2), nn.Linear(2, 1))


def test_names_and_numbers_stay_as_they_are():
    plain, own = taken(loss="hinge", lr=1e-3, n_critic=2, betas=(0.1, 0.2))
    config = config_of(None, "x", plain)
    assert (own.losses, own.schedules, own.notes) == (None, {}, ())
    assert (config.loss.name, config.optim.lr_G, config.optim.lr_D, config.loss.n_critic) == ("hinge", 1e-3, 1e-3, 2)
    assert (config.optim.beta1, config.optim.beta2) == (0.1, 0.2)


def test_a_pair_of_losses_is_noted():
    plain, own = taken(loss=(d_loss, g_loss))
    assert config_of(None, "x", plain).loss.name == "custom"
    assert (own.losses.d_loss, own.losses.g_loss, own.losses.compares) == (d_loss, g_loss, False)
    assert "d_loss of D, g_loss of G" in own.notes[0]


@pytest.mark.parametrize(
    ("function", "num"),
    [(g_loss, 1), (d_loss, 2), (lambda fake, real=None: fake, 1), (WithOptions(), 2), (lambda *outs: 0, 0), (max, 1)],
)
def test_the_real_output_is_for_a_loss_with_two_arguments(function, num):
    assert num_arguments(function) == num
    assert taken(loss=(d_loss, function))[1].losses.compares == (num == 2)


def test_a_function_of_kimg_stands_for_a_number():
    plain, own = taken(lr=lambda kimg: 2e-4 * torch.clamp(1 - kimg / 100, min=0), r1_gamma=lambda kimg: kimg / 10)
    config = config_of(None, "x", plain)
    assert set(own.schedules) == {"optim.lr_G", "optim.lr_D", "penalty.r1_gamma"}
    assert (config.optim.lr_G, config.optim.lr_D) == pytest.approx((2e-4, 2e-4))
    assert config.penalty.r1_gamma == SMALLEST  # 0 would mean that it is not used


def test_one_of_two_learning_rates_may_be_a_function():
    plain, own = taken(lr=(lambda kimg: 1e-3, 2e-3))
    assert list(own.schedules) == ["optim.lr_G"]
    assert config_of(None, "x", plain).optim.lr_D == 2e-3


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"loss": d_loss}, "a pair of functions"),
        ({"loss": (d_loss, "hinge")}, "a pair of functions"),
        ({"logits": max}, "give loss=(d_loss, g_loss) as well"),
        ({"batch_size": lambda kimg: 8}, "run.batch_size takes no function: schedules are for optim.lr_G"),
        ({"lr": lambda kimg: 1e-3 if kimg < 5 else 1e-4}, "torch operations of the tensor kimg"),
        ({"lr": lambda kimg: 1e-3 * math.cos(kimg)}, "torch operations of the tensor kimg"),
        ({"lr": lambda kimg: 1e-3 * min(1, kimg / 9)}, "torch operations of the tensor kimg"),
        ({"lr": lambda: 1e-3}, "cannot be traced (TypeError)"),
        ({"lr": lambda kimg: torch.stack([kimg, kimg])}, "it must give one number"),
        ({"lr": lambda kimg: kimg - 1}, "gives -1.0 at 0 kimg"),
        ({"gp_weight": lambda kimg: 1 / kimg}, "gives inf at 0 kimg"),
        ({"optimizer": ("adam", "sgd", "lion")}, "a pair of names"),
    ],
)
def test_what_cannot_be_used_is_said(keywords, words):
    with pytest.raises(UserError) as caught:
        taken(**keywords)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"lr": lambda kimg: 1e-3, "decay": "linear", "decay_kimg": 5.0}, 'give decay="none" and warmup_kimg=0'),
        ({"lr": (lambda kimg: 1e-3, 1e-3), "warmup_kimg": 5.0}, "optim.lr_G follows a function and a named schedule"),
        ({"r2_gamma": lambda kimg: 1.0, "gamma_end": 0.1, "decay_kimg": 5.0}, "give gamma_end=1"),
    ],
)
def test_a_value_has_one_schedule(keywords, words):
    plain, own = taken(**keywords)
    with pytest.raises(UserError) as caught:
        own.check(config_of(None, "x", plain))
    assert words in str(caught.value)


def test_optimisers_by_name():
    config = config_of(None, "x", taken(optimizer=("adam", "sgd"), momentum=0.5)[0])
    assert (config.optim.name, config.optim.name_D, config.optim.momentum) == ("adam", "sgd", 0.5)
    assert config_of(config, "x", taken(optimizer="lion")[0]).optim.name_D is None


def test_a_keyword_beside_an_optimiser_of_torch_wins():
    G = nn.Linear(2, 2)
    keywords = {"optimizer": torch.optim.Adam(G.parameters(), lr=3e-4), "lr": 1e-3}
    plain, own = take_own(keywords, None, G, nn.Linear(2, 1))
    config = config_of(None, "x", plain)
    assert (config.optim.lr_G, config.optim.beta1) == (1e-3, 0.9)
    assert "Adam are taken over" in own.notes[0]
