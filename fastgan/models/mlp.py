"""Fully connected G and D: images, images by class, samples of a 1-D density, points.

Images: Goodfellow et al., 2014; by class: Mirza and Osindero, 2014.
"""
import math

import torch
from torch import nn

from fastgan.config import SET_SIZE
from fastgan.nn.layers import SLOPES, linear_critic, linear_stack
from fastgan.nn.noise import NO_NOISE, GaussianNoise, Noise

POINT_DIM = 2  # numbers of a point
DROPOUT = 0.4  # in D by class


class Generator(nn.Module):
    """z [N, z_dim] -> images [N, C, H, W] in [-1, 1] (tanh) or [0, 1] (sigmoid)."""

    def __init__(
        self,
        img_shape: tuple[int, int, int],
        z_dim: int,
        hidden: tuple[int, ...],
        activation: str,
        init: str,
        tanh: bool,
    ):
        super().__init__()
        self.img_shape = img_shape
        self.layers = linear_stack((z_dim, *hidden, math.prod(img_shape)), activation, init)
        self.output = nn.Tanh() if tanh else nn.Sigmoid()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.output(self.layers(z)).view(-1, *self.img_shape)


class _Critic(nn.Module):
    """Linear maps, the last of them in a Head; with noise on the inputs of all but the first, plain."""

    def __init__(self, widths: tuple[int, ...], activation: str, init: str, noise: Noise):
        super().__init__()
        self.layers = _noisy(widths, activation, init, noise) if noise.std else linear_critic(widths, activation, init)

    @property
    def head(self) -> nn.Module:
        """The last layer: features -> logits [N], a Head where there is no noise."""
        return self.layers[-1]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, widths[0]] to the input of the head, [N, widths[-1]]."""
        for layer in list(self.layers)[:-1]:
            x = layer(x)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


class Discriminator(_Critic):
    """Images [N, C, H, W] -> logits [N]."""

    def __init__(
        self,
        img_shape: tuple[int, int, int],
        hidden: tuple[int, ...],
        activation: str,
        init: str,
        noise: Noise = NO_NOISE,
    ):
        super().__init__((math.prod(img_shape), *hidden), activation, init, noise)

    def features(self, img: torch.Tensor) -> torch.Tensor:
        return super().features(img.flatten(1))


class ConditionalGenerator(nn.Module):
    """z [N, z_dim], c int64 [N] -> images [N, C, H, W] in [-1, 1].

    Linear maps of z beside the class's embedding of c_dim numbers. LeakyReLU 0.2 behind each hidden
    map, BatchNorm before it from the second on; tanh at the end.
    """

    def __init__(
        self, img_shape: tuple[int, int, int], z_dim: int, c_dim: int, hidden: tuple[int, ...] = (128, 256, 512, 1024)
    ):
        super().__init__()
        self.img_shape = img_shape
        self.embedding = nn.Embedding(c_dim, c_dim)
        widths = (z_dim + c_dim, *hidden)
        layers: list[nn.Module] = []
        for level, (fan_in, fan_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            norms = [nn.BatchNorm1d(fan_out)] if level else []
            layers += [nn.Linear(fan_in, fan_out), *norms, nn.LeakyReLU(SLOPES["leaky_relu"])]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], math.prod(img_shape)), nn.Tanh())

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([z, self.embedding(c)], 1)).view(-1, *self.img_shape)


class ConditionalDiscriminator(nn.Module):
    """Images [N, C, H, W], c int64 [N] -> logits [N].

    Linear maps of the pixels beside the class's embedding of c_dim numbers. LeakyReLU 0.2 behind
    each hidden map, dropout of 0.4 before it from the second on; no normalisation. noise: on the
    inputs of all maps but the first.
    """

    def __init__(
        self,
        img_shape: tuple[int, int, int],
        c_dim: int,
        hidden: tuple[int, ...] = (512, 512, 512),
        noise: Noise = NO_NOISE,
    ):
        super().__init__()
        self.embedding = nn.Embedding(c_dim, c_dim)
        widths = (math.prod(img_shape) + c_dim, *hidden)
        layers: list[nn.Module] = []
        for level, (fan_in, fan_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            dropouts = [nn.Dropout(DROPOUT)] if level else []
            noises = [GaussianNoise(*noise)] if noise.std else []
            layers += [nn.Linear(fan_in, fan_out), *dropouts, nn.LeakyReLU(SLOPES["leaky_relu"]), *noises]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, img: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([img.flatten(1), self.embedding(c)], 1)).squeeze(1)


class SampleGenerator(nn.Module):
    """z [N, z_dim] -> samples [N, 1] of a 1-D density, unbounded."""

    def __init__(self, z_dim: int, hidden: tuple[int, ...], activation: str):
        super().__init__()
        self.layers = linear_stack((z_dim, *hidden, 1), activation, "torch")

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.layers(z)


class SampleDiscriminator(_Critic):
    """Samples [N, 1], N a multiple of 100 -> one logit for every set of 100: [N / 100].

    The set is read beside its squared deviations from its mean, which show its spread.
    """

    def __init__(self, hidden: tuple[int, ...], activation: str, noise: Noise = NO_NOISE):
        super().__init__((2 * SET_SIZE, *hidden), activation, "torch", noise)

    def features(self, samples: torch.Tensor) -> torch.Tensor:
        sets = samples.view(-1, SET_SIZE)
        squared_deviations = (sets - sets.mean(1, keepdim=True)).square()
        return super().features(torch.cat([sets, squared_deviations], 1))


class PointGenerator(nn.Module):
    """z [N, z_dim] -> points [N, 2] of the plane, unbounded."""

    def __init__(self, z_dim: int, hidden: tuple[int, ...], activation: str):
        super().__init__()
        self.layers = linear_stack((z_dim, *hidden, POINT_DIM), activation, "torch")

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.layers(z)


class PointDiscriminator(_Critic):
    """Points [N, 2] -> logits [N], each of its own point alone."""

    def __init__(self, hidden: tuple[int, ...], activation: str, noise: Noise = NO_NOISE):
        super().__init__((POINT_DIM, *hidden), activation, "torch", noise)


def _noisy(widths: tuple[int, ...], activation: str, init: str, noise: Noise) -> nn.Sequential:
    """Make linear maps with activations and noise in between: [N, widths[0]] -> one logit [N]."""
    *hidden, last = linear_stack((*widths, 1), activation, init)
    layers = [layer for pair in zip(hidden[::2], hidden[1::2], strict=True) for layer in (*pair, GaussianNoise(*noise))]
    return nn.Sequential(*layers, last, nn.Flatten(0))
