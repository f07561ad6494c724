"""One row a preset, with the numbers of its source. What a row does not name has the default of config.py.

Sources: mlp, mlp-tf, mlp-mnist are the fully connected GANs of the usual PyTorch, TensorFlow and notebook tutorials on MNIST (Goodfellow et
al., 2014); gaussian1d is the "50 lines" GAN that learns N(4, 1.25), whose D judges a set of 100 samples at a time; dcgan is Radford et al., 2015
(arXiv 1511.06434) as in the PyTorch example. Where a source is open about the length of a run, the length here is ours.
"""
import dataclasses
import difflib

from fastgan.config import Config, DataConfig, LossConfig, ModelConfig, OptimConfig, RunConfig
from fastgan.errors import UserError

# fmt: off
PRESETS = {
    "mlp": Config(
        model=ModelConfig("mlp", z_dim=100, G_hidden=(256,), D_hidden=(256,)),
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.9), run=RunConfig(batch_size=64, epochs=5)),
    "mlp-tf": Config(
        model=ModelConfig("mlp", z_dim=100, z_distribution="uniform", G_hidden=(128,), D_hidden=(128,), img_low=0.0, init="xavier_relu"),
        loss=LossConfig(fresh_fakes=True), optim=OptimConfig(lr_G=1e-3, lr_D=1e-3, beta1=0.9),
        run=RunConfig(batch_size=128, steps=1_000_000, tick_kimg=128, image_ticks=1, grid=16)),
    "mlp-mnist": Config(
        model=ModelConfig("mlp", z_dim=64, G_hidden=(256, 256), D_hidden=(256, 256), D_activation="leaky_relu"),
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.9), run=RunConfig(batch_size=100, epochs=100, image_ticks=1)),
    "gaussian1d": Config(
        model=ModelConfig("samples", z_dim=1, z_distribution="unit_uniform", G_hidden=(50, 50), D_hidden=(50, 50),
                          G_activation="elu", D_activation="elu"),
        loss=LossConfig(fresh_fakes=True), optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.9),
        data=DataConfig(source="gaussian"), run=RunConfig(batch_size=100, steps=20_000)),
    "dcgan": Config(
        model=ModelConfig("dcgan", z_dim=100, ngf=64, ndf=64),
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.5), run=RunConfig(batch_size=64, epochs=10)),
}
# fmt: on


def preset(name: str) -> Config:
    """The configuration of a preset; an unknown name is a UserError that suggests the nearest."""
    if name not in PRESETS:
        nearest = difflib.get_close_matches(name.lower(), PRESETS, n=1, cutoff=0.0)[0]
        raise UserError(f"there is no preset {name!r}; the nearest is {nearest!r} (all: {', '.join(PRESETS)})")
    return dataclasses.replace(PRESETS[name], preset=name)
