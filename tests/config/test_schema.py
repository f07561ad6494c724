"""Overrides, validation, and the way to JSON and back."""
import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.config import SECTIONS, Config, find_key, from_dict, override, replace, to_json
from fastgan.config.presets import PRESETS, preset
from fastgan.config.validation import validate
from fastgan.errors import UserError

KEYS = [f"{section}.{field.name}" for section, kind in SECTIONS.items() for field in dataclasses.fields(kind)]


def value_of(config: Config, key: str):
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def type_of(key: str) -> str:
    """The annotation as written, for example `float | None`."""
    section, name = key.split(".")
    return str(next(field.type for field in dataclasses.fields(SECTIONS[section]) if field.name == name))


TEXTS = {
    "int": st.integers(1, 10**6),
    "float": st.floats(1e-9, 1e9),
    "bool": st.booleans(),
    "str": st.sampled_from(["adam", "mnist", "a folder/with spaces", "ü"]),
    "tuple": st.lists(st.integers(1, 4096), max_size=4).map(lambda widths: ",".join(map(str, widths))),
}


@st.composite
def assignments(draw) -> str:
    key = draw(st.sampled_from(KEYS))
    kind = type_of(key).replace("<class '", "").replace("'>", "")
    may_be_none = "None" in kind
    if may_be_none and draw(st.booleans()):
        return f"{key}=none"
    return f"{key}={draw(TEXTS[kind.split(' ')[0].split('[')[0]])}"


@settings(deadline=None)
@given(st.sampled_from(list(PRESETS)), st.lists(assignments(), max_size=6))
def test_json_and_back_is_the_same_configuration(name, given_assignments):
    config = preset(name)
    for assignment in given_assignments:
        config = override(config, assignment)
    assert from_dict(json.loads(to_json(config))) == config
    assert from_dict(dataclasses.asdict(config)) == config


@pytest.mark.parametrize("key", KEYS)
def test_every_option_is_reached_by_its_name(key):
    kind = type_of(key)
    text, expected = (
        ("7, 8", (7, 8))
        if "tuple" in kind
        else ("yes", True)
        if "bool" in kind
        else ("7", "7")
        if "str" in kind
        else ("7", 7)
    )
    assert value_of(override(Config(), f"{key}={text}"), key) == expected
    assert value_of(override(Config(), f" {key} = {text} "), key) == expected


def test_an_unambiguous_name_needs_no_section():
    assert override(Config(), "ngf=8").model.ngf == 8
    assert find_key("lr_G") == ("optim", "lr_G")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("name=adam", "'name' is ambiguous: write one of loss.name, optim.name"),
        ("lr=1", "no option 'lr'; the nearest is 'optim.lr_"),
        ("penalty.D_every=4", "the option 'penalty.D_every' was renamed: penalty.D_reg_interval"),
        ("ema_share=0.1", "was renamed: optim.ema_rampup"),
        ("modl.ngf=8", "no option 'modl.ngf'; the nearest is 'model.ngf'"),
        ("model.ngf", "write KEY=VALUE"),
        ("=3", "no option ''"),
        ("model.ngf=1.5", "model.ngf takes a whole number, not '1.5'"),
        ("model.ngf=none", "model.ngf takes a whole number"),
        ("optim.lr_G=fast", "optim.lr_G takes a number, not 'fast'"),
        ("optim.ema_kimg=often", "optim.ema_kimg takes a number"),
        ("run.amp=perhaps", "run.amp takes true or false, not 'perhaps'"),
        ("model.G_hidden=12,wide", "model.G_hidden takes whole numbers separated by commas"),
    ],
)
def test_an_override_that_cannot_be_used(assignment, words):
    with pytest.raises(UserError) as caught:
        override(Config(), assignment)
    assert words in str(caught.value)


def test_a_length_takes_the_place_of_the_presets():
    for assignment in ("run.kimg=3", "steps=3", "epochs=3"):
        config = validate(override(preset("mlp-tf"), assignment))
        assert [config.run.kimg, config.run.steps, config.run.epochs].count(3) == 1
    with pytest.raises(UserError, match="exactly one of --kimg, --epochs and --steps"):
        validate(override(preset("mlp"), "epochs=none"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[
            (key, bad)
            for key in ("run.batch_size", "run.grid", "model.z_dim", "model.ngf", "run.image_ticks")
            for bad in (0, -3)
        ],
        *[
            (key, bad)
            for key in ("optim.lr_G", "optim.eps", "optim.ema_kimg", "run.tick_kimg")
            for bad in (0.0, -1.0, math.nan, math.inf)
        ],
        ("data.std", 0.0),
        *[
            (key, bad)
            for key in ("loss.smooth_real", "loss.smooth_fake", "loss.flip_labels")
            for bad in (-0.1, 1.1, math.nan)
        ],
        *[(key, bad) for key in ("optim.beta1", "optim.beta2") for bad in (-0.1, 1.0, math.nan)],
        *[
            (key, bad)
            for key in ("loss.instance_noise", "loss.instance_noise_kimg")
            for bad in (-1.0, math.inf, math.nan)
        ],
        *[("run.seed", bad) for bad in (-1, 2**32, 10**40)],
        *[("run.device", bad) for bad in ("", "gpu", "mps", "cuda:", "cuda:x", "cpu:1")],
        ("run.epochs", math.inf),
        ("model.architecture", "unet"),
        ("model.z_distribution", "cauchy"),
        ("model.img_channels", 2),
        ("data.range", (4095, 0)),
        ("data.range", (0.0,)),
        ("data.range", (0, math.inf)),
        ("model.img_resolution", -32),
        ("model.img_resolution", 48),
        ("model.img_low", -0.5),
        ("model.G_activation", "gelu"),
        ("model.init", "zeros"),
        ("model.D_hidden", (256, 0)),
        ("loss.name", "perceptual"),
        ("optim.name", "adagrad"),
        ("data.source", ""),
        ("data.mean", math.inf),
    ],
)
def test_a_value_out_of_range_is_named(key, value):
    config = preset("dcgan")
    with pytest.raises(UserError) as caught:
        validate(replace(config, key, value))
    flag = {"model.img_resolution": "--resolution", "run.device": "--device", "data.source": "--data"}.get(key, key)
    assert key in str(caught.value) or flag in str(caught.value)


