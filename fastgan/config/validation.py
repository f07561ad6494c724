"""The checks of a configuration: each option by itself, and options that do not go together.

Every refusal names the option.
"""
import dataclasses
import re

from fastgan.config.overrides import from_dict, value_of
from fastgan.config.schema import DCGAN_RESOLUTIONS, DENSITIES, NORMS, OPTIONS, SET_SIZE, Config, ModelConfig, is_used
from fastgan.errors import UserError

# Architecture -> the densities that it can learn
DENSITY_OF = {"samples": ("gaussian",), "points": ("ring8", "grid25")}
# architecture -> the normalisations that its D can have; the others' is a part of the recipe
D_NORMS = {
    "dcgan": NORMS,
    "resnet": ("none", "batch", "instance", "layer", "spectral"),
    "resnet-stem": ("none", "batch", "instance", "layer"),
}
# Architectures that can be told classes otherwise than by projection.
CONDITIONING = {"concat": ("dcgan", "mlp"), "classifier": ("resnet",)}


def validate(config: Config) -> Config:
    """Return the configuration, or raise a UserError that names the option.

    What depends on machine or data is checked where these are looked at.
    """
    config = from_dict(dataclasses.asdict(config))  # every value has its type, from whichever side it came
    _check_each_option(config)
    model, run = config.model, config.run
    check_device(run.device)
    if not config.data.source:
        raise UserError("--data is empty; give the name of a set or the path of images")
    if sum(length is not None for length in (run.epochs, run.kimg, run.steps)) != 1:
        raise UserError("give exactly one of --kimg, --epochs and --steps")
    _check_networks(config)
    if model.architecture in DENSITY_OF or config.data.source in DENSITIES:
        _check_density(config)
    _check_updates(config)
    _check_conditions(config)
    low_high = config.data.range
    if low_high is not None and (len(low_high) != 2 or low_high[0] >= low_high[1]):
        raise UserError(f"data.range is {', '.join(map(str, low_high))}; it must be LOW,HIGH with LOW below HIGH")
    if config.data.random_crop < 1 and config.data.backend != "dali":
        raise UserError(
            "data.random_crop cuts squares out of the images at their full size, which only --data-backend dali has"
        )
    return config


def check_device(name: str | None) -> None:
    """Raises UserError for what is no name of a device. None: whatever there is."""
    if name is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(f"--device {name!r} is not supported; give cpu, cuda, or cuda:1 for the second GPU")


def _check_each_option(config: Config) -> None:
    for key, option in OPTIONS.items():
        problem = option.problem(key, value_of(config, key))
        if problem is not None:
            raise UserError(problem)


def _check_networks(config: Config) -> None:
    """Check the networks: values that an architecture does not have, and options of others."""
    model, architecture = config.model, config.model.architecture
    for key, option in OPTIONS.items():
        name = key.removeprefix("model.")
        is_left_alone = is_used(key, architecture) or getattr(model, name) == getattr(ModelConfig, name)
        if not is_left_alone and not key.endswith("_norm"):
            raise UserError(
                f"{key} is for {', '.join(option.used_by)}, and has no effect on {architecture}: leave it out"
            )
    if architecture == "dcgan" and model.img_resolution not in (None, *DCGAN_RESOLUTIONS):
        raise UserError(
            f"--resolution {model.img_resolution} is not one of dcgan's: {', '.join(map(str, DCGAN_RESOLUTIONS))}"
        )
    if model.img_low != -1 and not (architecture == "custom" or (architecture == "mlp" and not model.cond)):
        raise UserError(
            f"model.img_low must be -1 for {architecture}{' with --cond' if model.cond else ''}, whose G makes images "
            "around 0"
        )
    if model.G_norm != "batch" and architecture != "dcgan":
        raise UserError(f"model.G_norm is for dcgan: {architecture} has the normalisation of its recipe, leave it out")
    if architecture in D_NORMS and model.D_norm not in D_NORMS[architecture]:
        raise UserError(
            f"model.D_norm is {model.D_norm!r}; that of {architecture} can be {', '.join(D_NORMS[architecture])}"
        )
    if model.D_norm != "batch" and architecture not in D_NORMS:
        raise UserError(
            f"model.D_norm is for {', '.join(D_NORMS)}: {architecture} has the normalisation of its recipe, leave it "
            "out"
        )
    if model.conditioning != "projection" and architecture not in CONDITIONING[model.conditioning]:
        known = " and ".join(CONDITIONING[model.conditioning])
        raise UserError(f"model.conditioning={model.conditioning} is for {known}, and this is {architecture}")
    if config.penalty.pl_weight and architecture != "stylegan2":
        raise UserError(
            f"penalty.pl_weight is the path length of styles, which stylegan2 alone has, and this is {architecture}"
        )
    if config.loss.reconstruction and architecture != "lightweight":
        raise UserError(
            f"loss.reconstruction is for a D with decoders, which lightweight alone has, and this is {architecture}"
        )


