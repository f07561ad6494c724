"""Gaussian noise inside of a network."""
from typing import NamedTuple

import torch
from torch import nn


class Noise(NamedTuple):
    """The arguments of the GaussianNoise between the layers of a network; std 0 = none."""

    std: float = 0.0
    kimg: float = 0.0


NO_NOISE = Noise()


class GaussianNoise(nn.Module):
    """Adds noise of standard deviation `std` to its input while training; an identity otherwise.

    Salimans et al., 2016 (arXiv 1606.03498), between the layers of a discriminator. kimg: the
    thousands of images over which the noise falls linearly to 0 in training by fastgan; 0 =
    constant. scale: float32 [], the factor of std, which the training step writes.
    """

    def __init__(self, std: float, kimg: float = 0.0):
        super().__init__()
        self.std, self.kimg = std, kimg
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        return x + torch.randn_like(x) * (self.std * self.scale).to(x.dtype)

    def extra_repr(self) -> str:
        return f"std={self.std:g}" + (f", kimg={self.kimg:g}" if self.kimg else "")
