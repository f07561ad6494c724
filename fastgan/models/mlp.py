"""Fully connected G and D: for images (Goodfellow et al., 2014) and for samples of a 1-D density."""
import math

import torch
from torch import nn

from fastgan.config import SET_SIZE
from fastgan.layers import linear_stack


class Generator(nn.Module):
    """z [N, z_dim] -> images [N, C, H, W] in [-1, 1] (tanh) or [0, 1] (sigmoid)."""

    def __init__(self, img_shape: tuple[int, int, int], z_dim: int, hidden: tuple[int, ...], activation: str, init: str, tanh: bool):
        super().__init__()
        self.img_shape = img_shape
        self.layers = linear_stack((z_dim, *hidden, math.prod(img_shape)), activation, init)
        self.output = nn.Tanh() if tanh else nn.Sigmoid()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.output(self.layers(z)).view(-1, *self.img_shape)


class Discriminator(nn.Module):
    """Images [N, C, H, W] -> logits [N]."""

    def __init__(self, img_shape: tuple[int, int, int], hidden: tuple[int, ...], activation: str, init: str):
        super().__init__()
        self.layers = linear_stack((math.prod(img_shape), *hidden, 1), activation, init)

    def forward(self, img: torch.Tensor) -> torch.Tensor:
        return self.layers(img.flatten(1)).squeeze(1)


class SampleGenerator(nn.Module):
    """z [N, z_dim] -> samples [N, 1] of a 1-D density, unbounded."""

    def __init__(self, z_dim: int, hidden: tuple[int, ...], activation: str):
        super().__init__()
        self.layers = linear_stack((z_dim, *hidden, 1), activation, "torch")

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.layers(z)


class SampleDiscriminator(nn.Module):
    """Samples [N, 1], N a multiple of 100 -> one logit for every set of 100: [N / 100].

    The set is read beside its squared deviations from its mean, so that its spread is plain to see.
    """

    def __init__(self, hidden: tuple[int, ...], activation: str):
        super().__init__()
        self.layers = linear_stack((2 * SET_SIZE, *hidden, 1), activation, "torch")

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        sets = samples.view(-1, SET_SIZE)
        squared_deviations = (sets - sets.mean(1, keepdim=True)).square()
        return self.layers(torch.cat([sets, squared_deviations], 1)).squeeze(1)