def _check_updates(config: Config) -> None:
    """Losses, penalties, schedules and the parts of a batch."""
    loss, penalty, optim, run = config.loss, config.penalty, config.optim, config.run
    if bool(loss.n_critic_intro) != bool(loss.intro_updates):
        raise UserError(
            "loss.n_critic_intro and loss.intro_updates belong together: so many updates of D for each of so many "
            "updates of G"
        )
    if run.deterministic and run.autotune:
        raise UserError(
            "--autotune lets the compiler choose kernels by their speed, which --deterministic forbids: leave one of "
            "them out"
        )
    if run.batch_gpu is not None and run.batch_size % run.batch_gpu:
        raise UserError(f"--batch-gpu {run.batch_gpu} does not divide --batch-size {run.batch_size}")
    for key in ("penalty.gamma_end", "optim.beta2_end", "optim.ema_start_kimg", "augment.p_end"):
        if value_of(config, key) not in (None, 1.0) and not optim.decay_kimg:
            raise UserError(f"{key} needs optim.decay_kimg, the thousands of images over which it is reached")
    if optim.decay != "none" and not optim.decay_kimg:
        raise UserError(
            f"optim.decay={optim.decay} needs optim.decay_kimg, the thousands of images over which the learning rate "
            "falls"
        )
    if optim.name == "rmsprop" and (optim.beta2_end is not None or _is_lazy(config)):
        raise UserError(
            "optim.beta2_end and penalties in steps of their own (penalty.D_reg_interval, pl_weight) need "
            "optim.name=adam, not rmsprop"
        )
    if (optim.ema_start_kimg is not None or optim.ema_rampup is not None) and optim.ema_kimg is None:
        raise UserError(
            "optim.ema_start_kimg and optim.ema_rampup need a moving average: give its half-life, optim.ema_kimg"
        )
    if loss.name == "relativistic" and (loss.smooth_real or loss.smooth_fake or loss.flip_labels):
        raise UserError("the relativistic loss compares real with fake images and has no labels to smooth or flip")
    if loss.hinge_margin < 1 and loss.name != "hinge":
        raise UserError(f"loss.hinge_margin needs loss.name=hinge, not {loss.name}")
    if penalty.D_reg_interval > 1 and not (penalty.gp_weight or penalty.r1_gamma or penalty.r2_gamma):
        raise UserError(
            "penalty.D_reg_interval needs a penalty of D: give gp_weight, r1_gamma or r2_gamma"
        )
    if loss.reconstruction and (penalty.r1_gamma or penalty.r2_gamma) and penalty.D_reg_interval == 1:
        raise UserError(
            "loss.reconstruction and r1_gamma or r2_gamma do not share a pass of D: give penalty.D_reg_interval above 1"
        )


def _is_lazy(config: Config) -> bool:
    return config.penalty.D_reg_interval > 1 or config.penalty.pl_weight > 0


def _check_conditions(config: Config) -> None:
    """Classes, and what is done to images."""
    model, loss = config.model, config.loss
    if model.c_dim and not model.cond:
        raise UserError(f"model.c_dim is {model.c_dim}, but the run is unconditional: give --cond as well")
    if (loss.class_D or loss.class_G) and not model.cond:
        raise UserError("loss.class_D and loss.class_G train an auxiliary classifier, which needs labels: give --cond")
    if loss.class_G and not loss.class_D:
        raise UserError("loss.class_G needs the classifier that loss.class_D trains: give loss.class_D as well")
    if config.augment.kind != "none" and (model.architecture in DENSITY_OF or model.img_low != -1):
        raise UserError("augment.kind needs images from -1 to 1: leave it out")


def _check_density(config: Config) -> None:
    """Networks for numbers and densities, which have neither pixels nor epochs nor labels, belong
    to each other.
    """
    model, data, run = config.model, config.data, config.run
    if model.architecture not in DENSITY_OF:
        raise UserError(
            f"the data {data.source!r} are numbers, not images; take --preset gaussian1d or --preset ring8, or other "
            "--data"
        )
    if data.source not in DENSITY_OF[model.architecture]:
        numbers = "the numbers of a Gaussian" if model.architecture == "samples" else "points in the plane"
        raise UserError(
            f"{config.preset} learns {numbers} and takes no --data {data.source}; leave it out, or take another "
            "--preset"
        )
    if model.architecture == "samples" and run.batch_size % SET_SIZE:
        raise UserError(
            f"--batch-size {run.batch_size} is not a multiple of {SET_SIZE}, the number of samples that D of "
            f"{config.preset} takes together"
        )
    if model.architecture == "samples" and (run.batch_gpu or 0) % SET_SIZE:
        raise UserError(
            f"--batch-gpu {run.batch_gpu} is not a multiple of {SET_SIZE}, the number of samples that D of "
            f"{config.preset} takes together"
        )
    if run.epochs is not None:
        raise UserError(
            f"--epochs needs a finite data set, and {config.preset} draws samples without end; give --kimg or --steps"
        )
    for name, given in (
        ("--resolution", model.img_resolution),
        ("model.img_channels", model.img_channels),
        ("--skip-bad", data.skip_bad),
        ("--mirror", data.mirror),
        ("--cond", model.cond),
        ("loss.flip_labels", model.architecture == "samples" and config.loss.flip_labels),
    ):
        if given:
            raise UserError(f"{name} needs images, and {config.preset} learns numbers; leave it out")
