"""What a run is made of: frozen dataclasses, typed overrides, validation, to and from JSON.

Every section is flat, so that `--set SECTION.KEY=VALUE` reaches everything and `training_options.json` reads like the command line.
"""
import dataclasses
import difflib
import json
import types
import typing
from dataclasses import dataclass, field

from fastgan.errors import UserError

DCGAN_RESOLUTIONS = (16, 32, 64, 128)


@dataclass(frozen=True)
class ModelConfig:
    """The two networks. Sizes that a preset does not fix come from the data (None)."""

    architecture: str = "dcgan"  # dcgan | mlp | samples (1-D densities) | custom (a user's own networks, from Python)
    z_dim: int = 100
    z_distribution: str = "normal"  # normal: N(0,1) | uniform: U(-1,1) | unit_uniform: U(0,1)
    img_resolution: int | None = None  # pixels a side; None = the data's, at most the preset's own
    img_channels: int | None = None  # 1 or 3; None = the data's
    img_low: float = -1.0  # the value of a black pixel inside the networks; white is 1
    ngf: int = 64  # dcgan: channels of G's last hidden layer
    ndf: int = 64  # dcgan: channels of D's first layer
    G_hidden: tuple[int, ...] = (256,)  # mlp and samples: hidden widths
    D_hidden: tuple[int, ...] = (256,)
    G_activation: str = "relu"  # relu | leaky_relu (slope 0.2) | elu
    D_activation: str = "relu"
    init: str = "torch"  # torch: the layers' own | xavier_relu: N(0, 2/fan_in), zero biases


@dataclass(frozen=True)
class LossConfig:
    """What D and G minimise, and the tricks on D's targets and inputs."""

    name: str = "non_saturating"  # non_saturating | saturating
    fresh_fakes: bool = False  # draw a new z for the G step instead of reusing the D step's fakes
    smooth_real: float = 0.0  # one-sided label smoothing: the target of real images is 1 - smooth_real
    smooth_fake: float = 0.0  # with it, two-sided: the target of fake images is smooth_fake
    flip_labels: float = 0.0  # probability that D is told the wrong label of an image
    instance_noise: float = 0.0  # standard deviation of the Gaussian noise on D's inputs
    instance_noise_kimg: float = 0.0  # the noise falls linearly to 0 over so many kimg; 0 = it stays


@dataclass(frozen=True)
class OptimConfig:
    """The two optimisers and the moving average of G."""

    name: str = "adam"  # adam | rmsprop
    lr_G: float = 2e-4
    lr_D: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999  # rmsprop: its smoothing constant
    eps: float = 1e-8
    ema_kimg: float | None = None  # half-life of the moving average of G; None = no average, samples come from G itself


@dataclass(frozen=True)
class DataConfig:
    """Where real images come from."""

    source: str = "fashion-mnist-10k"  # a name, or the path of a folder, zip, idx, npy or npz
    skip_bad: bool = False  # leave out files that are no images, and list them
    mean: float = 4.0  # source "gaussian": the density to learn
    std: float = 1.25


@dataclass(frozen=True)
class RunConfig:
    """How long, how fast, and what is written down on the way."""

    batch_size: int = 64
    epochs: float | None = None  # exactly one of epochs, kimg and steps is given
    kimg: float | None = None  # thousands of real images shown
    steps: int | None = None  # optimiser updates of G
    seed: int = 0
    amp: bool = True
    compile: bool = True
    device: str | None = None  # cpu | cuda | cuda:1 ...; None = cuda where there is one
    tick_kimg: float | None = None  # interval of the statistics; None = a hundredth of the run
    image_ticks: int = 5  # a grid of samples every so many ticks
    snapshot_ticks: int = 25  # weights and resumable state every so many ticks
    grid: int = 64  # samples in a grid
    tensorboard: bool = False


@dataclass(frozen=True)
class Config:
    """A whole run; `fastgan train --dry-run` prints it and the run folder keeps it."""

    preset: str = "dcgan"
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    run: RunConfig = field(default_factory=RunConfig)


SECTIONS = {section.name: section.default_factory for section in dataclasses.fields(Config) if section.name != "preset"}


