"""The configuration of a user's own networks, from a recipe and keyword arguments."""
import dataclasses

from fastgan.config.overrides import checked, find_key, replace, without_length
from fastgan.config.presets import preset
from fastgan.config.schema import LENGTHS, Config, ModelConfig, RunConfig
from fastgan.errors import UserError

# Keywords that are no name of an option, or a name of several: what a user of Trainer writes for them.
SINGLE = {
    "loss": "loss.name",
    "optimizer": "optim.name",  # or a pair of names, for G and D
    "augment": "augment.kind",
    "data_backend": "data.backend",
    "D_every": "penalty.D_reg_interval",
}
PAIRS = {
    "lr": ("optim.lr_G", "optim.lr_D"),
    "betas": ("optim.beta1", "optim.beta2"),
    "class_weight": ("loss.class_D", "loss.class_G"),
}


def config_of(recipe: Config | str | None, source: str, keywords: dict) -> Config:
    """Return the configuration of a run of a user's own networks.

    recipe: a configuration, the name of a preset, or None = the defaults; its networks are left
    out. source: the data, for the records. keywords: options by name, `name` or, where several
    sections have it, `section.name`; and those of SINGLE and PAIRS. Raises UserError for an unknown
    one, and for a value of another type.
    """
    config = _without_networks(preset(recipe) if isinstance(recipe, str) else recipe)
    config = replace(config, "data.source", source)
    for keyword, value in keywords.items():
        for key, each in options_of(keyword, value):
            config = replace(without_length(config) if key in LENGTHS else config, key, checked(each, key))
    return replace(config, "model.cond", True) if config.model.c_dim else config


def keys_of(keyword: str, value: object) -> list[str]:
    """Return the options that a keyword sets, as section.name. Raises UserError for an unknown one."""
    return [key for key, _ in options_of(keyword, value)]


def _without_networks(recipe: Config | None) -> Config:
    """The recipe without the sizes of its networks, but with what of them concerns any networks."""
    if recipe is None:
        return Config(preset="custom", model=ModelConfig("custom", z_dim=1), run=RunConfig(kimg=1))
    model = recipe.model
    kept = ModelConfig("custom", z_dim=1, z_distribution=model.z_distribution, img_low=model.img_low, c_dim=model.c_dim)
    return dataclasses.replace(recipe, preset="custom", model=kept)


def options_of(keyword: str, value) -> list[tuple[str, object]]:
    """Return the options that a keyword of Trainer sets, each with its value.

    Values are not checked here: they may be objects of Python that stand for one.
    """
    if keyword == "optimizer":
        names = value if isinstance(value, tuple | list) else (value, None)
        if len(names) != 2:
            raise UserError(f"optimizer is {value!r}; it is a name, or a pair of names for G and D")
        return list(zip(("optim.name", "optim.name_D"), names, strict=True))
    if keyword in PAIRS:
        values = (value, value) if keyword == "lr" and not isinstance(value, tuple | list) else value
        if not isinstance(values, tuple | list) or len(values) != 2:
            raise UserError(f"{keyword} is {value!r}; it is a pair of numbers")
        return list(zip(PAIRS[keyword], values, strict=True))
    key = SINGLE.get(keyword) or ".".join(find_key(keyword))
    return [(key, value)]