def test_the_ends_of_the_ranges_are_allowed():
    config = preset("dcgan")
    for key, value in [
        ("loss.smooth_real", 0.0),
        ("loss.flip_labels", 1.0),
        ("optim.beta1", 0.0),
        ("run.seed", 2**32 - 1),
        ("run.seed", 0),
        ("run.device", "cuda:11"),
        ("run.device", "cpu"),
        ("model.img_resolution", 16),
        ("model.img_resolution", 128),
    ]:
        assert validate(replace(config, key, value))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.source": "mnist"}, "--data mnist"),
        ({"run.batch_size": 64}, "--batch-size 64 is not a multiple of 100"),
        ({"run.steps": None, "run.epochs": 3}, "--epochs"),
        ({"model.img_resolution": 32}, "--resolution"),
        ({"data.skip_bad": True}, "--skip-bad"),
        ({"loss.flip_labels": 0.1}, "flip_labels"),
    ],
)
def test_what_a_density_has_no_use_for_is_not_ignored(changes, words):
    config = preset("gaussian1d")
    for key, value in changes.items():
        config = replace(config, key, value)
    with pytest.raises(UserError, match=words):
        validate(config)


@pytest.mark.parametrize("name", ["mlp", "dcgan"])
def test_a_density_is_no_data_for_images(name):
    with pytest.raises(UserError, match="take --preset gaussian1d"):
        validate(replace(preset(name), "data.source", "gaussian"))


def test_dcgan_draws_in_the_range_of_tanh():
    assert validate(replace(preset("mlp"), "model.img_low", 0.0))
    with pytest.raises(UserError, match="img_low"):
        validate(replace(preset("dcgan"), "model.img_low", 0.0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "sections model, loss, penalty, optim, augment, data, run"),
        (None, "sections"),
        ({"model": 3}, "sections"),
        ({"modell": {}}, "sections"),
        ({"model": {"ngff": 8}}, "no option 'model.ngff'; the nearest is 'model.ngf'"),
        ({"run": {"batch_size": "64"}}, "run.batch_size takes a whole number, not '64'"),
        ({"run": {"batch_size": 64.0}}, "run.batch_size takes a whole number"),
        ({"run": {"batch_size": True}}, "run.batch_size takes a whole number"),
        ({"run": {"batch_size": None}}, "run.batch_size takes a whole number"),
        ({"run": {"amp": 1}}, "run.amp takes true or false"),
        ({"optim": {"lr_G": "0.1"}}, "optim.lr_G takes a number"),
        ({"model": {"G_hidden": 256}}, "model.G_hidden takes whole numbers"),
        ({"model": {"G_hidden": [256, 1.5]}}, "model.G_hidden takes whole numbers"),
        ({"data": {"source": 3}}, "data.source takes a text"),
    ],
)
def test_a_dict_that_is_no_configuration(options, words):
    with pytest.raises(UserError) as caught:
        from_dict(options)
    assert words in str(caught.value)


def test_what_a_dict_leaves_out_has_its_default():
    assert from_dict({}) == Config()
    assert from_dict({"preset": "mlp", "optim": {"lr_G": 1}}) == replace(Config("mlp"), "optim.lr_G", 1.0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_validating_changes_nothing(name):
    assert validate(preset(name)) is not None
    assert validate(preset(name)) == preset(name)


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["data.backend=disk"], "data.backend is 'disk'"),
        (["run.cuda_graph=maybe"], "run.cuda_graph is 'maybe'"),
        (["run.graph_steps=0"], "run.graph_steps is 0"),
        (["data.backend=dali", "data.random_crop=0"], "data.random_crop is 0.0; it must be above 0"),
        (["data.backend=dali", "data.random_crop=1.5"], "at most 1"),
        (["data.random_crop=0.5"], "which only --data-backend dali has"),
    ],
)
def test_ways_to_feed_and_to_launch_are_checked(assignments, words):
    config = preset("dcgan")
    for assignment in assignments:
        config = override(config, assignment)
    with pytest.raises(UserError, match=words):
        validate(config)


def test_a_density_has_no_mirror():
    with pytest.raises(UserError, match="--mirror needs images"):
        validate(override(preset("gaussian1d"), "data.mirror=true"))
