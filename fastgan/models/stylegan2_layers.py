"""Layers of StyleGAN2 (Karras et al., 2020, arXiv 1912.04958).

Equalised learning rate, modulated convolution, statistics of a minibatch.

Equalised learning rate (Karras et al., 2018, arXiv 1710.10196): weights start from N(0, 1) and are
scaled where they are used, so that one learning rate suits all layers.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.nn.layers import OverParts
from fastgan.ops.bias_act import bias_act
from fastgan.ops.conv import conv2d, conv_transpose2d
from fastgan.ops.upfirdn2d import downsample2d, filter2d

ROOT_2 = math.sqrt(2)  # keeps the variance through a leaky ReLU, nearly
GAINS = {"linear": 1.0, "leaky_relu": ROOT_2}
EPS = 1e-8


def in_fp32(x: torch.Tensor) -> torch.autocast:
    """Return a context that keeps small maps of styles and statistics in fp32 in a bf16 step."""
    return torch.autocast(x.device.type, enabled=False)


def wide(x: torch.Tensor) -> torch.Tensor:
    """Return x in fp32, or in fp64 where it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class EqualLinear(nn.Module):
    """act(x W + b), [N, in_features] -> [N, out_features], in fp32 under autocast too.

    It maps vectors, which costs next to nothing.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        act: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ):
        """Initialise weight and bias.

        lr_multiplier: of the learning rate of weight and bias. bias_init: the value of the bias at
        the start.
        """
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.act, self.lr_multiplier = act, lr_multiplier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with in_fp32(x):
            weight = self.weight * (self.lr_multiplier / math.sqrt(self.weight.shape[1]))
            bias = self.bias * self.lr_multiplier
            return bias_act(F.linear(wide(x), weight), bias, act=self.act, gain=GAINS[self.act])

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, act={self.act}, lr_multiplier={self.lr_multiplier}"


class EqualConv(nn.Module):
    """gain * act(conv(x) + b), [N, C, H, W] -> [N, K, H, W].

    With down the result is filtered and halved, [N, K, H / 2, W / 2].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        act: str = "leaky_relu",
        down: bool = False,
        gain: float = 1.0,
    ):
        """Initialise weight and bias. kernel_size: 1 or 3.

        act: leaky_relu with a bias, or linear without one. down: halve the image. gain: of the
        result.
        """
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = None if act == "linear" else nn.Parameter(torch.zeros(out_channels))
        self.act, self.down, self.gain = act, down, gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = 1 / math.sqrt(self.weight[0].numel())
        if self.bias is None:
            return self._convolved(x, self.weight * (scale * self.gain))
        return bias_act(
            self._convolved(x, self.weight * scale), self.bias, act=self.act, gain=GAINS[self.act] * self.gain
        )

    def _convolved(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        size = weight.shape[2]
        if not self.down:
            return conv2d(x, weight, padding=size // 2)
        if size == 1:  # samples that the filter drops need no product
            return conv2d(downsample2d(x), weight)
        return conv2d(filter2d(x, padding=2), weight, stride=2)  # H + 1 samples: the strided one is centred

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, act={self.act}, down={self.down}, gain={self.gain:.3g}"


class StyledConv(nn.Module):
    """Modulated convolution 3x3, noise, bias and leaky ReLU.

    [N, C, H, W] and its modulation -> [N, K, H, W], or doubled.

    The paper scales the weights of every image by its style and normalises them, which is a
    convolution of its own for each image. One convolution of the whole batch gives the same, with
    its input scaled by the style and its result by the norms (demodulation). Both come from
    stylegan2_styles.modulations, where `style` maps w to them.
    """

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, img_resolution: int, up: bool = False):
        """Initialise the parameters. img_resolution: of the result, R x R."""
        super().__init__()
        # The layouts of a transposed convolution and of a plain one
        channels = (in_channels, out_channels) if up else (out_channels, in_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.weight = nn.Parameter(torch.randn(*channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.style = EqualLinear(w_dim, in_channels, bias_init=1.0)
        self.noise = Noise(img_resolution)
        # The equalised learning rate, on N * C styles instead of 9 * C * K weights
        self.up, self.scale = up, 1 / math.sqrt(9 * in_channels)

    def forward(
        self, x: torch.Tensor, style: torch.Tensor, norms: torch.Tensor, noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the layer's output. style: [N, C]. norms: [N, K].

        noise: float32 [N, R * R] in training, elsewhere None.
        """
        y = x * _per_channel(style, x)
        y = self._doubled(y) if self.up else conv2d(y, self.weight, padding=1)
        y = torch.addcmul(self.noise(y, noise), y, _per_channel(norms, y))
        return bias_act(y, self.bias, act="leaky_relu", gain=ROOT_2)

    def _doubled(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the transposed convolution, [N, K, 2H + 1, 2W + 1], then the filter.

        9 products an input pixel, where filtering first would take 36.
        """
        return filter2d(conv_transpose2d(x, self.weight, stride=2), padding=1, gain=4.0)

    def squares(self) -> torch.Tensor:
        """Return squared weights times the squared scale, summed over the taps, [C, K]."""
        squares = self.weight.square().sum((2, 3)) * self.scale**2
        return squares if self.up else squares.T


class Noise(nn.Module):
    """One map of Gaussian noise an image, for all channels, times a learned strength.

    It is random in training, and constant otherwise.
    """

    def __init__(self, img_resolution: int):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(img_resolution, img_resolution))

    def forward(self, x: torch.Tensor, drawn: torch.Tensor | None) -> torch.Tensor:
        """Return the noise to add to x [N, C, H, W], in its dtype.

        [N, 1, H, W] from `drawn` [N, H * W], or [H, W] from the constant noise.
        """
        noise = self.noise_const if drawn is None else drawn.unflatten(1, (1, *x.shape[2:]))
        return (noise * self.strength).to(x.dtype)


class ToImage(nn.Module):
    """The image of one layer of G: modulated convolution 1x1 without demodulation.

    [N, C, H, W] and a style [N, C] -> float32 [N, K, H, W].
    """

    def __init__(self, in_channels: int, img_channels: int, w_dim: int):
        super().__init__()
        self.in_channels, self.scale = in_channels, 1 / math.sqrt(in_channels)
        self.weight = nn.Parameter(torch.randn(img_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(img_channels))
        self.style = EqualLinear(w_dim, in_channels, bias_init=1.0)

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        # The few weights are scaled for each image, not all of x, and a product of matrices reads x
        # once: 2 to 10 times as fast on two Zen4 cores, forward and backward, as scaling x before a
        # convolution.
        img = (self.weight * style.unsqueeze(1)).to(x.dtype) @ x.flatten(2)  # [N, K, C] @ [N, C, H * W]
        return (wide(img) + self.bias.unsqueeze(1)).unflatten(2, x.shape[2:])


class MinibatchStd(OverParts, nn.Module):
    """One appended channel, the variation within a group of images (Karras et al., 2018).

    [N, C, H, W] -> [N, C + 1, H, W]. The channel is the standard deviation over a group of images,
    averaged over all features, one number a group. Groups lie within a part of the batch and have
    the largest size up to `group_size` that divides it; neighbours in the batch are in different
    groups.
    """

    def __init__(self, group_size: int):
        super().__init__()
        self.group_size = group_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        num, _, height, width = x.shape
        of_part = num // self.parts
        size = largest_divisor(of_part, self.group_size)
        groups = wide(x).unflatten(0, (self.parts, size, of_part // size))
        # Torch's own var takes four to ten times as long on a CPU
        variance = (groups - groups.mean(1, keepdim=True)).square().mean(1)
        std = (variance + EPS).sqrt().mean((2, 3, 4)).to(x.dtype)  # [parts, groups]
        return torch.cat([x, std.repeat(1, size).view(num, 1, 1, 1).expand(num, 1, height, width)], 1)


def largest_divisor(num: int, limit: int) -> int:
    """Return the largest divisor of `num` that is at most `limit`."""
    return next(size for size in range(min(num, limit), 0, -1) if num % size == 0)


def normalised(x: torch.Tensor) -> torch.Tensor:
    """Scale every row of [N, F] to a mean square of 1."""
    return x * (x.square().mean(1, keepdim=True) + EPS).rsqrt()


def _per_channel(scale: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Reshape [N, C] to [N, C, 1, 1], in the dtype of x."""
    return scale.to(x.dtype).unsqueeze(2).unsqueeze(3)
