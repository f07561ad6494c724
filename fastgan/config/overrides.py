"""Typed overrides of a configuration, `--set SECTION.KEY=VALUE`, and its way to JSON and back."""
import dataclasses
import difflib
import json
import types
import typing

from fastgan.config.schema import LENGTHS, OPTIONS, SECTIONS, Config
from fastgan.errors import UserError

# Names of version 0.1.0: refused on the command line, and read from files.
RENAMED = {
    "penalty.D_every": "penalty.D_reg_interval",
    "penalty.G_every": "penalty.G_reg_interval",
    "penalty.pl_batch": "penalty.pl_batch_fraction",
    "optim.ema_share": "optim.ema_rampup",
}
BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def to_json(config: Config) -> str:
    """The whole configuration, indented."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_dict(options: dict) -> Config:
    """Make the configuration of what dataclasses.asdict gave, also after a way through JSON.

    Options that are left out have their defaults; those of RENAMED are read by their old names.
    Raises UserError for what asdict cannot have written: another structure, an unknown key, a value
    of another type.
    """
    has_known_keys = isinstance(options, dict) and options.keys() <= {"preset", *SECTIONS}
    if not (has_known_keys and all(isinstance(options.get(section, {}), dict) for section in SECTIONS)):
        raise UserError(f"a configuration holds the name of its preset and the sections {', '.join(SECTIONS)}")
    config = Config(preset=str(options.get("preset", "dcgan")))
    for section in SECTIONS:
        for name, value in options.get(section, {}).items():
            key = RENAMED.get(f"{section}.{name}", f"{section}.{name}")
            config = replace(config, key, checked(value, key))
    return config


def replace(config: Config, key: str, value) -> Config:
    """A copy with `section.name` set to a value of the right type."""
    section, name = find_key(key)
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **{name: value})})


def override(config: Config, assignment: str) -> Config:
    """A copy with a command-line `KEY=VALUE` applied; KEY is `section.name`, or `name` where one
    section alone has it.
    """
    key, separator, text = assignment.partition("=")
    if not separator:
        raise UserError(f"--set {assignment}: write KEY=VALUE, for example --set model.ngf=32")
    key = ".".join(find_key(key.strip()))
    value = _parse(text.strip(), key)
    return replace(without_length(config) if key in LENGTHS and value is not None else config, key, value)


def without_length(config: Config) -> Config:
    """A copy that says nothing about the length of the run, before one of the three ways to say it
    is set.
    """
    return dataclasses.replace(config, run=dataclasses.replace(config.run, epochs=None, kimg=None, steps=None))


def find_key(key: str) -> tuple[str, str]:
    """Return (section, name) of a key, `section.name` or `name` where one section alone has it.

    Raises UserError for an unknown one, with the nearest, and for an old one, with its new name.
    """
    for old, new in RENAMED.items():
        if key in (old, old.split(".")[1]):
            raise UserError(f"the option {key!r} was renamed: {new}")
    matches = [full for full in OPTIONS if full == key or full.split(".")[1] == key]
    if len(matches) == 1:
        section, name = matches[0].split(".")
        return section, name
    if matches:
        raise UserError(f"the option {key!r} is ambiguous: write one of {', '.join(matches)}")
    names = {full.split(".")[1]: full for full in OPTIONS} | {full: full for full in OPTIONS}
    nearest = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
    raise UserError(
        f"there is no option {key!r}; the nearest is {names[nearest[0]]!r} (fastgan train --dry-run lists them all)"
    )


def kind_of(key: str) -> tuple[type, bool]:
    """(type, whether it may be None) of an option; tuple stands for tuple[int, ...]; see member_of."""
    section, name = key.split(".")
    kind = typing.get_type_hints(SECTIONS[section])[name]
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    kind = next(option for option in options if option is not type(None))
    return typing.get_origin(kind) or kind, len(options) > 1


def member_of(key: str) -> type:
    """The type of the numbers of an option that is a tuple: int, or float for data.range."""
    section, name = key.split(".")
    kind = typing.get_type_hints(SECTIONS[section])[name]
    return next(typing.get_args(one)[0] for one in (kind, *typing.get_args(kind)) if typing.get_origin(one) is tuple)


def _wrong_type(key: str, kind: type, value) -> UserError:
    wanted = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        tuple: "two numbers, LOW,HIGH" if key.endswith("data.range") else "whole numbers separated by commas",
    }[kind]
    return UserError(f"{key} takes {wanted}, not {value!r}")


def checked(value, key: str):
    """A value as JSON has it in the type of the option: lists become tuples, whole numbers do for
    floats, nothing else is converted.
    """
    section, name = find_key(key)
    kind, may_be_none = kind_of(f"{section}.{name}")
    if value is None and may_be_none:
        return None
    if kind is tuple and isinstance(value, list | tuple):
        allowed = (int,) if member_of(f"{section}.{name}") is int else (int, float)
        if all(type(number) in allowed for number in value):
            return tuple(value)
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise _wrong_type(key, kind, value)


def _parse(text: str, key: str):
    """`text` of the command line in the type of the option."""
    kind, may_be_none = kind_of(key)
    if may_be_none and text.lower() in ("none", "null", ""):
        return None
    try:
        if kind is bool:
            return BOOLEANS[text.lower()]
        if kind is tuple:
            return tuple(map(member_of(key), text.strip("()[]").replace(",", " ").split()))
        return kind(text)
    except (ValueError, KeyError):
        raise _wrong_type(f"--set {key}", kind, text) from None


def value_of(config: Config, key: str):
    """The value of `section.name`."""
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def in_words(value) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "none" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)
