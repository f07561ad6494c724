"""Small systems for the tests of step, engine and trainer.

They have every preset's kind at a size that runs in milliseconds.
"""
import contextlib
import dataclasses

import torch

from fastgan import models
from fastgan.config import Config, is_used, presets, replace
from fastgan.device.precision import Precision
from fastgan.engine.engine import Engine
from fastgan.engine.system import Ladder, Phase, single_phase
from fastgan.gan.inputs import StepInputs
from fastgan.gan.step import update
from fastgan.gan.train_state import TrainState, make_train_state
from fastgan.nn.pair import inspect_pair

CPU = torch.device("cpu")
FP32 = Precision("cpu", torch.float32, "test")
COMPILED = Ladder()

# `dcgan` at 16x16: G has a projection and 2 deconvolutions, D has 2 strided convolutions and its
# head. G runs forward once, D twice: for real and fake images at once, and in G's step. D's weight
# gradients come from its own step alone, which needs none for its images; G's step goes through all
# of D, and not to z.
NO_WASTE = {
    "mm": 1 + 1,  # the projection: forward, weight gradient
    "convolution transposed": 2 + (1 + 2),  # G forward; input gradients of D's strided ones: D's step, G's step
    "convolution": 2 * 2 + 2,  # D forward; input gradients of G's deconvolutions
    "convolution_backward input=False weight=True": 2 + 2,  # D; G
}


# The presets whose step is one phase of two networks without labels or penalties.
PLAIN = ("mlp", "mlp-tf", "mlp-mnist", "gaussian1d", "dcgan")

SMALL = {
    "model.ngf": 8, "model.ndf": 8, "model.img_resolution": 16, "model.img_channels": 1, "model.w_dim": 16,
    "model.channel_base": 128,
    "model.channel_max": 16, "model.mapping_layers": 2, "model.width": 0.03, "run.batch_size": 8, "run.batch_gpu": None,
}  # fmt: skip


def tiny_config(preset: str, **overrides) -> Config:
    """Return a preset with narrow layers on 16x16 images, of 3 classes where it takes any.

    overrides: section__key=value.
    """
    config, small = presets.preset(preset), dict(SMALL)
    model = config.model
    if model.architecture in ("samples", "points"):
        small |= {
            "model.img_resolution": None,
            "model.img_channels": None,
            "run.batch_size": 200 if model.architecture == "samples" else 8,
        }
    if model.cond:
        small |= {"model.c_dim": 3}
    if model.shared_dim:
        small |= {"model.shared_dim": 4, "model.z_dim": 12}
    if model.attention:
        small |= {"model.attention": 8}
    if model.widths:
        small |= {"model.widths": (16, 16, 8), "model.cardinalities": (2, 2, 2), "model.blocks": (1, 1, 1)}
    small = {
        key: value
        for key, value in small.items()
        if is_used(key, model.architecture)
    }
    for key, value in (small | {key.replace("__", "."): value for key, value in overrides.items()}).items():
        config = replace(config, key, value)
    return config


def classes_of(config: Config) -> inspect_pair.Classes:
    return inspect_pair.Classes(config.model.c_dim, classifies=config.loss.class_D > 0)


def tiny_networks(config: Config, seed: int = 0) -> TrainState:
    torch.manual_seed(seed)
    G, D = models.build(config.model)
    signature = inspect_pair.inspect(
        G, D, config.model.z_dim, config.run.batch_size, CPU, classes_of(config)
    )
    return make_train_state(G, D, config, signature, CPU, FP32)


def random_inputs(config: Config, seed: int | torch.Generator = 0) -> StepInputs:
    """Return inputs as the trainer draws them. seed: of fresh numbers, or a source of them."""
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    num, model = config.run.batch_size, config.model
    if model.architecture in ("samples", "points"):
        real_img = torch.randn(num, 1 if model.architecture == "samples" else 2, generator=generator) * 1.25 + 4
    else:
        size = (num, model.img_resolution, model.img_resolution, model.img_channels)
        real_img = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    z = torch.randn(2, num, model.z_dim, generator=generator)
    flips = torch.rand(2, num, 1, generator=generator) if config.loss.flip_labels else None
    noise = torch.randn(3, *real_img.shape, generator=generator) if config.loss.instance_noise else None
    return StepInputs(real_img, z[0], z[1] if config.loss.fresh_fakes else None, flips, noise)


def make_engine(
    config: Config, state: TrainState, precision: Precision = FP32, ladder: Ladder = COMPILED, graphs=None, report=None
) -> Engine:
    """Return an engine whose inputs are random, the same for every engine of the configuration."""
    generator = torch.Generator().manual_seed(7)

    in_precision = dataclasses.replace(state, precision=precision)

    def step(inputs):
        return update(in_precision, inputs)

    def precise_step(inputs):
        return update(state, inputs)

    phase = Phase(
        lambda: random_inputs(config, generator),
        step,
        None if precision.compute_dtype == torch.float32 else precise_step,
    )
    return Engine(
        single_phase(phase, state.tensors(), [generator], state.counters),
        ladder,
        graphs,
        ([] if report is None else report).append,
    )


class SilentProgress:
    """A fastgan.progress.Progress that shows nothing."""

    def message(self, text: str) -> None:
        pass

    def busy(self, *texts: str):
        return contextlib.nullcontext()


def with_loss(config: Config, **changes) -> Config:
    return dataclasses.replace(config, loss=dataclasses.replace(config.loss, **changes))
