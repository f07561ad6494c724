"""One row a preset, with the numbers of its source. What a row does not name has the default of schema.py.

Sources: mlp, mlp-tf, mlp-mnist are the fully connected GANs of the usual PyTorch, TensorFlow and notebook tutorials on MNIST (Goodfellow et al.,
2014); gaussian1d is the "50 lines" GAN that learns N(4, 1.25), whose D judges a set of 100 samples at a time (its average and its beta1 are ours:
without them the mean wanders between 3.5 and 5); dcgan is Radford et al., 2015 (arXiv 1511.06434) as in the PyTorch example; wgan is Arjovsky et
al., 2017 (1701.07875); wgan-gp (the residual networks for CIFAR-10), wgan-gp-conv (the convolutional ones) and wgan-gp-64 are Gulrajani et al., 2017
(1704.00028), and acgan is their conditional form (Odena et al., 2017, 1610.09585); cgan is a DCGAN with the class projected into D, spectral
normalisation and the hinge loss (Miyato and Koyama, 2018, 1802.05637), cgan-mlp the first conditional GAN (Mirza and Osindero, 2014, 1411.1784) with
least squares; sngan is Miyato et al., 2018 (1802.05957); stylegan2 is Karras et al., 2020 (1912.04958) in the small configuration of 2006.06676;
biggan (CIFAR-10) and biggan-128 are Brock et al., 2019 (1809.11096); lightweight is Liu et al., 2021 (2101.04775); r3gan and r3gan-cifar are Huang
et al., 2024 (2501.05441). Rows that end in -tiny have the same recipe and narrow networks, for 16x16 and 32x32 images on a CPU (acgan-tiny weighs
the classifier in G with 5 instead of 0.1: 48 and 12 % of its images are of their class after 40 kimg); ring8 and grid25 are points in the plane,
learnt by the plain loss and by WGAN-GP, in fp32, for bf16 has 128 numbers between 1 and 2 and a mode is 0.02 wide. Where a source is open about the
length of a run, the length here is ours.

kimg counts the images that D is shown, so n_critic updates of D for one of G take n_critic batches.
"""
import dataclasses
import difflib

from fastgan.config import (
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    PenaltyConfig,
    RunConfig,
)
from fastgan.errors import UserError

