"""The configuration of a user's own networks: recipes, and every option by its name."""
import pytest

from fastgan.config import OPTIONS, replace, value_of
from fastgan.config.keywords import PAIRS, SINGLE, config_of
from fastgan.config.presets import PRESETS, preset
from fastgan.errors import UserError


def test_a_recipe_gives_everything_but_the_networks():
    ours, recipe = config_of("wgan-gp-tiny", "photos/", {"batch_size": 8}), preset("wgan-gp-tiny")
    assert (ours.model.architecture, ours.model.ngf, ours.data.source) == ("custom", 64, "photos/")
    assert (ours.loss, ours.penalty, ours.optim) == (recipe.loss, recipe.penalty, recipe.optim)
    assert (ours.run.batch_size, ours.run.kimg) == (8, 300)


def test_a_configuration_is_a_recipe_too():
    recipe = replace(preset("r3gan"), "penalty.r1_gamma", 0.5)
    assert config_of(recipe, "x", {}) == config_of("r3gan", "x", {"r1_gamma": 0.5})


def test_what_concerns_any_networks_is_kept():
    assert config_of("mlp-tf", "x", {}).model.z_distribution == "uniform"
    assert config_of("mlp-tf", "x", {}).model.img_low == 0


@pytest.mark.parametrize("key", OPTIONS)
def test_every_option_has_a_keyword(key):
    keyword = next((name for name, option in SINGLE.items() if option == key), key.split(".")[1])
    value = value_of(PRESETS["stylegan2"], key)
    assert value_of(config_of(None, "x", {keyword: value}), key) == value


def test_pairs_set_two_options():
    config = config_of(None, "x", {"lr": (1e-3, 2e-3), "betas": (0.1, 0.2), "class_weight": (3.0, 4.0)})
    assert [value_of(config, key) for keys in PAIRS.values() for key in keys] == [1e-3, 2e-3, 0.1, 0.2, 3.0, 4.0]
    assert config_of(None, "x", {"lr": 1e-3}).optim.lr_D == 1e-3


def test_an_optimiser_for_each_network():
    optim = config_of(None, "x", {"optimizer": ("adam", "sgd")}).optim
    assert (optim.name, optim.name_D) == ("adam", "sgd")
    assert config_of(None, "x", {"optimizer": "adamw"}).optim.name_D is None


def test_classes_and_lengths():
    assert config_of(None, "x", {"c_dim": 3}).model.cond
    run = config_of("mlp", "x", {"steps": 7}).run
    assert (run.steps, run.epochs, run.kimg) == (7, None, None)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"betas": 0.5}, "betas is 0.5; it is a pair of numbers"),
        ({"btch_size": 8}, "no option 'btch_size'; the nearest is 'run.batch_size'"),
        ({"batch_size": "many"}, "run.batch_size takes a whole number, not 'many'"),
        ({"name": "adam"}, "ambiguous"),
    ],
)
def test_what_cannot_be_used(keywords, words):
    with pytest.raises(UserError) as caught:
        config_of(None, "x", keywords)
    assert words in str(caught.value)
