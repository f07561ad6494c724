"""A DCGAN of plain torch layers in 15 lines, trained by Trainer.

Radford et al., 2015, "Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks", arXiv 1511.06434, at 32x32 on the embedded Fashion-MNIST images.
"""
from torch import nn

from _common import main, save_images
from fastgan import Trainer


def up(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(channels_in, channels_out, 4, 2, 1), nn.BatchNorm2d(channels_out), nn.ReLU()]


def down(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, 4, 2, 1), nn.BatchNorm2d(channels_out), nn.LeakyReLU(0.2)]


def make(width: int = 32, batch_size: int = 64, **options) -> Trainer:
    G = nn.Sequential(
        nn.Linear(64, 16 * 4 * width), nn.Unflatten(1, (4 * width, 4, 4)), nn.BatchNorm2d(4 * width), nn.ReLU(),
        *up(4 * width, 2 * width), *up(2 * width, width), nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip
    D = nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2), *down(width, 2 * width), *down(2 * width, 4 * width),
        nn.Conv2d(4 * width, 1, 4),
    )  # fmt: skip
    return Trainer(G, D, "fashion-mnist-10k", loss="non_saturating", z_dim=64, batch_size=batch_size, **options)


def show(trainer: Trainer, path) -> None:
    save_images(trainer.sample(32, seed=0), path, columns=8)


if __name__ == "__main__":
    main(make, show, steps=3000)