def to_json(config: Config) -> str:
    """The whole configuration, indented."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_dict(options: dict) -> Config:
    """The inverse of dataclasses.asdict, for a `training_options.json` that was read; an unknown key is a UserError."""
    config = Config(preset=str(options.get("preset", "dcgan")))
    for section in SECTIONS:
        for key, value in options.get(section, {}).items():
            config = replace(config, f"{section}.{key}", tuple(value) if isinstance(value, list) else value)
    return config


def replace(config: Config, key: str, value) -> Config:
    """A copy with `section.name` set to a value of the right type."""
    section, name = find_key(key)
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **{name: value})})


def override(config: Config, assignment: str) -> Config:
    """A copy with a command-line `KEY=VALUE` applied; KEY is `section.name`, or `name` where one section alone has it."""
    key, separator, text = assignment.partition("=")
    if not separator:
        raise UserError(f"--set {assignment}: write KEY=VALUE, for example --set model.ngf=32")
    section, name = find_key(key.strip())
    kind = typing.get_type_hints(SECTIONS[section])[name]
    return replace(config, f"{section}.{name}", _parse(text.strip(), kind, f"--set {section}.{name}"))


def find_key(key: str) -> tuple[str, str]:
    """(section, name) of a key; an unknown one is a UserError that suggests the nearest."""
    known = [f"{section}.{field_.name}" for section, kind in SECTIONS.items() for field_ in dataclasses.fields(kind)]
    matches = [full for full in known if full == key or full.split(".")[1] == key]
    if len(matches) == 1:
        section, name = matches[0].split(".")
        return section, name
    if matches:
        raise UserError(f"the option {key!r} is ambiguous: write one of {', '.join(matches)}")
    names = {full.split(".")[1]: full for full in known} | {full: full for full in known}
    nearest = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
    raise UserError(f"there is no option {key!r}; the nearest is {names[nearest[0]]!r} (fastgan train --dry-run lists them all)")


def _parse(text: str, kind, flag: str):
    """`text` as a value of the annotated type: int, float, bool, str, tuple[int, ...] or one of these or None."""
    if isinstance(kind, types.UnionType):
        if text.lower() in ("none", "null", ""):
            return None
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    if kind is bool:
        return _parse_bool(text, flag)
    try:
        if typing.get_origin(kind) is tuple:
            return tuple(int(part) for part in text.strip("()[]").replace(",", " ").split())
        return kind(text)
    except ValueError:
        wanted = {int: "a whole number", float: "a number"}.get(kind, "whole numbers separated by commas")
        raise UserError(f"{flag} takes {wanted}, not {text!r}") from None


def _parse_bool(text: str, flag: str) -> bool:
    values = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if text.lower() not in values:
        raise UserError(f"{flag} takes true or false, not {text!r}")
    return values[text.lower()]


def validate(config: Config) -> Config:
    """The same configuration, or a UserError in terms of the flags."""
    model, loss, optim, run = config.model, config.loss, config.optim, config.run
    _one_of("model.architecture", model.architecture, ("dcgan", "mlp", "samples", "custom"))
    _one_of("model.z_distribution", model.z_distribution, ("normal", "uniform", "unit_uniform"))
    _one_of("model.init", model.init, ("torch", "xavier_relu"))
    for name in ("G_activation", "D_activation"):
        _one_of(f"model.{name}", getattr(model, name), ("relu", "leaky_relu", "elu"))
    _one_of("loss.name", loss.name, ("non_saturating", "saturating"))
    _one_of("optim.name", optim.name, ("adam", "rmsprop"))
    _one_of("model.img_channels", model.img_channels, (None, 1, 3))
    _positive(config, "model.z_dim", "model.ngf", "model.ndf", "run.batch_size", "run.image_ticks", "run.snapshot_ticks", "run.grid")
    _positive(config, "optim.lr_G", "optim.lr_D", "optim.eps", "data.std")
    _positive(config, "run.epochs", "run.kimg", "run.steps", "run.tick_kimg", "optim.ema_kimg", "model.img_resolution", optional=True)
    _within(config, 0.0, 1.0, "loss.smooth_real", "loss.smooth_fake", "loss.flip_labels", "optim.beta1", "optim.beta2")
    _within(config, 0.0, float("inf"), "loss.instance_noise", "loss.instance_noise_kimg")
    if any(width < 1 for width in (*model.G_hidden, *model.D_hidden)):
        raise UserError("--set model.G_hidden and model.D_hidden take positive widths")
    if model.architecture == "dcgan" and model.img_resolution not in (None, *DCGAN_RESOLUTIONS):
        raise UserError(f"--resolution {model.img_resolution} is not one of dcgan's: {', '.join(map(str, DCGAN_RESOLUTIONS))}")
    if sum(length is not None for length in (run.epochs, run.kimg, run.steps)) != 1:
        raise UserError("give exactly one of --kimg, --epochs and --steps")
    return config


def _value(config: Config, key: str):
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def _one_of(key: str, value, allowed: tuple) -> None:
    if value not in allowed:
        raise UserError(f"{key} is {value!r}; it can be {', '.join(str(option) for option in allowed if option is not None)}")


def _positive(config: Config, *keys: str, optional: bool = False) -> None:
    for key in keys:
        value = _value(config, key)
        if not (optional and value is None) and not value > 0:
            raise UserError(f"{key} is {value}; it must be above 0")


def _within(config: Config, low: float, high: float, *keys: str) -> None:
    for key in keys:
        if not low <= _value(config, key) <= high:
            raise UserError(f"{key} is {_value(config, key)}; it must lie in [{low:g}, {high:g}]")
