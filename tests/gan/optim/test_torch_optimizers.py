"""Options from torch.optim's optimisers."""
import pytest
import torch
from torch import nn, optim

from fastgan.config.keywords import config_of
from fastgan.errors import UserError
from fastgan.gan.optim.torch_optimizers import is_given, options_from

G, D = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), nn.Linear(2, 1)


def given(kind, network, **values):
    return kind(network.parameters(), **values)


def optim_of(value):
    return config_of(None, "x", options_from(value, G, D)[0]).optim


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (optim.Adam, {"lr": 3e-4, "betas": (0.1, 0.2), "eps": 1e-5, "weight_decay": 0.1},
         {"name": "adam", "beta1": 0.1, "beta2": 0.2, "eps": 1e-5, "weight_decay": 0.1}),
        (optim.AdamW, {"lr": 3e-4}, {"name": "adamw", "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01}),
        (optim.RMSprop, {"lr": 3e-4, "alpha": 0.7, "momentum": 0.5},
         {"name": "rmsprop", "beta2": 0.7, "momentum": 0.5, "weight_decay": 0.0}),
        (optim.SGD, {"lr": torch.tensor(3e-4), "momentum": 0.5}, {"name": "sgd", "momentum": 0.5}),
    ],
)  # fmt: skip
def test_the_values_of_each_kind(kind, values, expected):
    for each in (given(kind, G, **values), (given(kind, G, **values), given(kind, D, **values))):
        taken = optim_of(each)
        assert {name: getattr(taken, name) for name in expected} == expected
        assert (taken.lr_G, taken.lr_D, taken.name_D) == (pytest.approx(3e-4), pytest.approx(3e-4), None)


def test_two_learning_rates_and_two_kinds():
    taken = optim_of((given(optim.Adam, G, lr=1e-4, betas=(0.0, 0.9)), given(optim.SGD, D, lr=1e-2, momentum=0.9)))
    assert (taken.name, taken.name_D, taken.lr_G, taken.lr_D) == ("adam", "sgd", 1e-4, 1e-2)
    assert (taken.beta1, taken.momentum) == (0.0, 0.9)


def test_one_optimiser_with_a_group_for_each_network():
    groups = [{"params": D.parameters(), "lr": 4e-4}, {"params": G.parameters(), "lr": 1e-4}]
    taken = optim_of(optim.Adam(groups))
    assert (taken.lr_G, taken.lr_D) == (1e-4, 4e-4)


def test_the_note_says_what_was_taken_over():
    options, note = options_from(given(optim.Adam, G, lr=1e-4), G, D)
    assert "torch.optim's Adam" in note
    assert "lr_G 0.0001" in note
    assert "moments start anew" not in note
    stepped = given(optim.SGD, D, lr=1e-2, momentum=0.5)
    D(torch.ones(2)).sum().backward()
    stepped.step()
    assert "moments start anew" in options_from(stepped, G, D)[1]


def with_scheduler():
    optimizer = given(optim.Adam, G, lr=1e-4)
    optim.lr_scheduler.StepLR(optimizer, 3)
    return optimizer


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: given(optim.Adagrad, G, lr=1e-3), "torch.optim's Adagrad, which fastgan does not have"),
        (lambda: given(optim.Adam, G, amsgrad=True), "Adam with amsgrad is not offered"),
        (lambda: given(optim.SGD, G, lr=1.0, momentum=0.5, nesterov=True), "SGD with nesterov"),
        (lambda: given(optim.RMSprop, G, centered=True), "RMSprop with centered"),
        (with_scheduler, "a learning rate scheduler is attached to the optimiser of G"),
        (lambda: optim.Adam([{"params": G[0].parameters(), "lr": 1e-3}, {"params": G[1].parameters(), "lr": 1e-4}]),
         "the parameter groups of G differ"),
        (lambda: given(optim.Adam, G[0]), "has 2 of its 4 trained parameters"),
        (lambda: (given(optim.Adam, D), given(optim.Adam, G)), "the optimiser of G has no parameter of it"),
        (lambda: (given(optim.Adam, G, betas=(0.5, 0.9)), given(optim.Adam, D)), "differ in beta1 (0.5 and 0.9)"),
        (lambda: (given(optim.Adam, G), "sgd"), "or a pair of them"),
    ],
)  # fmt: skip
def test_what_fastgan_does_not_have_is_refused(make, words):
    value = make()
    assert is_given(value)
    with pytest.raises(UserError) as caught:
        options_from(value, G, D)
    assert words in str(caught.value)