# fmt: off
WGAN_GP = LossConfig("wasserstein", fresh_fakes=True, n_critic=5)
HINGE = LossConfig("hinge", fresh_fakes=True, n_critic=5)
RELATIVISTIC = LossConfig("relativistic", fresh_fakes=True)
POINTS = ModelConfig("points", z_dim=2, G_hidden=(128, 128, 128), D_hidden=(128, 128, 128), D_activation="leaky_relu")

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
        loss=LossConfig(fresh_fakes=True), optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.5, ema_kimg=100),
        data=DataConfig(source="gaussian"), run=RunConfig(batch_size=100, steps=20_000, amp=False)),
    "dcgan": Config(
        model=ModelConfig("dcgan", z_dim=100, ngf=64, ndf=64),
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.5), run=RunConfig(batch_size=64, epochs=10)),
    "dcgan-tiny": Config(
        model=ModelConfig("dcgan", z_dim=100, ngf=16, ndf=16),
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.5, ema_kimg=2), run=RunConfig(batch_size=64, kimg=100)),

    "wgan": Config(
        model=ModelConfig("dcgan", z_dim=100, ngf=64, ndf=64),
        loss=LossConfig("wasserstein", fresh_fakes=True, n_critic=5, n_critic_intro=100, intro_updates=25),
        penalty=PenaltyConfig(clip=0.01),
        optim=OptimConfig("rmsprop", lr_G=5e-5, lr_D=5e-5, beta2=0.99), run=RunConfig(batch_size=64, kimg=8000)),
    "wgan-tiny": Config(
        model=ModelConfig("dcgan", z_dim=100, ngf=16, ndf=16),
        loss=LossConfig("wasserstein", fresh_fakes=True, n_critic=5),
        penalty=PenaltyConfig(clip=0.01),
        optim=OptimConfig("rmsprop", lr_G=2e-4, lr_D=2e-4, beta2=0.99, ema_kimg=5), run=RunConfig(batch_size=64, kimg=300)),
    "wgan-gp": Config(
        model=ModelConfig("resnet", z_dim=128, ngf=128, ndf=128, D_norm="none"), loss=WGAN_GP, penalty=PenaltyConfig(gp_weight=10),
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.0, beta2=0.9, decay="linear", decay_kimg=32_000), run=RunConfig(batch_size=64, kimg=32_000)),
    "wgan-gp-conv": Config(
        model=ModelConfig("conv", z_dim=128, ngf=64, ndf=64), loss=WGAN_GP, penalty=PenaltyConfig(gp_weight=10),
        optim=OptimConfig(lr_G=1e-4, lr_D=1e-4, beta1=0.5, beta2=0.9), run=RunConfig(batch_size=64, kimg=32_000)),
    "wgan-gp-64": Config(
        model=ModelConfig("resnet-stem", z_dim=128, ngf=64, ndf=64, D_norm="layer"), loss=WGAN_GP, penalty=PenaltyConfig(gp_weight=10),
        optim=OptimConfig(lr_G=1e-4, lr_D=1e-4, beta1=0.0, beta2=0.9), run=RunConfig(batch_size=64, kimg=64_000)),
    "wgan-gp-tiny": Config(
        model=ModelConfig("conv", z_dim=64, ngf=16, ndf=16), loss=WGAN_GP, penalty=PenaltyConfig(gp_weight=10),
        optim=OptimConfig(lr_G=5e-4, lr_D=5e-4, beta1=0.0, beta2=0.9, ema_kimg=5), run=RunConfig(batch_size=64, kimg=300)),

    "cgan": Config(
        model=ModelConfig("dcgan", z_dim=100, ngf=64, ndf=64, D_norm="spectral", cond=True), loss=LossConfig("hinge"),
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.0, beta2=0.9), run=RunConfig(batch_size=64, epochs=20)),
    "cgan-mlp": Config(
        model=ModelConfig("mlp", z_dim=100, G_hidden=(128, 256, 512, 1024), D_hidden=(512, 512, 512), cond=True, conditioning="concat"),
        loss=LossConfig("least_squares"), optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.5), run=RunConfig(batch_size=64, epochs=50)),
    "cgan-tiny": Config(
        model=ModelConfig("dcgan", z_dim=64, ngf=16, ndf=16, D_norm="spectral", cond=True), loss=LossConfig("hinge"),
        optim=OptimConfig(lr_G=4e-4, lr_D=4e-4, beta1=0.0, beta2=0.9, ema_kimg=2), run=RunConfig(batch_size=64, kimg=400)),
    "acgan": Config(
        model=ModelConfig("resnet", z_dim=128, ngf=128, ndf=128, D_norm="none", cond=True, conditioning="classifier"),
        loss=LossConfig("wasserstein", fresh_fakes=True, n_critic=5, class_D=1.0, class_G=0.1), penalty=PenaltyConfig(gp_weight=10),
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.0, beta2=0.9, decay="linear", decay_kimg=32_000), run=RunConfig(batch_size=64, kimg=32_000)),
    "acgan-tiny": Config(
        model=ModelConfig("resnet", z_dim=64, ngf=32, ndf=32, D_norm="none", cond=True, conditioning="classifier"),
        loss=LossConfig("wasserstein", fresh_fakes=True, n_critic=2, class_D=1.0, class_G=5.0), penalty=PenaltyConfig(gp_weight=10),
        optim=OptimConfig(lr_G=5e-4, lr_D=5e-4, beta1=0.0, beta2=0.9, ema_kimg=5), run=RunConfig(batch_size=32, kimg=150)),
    "sngan": Config(
        model=ModelConfig("resnet", z_dim=128, ngf=256, ndf=128, D_norm="spectral"), loss=HINGE,
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.0, beta2=0.9, decay="linear", decay_kimg=32_000), run=RunConfig(batch_size=64, kimg=32_000)),
    "sngan-tiny": Config(
        model=ModelConfig("resnet", z_dim=64, ngf=32, ndf=32, D_norm="spectral"), loss=LossConfig("hinge", fresh_fakes=True, n_critic=2),
        optim=OptimConfig(lr_G=2e-4, lr_D=5e-4, beta1=0.0, beta2=0.9, ema_kimg=5), run=RunConfig(batch_size=32, kimg=150)),

    # gamma is 0.0002 R^2 / batch of "auto" for 128x128 images.
    "stylegan2": Config(
        model=ModelConfig("stylegan2", z_dim=512, mapping_layers=2), loss=LossConfig(fresh_fakes=True),
        penalty=PenaltyConfig(r1_gamma=0.1, D_reg_interval=16, pl_weight=2, G_reg_interval=4),
        optim=OptimConfig(lr_G=0.0025, lr_D=0.0025, beta1=0.0, beta2=0.99, ema_kimg=10, ema_rampup=0.05), run=RunConfig(batch_size=32, kimg=25_000)),
    "stylegan2-tiny": Config(
        model=ModelConfig("stylegan2", z_dim=64, w_dim=64, mapping_layers=2, channel_base=512, channel_max=64, D_skips=False),
        loss=LossConfig(fresh_fakes=True),
        penalty=PenaltyConfig(r1_gamma=0.05, D_reg_interval=16, pl_weight=2, G_reg_interval=4),
        optim=OptimConfig(lr_G=0.0025, lr_D=0.0025, beta1=0.0, beta2=0.99, ema_kimg=5, ema_rampup=0.05), run=RunConfig(batch_size=32, kimg=150)),

    "biggan": Config(
        model=ModelConfig("biggan", z_dim=128, ngf=256, ndf=256, cond=True), loss=LossConfig("hinge", fresh_fakes=True, n_critic=4),
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.0, ema_kimg=1386, ema_rampup=0.05), run=RunConfig(batch_size=50, kimg=25_000)),
    "biggan-128": Config(
        model=ModelConfig("biggan", z_dim=120, ngf=96, ndf=96, taper=True, cond=True, attention=64, shared_dim=128),
        loss=LossConfig("hinge", fresh_fakes=True, n_critic=2), penalty=PenaltyConfig(orthogonal=1e-4),
        optim=OptimConfig(lr_G=5e-5, lr_D=2e-4, beta1=0.0, eps=1e-6, ema_kimg=28_390, ema_rampup=0.05),
        run=RunConfig(batch_size=2048, batch_gpu=256, kimg=600_000)),
    "biggan-tiny": Config(
        model=ModelConfig("biggan", z_dim=64, ngf=32, ndf=32, cond=True), loss=LossConfig("hinge", fresh_fakes=True, n_critic=2),
        optim=OptimConfig(lr_G=2e-4, lr_D=5e-4, beta1=0.0, ema_kimg=5, ema_rampup=0.05), run=RunConfig(batch_size=32, kimg=150)),

    "lightweight": Config(
        model=ModelConfig("lightweight", z_dim=256), loss=LossConfig("hinge", hinge_margin=0.8, reconstruction=1.0),
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.5, ema_kimg=5.5), augment=AugmentConfig("diff", "colour,translation"),
        run=RunConfig(batch_size=8, kimg=400)),
    "lightweight-tiny": Config(
        model=ModelConfig("lightweight", z_dim=64, width=0.0625), loss=LossConfig("hinge", hinge_margin=0.8, reconstruction=1.0),
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.5, ema_kimg=2), augment=AugmentConfig("diff", "colour,translation"),
        run=RunConfig(batch_size=16, kimg=100)),

    "r3gan": Config(
        model=ModelConfig("r3gan", z_dim=64, widths=(768, 768, 768, 768, 384), cardinalities=(96, 96, 96, 96, 48), blocks=(2, 2, 2, 2, 2)),
        loss=RELATIVISTIC, penalty=PenaltyConfig(r1_gamma=2.0, r2_gamma=2.0, gamma_end=0.1),
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.0, beta2=0.9, beta2_end=0.99, decay="cosine", decay_kimg=20_000, lr_end=0.25,
                          ema_kimg=500, ema_start_kimg=0.0),
        augment=AugmentConfig("ada", "blit,geometry,colour,cutout", p=0.0, p_end=0.3), run=RunConfig(batch_size=256, kimg=20_000)),
    "r3gan-cifar": Config(
        model=ModelConfig("r3gan", z_dim=64, widths=(768, 768, 768, 768), cardinalities=(96, 96, 96, 96), blocks=(2, 2, 2, 2), cond=True),
        loss=RELATIVISTIC, penalty=PenaltyConfig(r1_gamma=0.05, r2_gamma=0.05, gamma_end=0.1),
        optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.0, beta2=0.9, beta2_end=0.99, decay="cosine", decay_kimg=20_000, lr_end=0.25,
                          ema_kimg=5000, ema_start_kimg=0.0),
        augment=AugmentConfig("ada", "blit,geometry,colour,cutout", p=0.0, p_end=0.55), run=RunConfig(batch_size=512, kimg=200_000)),
    "r3gan-tiny": Config(
        model=ModelConfig("r3gan", z_dim=64, widths=(64, 32, 16, 8), cardinalities=(8, 4, 2, 1), blocks=(1, 1, 1, 1)),
        loss=RELATIVISTIC, penalty=PenaltyConfig(r1_gamma=1.0, r2_gamma=1.0, gamma_end=0.1),
        optim=OptimConfig(lr_G=5e-4, lr_D=5e-4, beta1=0.0, beta2=0.9, beta2_end=0.99, decay="cosine", decay_kimg=150, lr_end=0.25,
                          ema_kimg=5, ema_start_kimg=0.0),
        run=RunConfig(batch_size=32, kimg=150)),

    "ring8": Config(
        model=POINTS, optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.5), data=DataConfig("ring8"),
        run=RunConfig(batch_size=256, steps=10_000, amp=False)),
    "ring8-gp": Config(
        model=POINTS, loss=WGAN_GP, penalty=PenaltyConfig(gp_weight=0.1),
        optim=OptimConfig(lr_G=1e-3, lr_D=1e-3, beta1=0.5, beta2=0.9, decay="linear", decay_kimg=6400, ema_kimg=50),
        data=DataConfig("ring8"), run=RunConfig(batch_size=256, steps=25_000, amp=False)),
    "grid25": Config(
        model=POINTS, optim=OptimConfig(lr_G=2e-4, lr_D=2e-4, beta1=0.5), data=DataConfig("grid25"),
        run=RunConfig(batch_size=256, steps=10_000, amp=False)),
    "grid25-gp": Config(
        model=POINTS, loss=WGAN_GP, penalty=PenaltyConfig(gp_weight=0.1),
        optim=OptimConfig(lr_G=1e-3, lr_D=1e-3, beta1=0.5, beta2=0.9, decay="linear", decay_kimg=12_800, ema_kimg=50),
        data=DataConfig("grid25"), run=RunConfig(batch_size=256, steps=50_000, amp=False)),
}
# fmt: on


def preset(name: str) -> Config:
    """The configuration of a preset; an unknown name is a UserError that suggests the nearest."""
    if name not in PRESETS:
        nearest = difflib.get_close_matches(name.lower(), PRESETS, n=1, cutoff=0.0)[0]
        raise UserError(f"there is no preset {name!r}; the nearest is {nearest!r} (all: {', '.join(PRESETS)})")
    return dataclasses.replace(PRESETS[name], preset=name)
