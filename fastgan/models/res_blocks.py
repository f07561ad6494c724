"""Residual blocks that double or halve an image, as in WGAN-GP, SNGAN and BigGAN.

Gulrajani et al., 2017; Miyato et al., 2018. Every block applies its norms and activations before
its convolutions. The 1x1 convolution of a shortcut commutes with repeating or averaging pixels, and
runs where there are fewer of them.
"""
import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.nn.convolutions import Conv2d
from fastgan.nn.layers import BatchNorm2d, ConvDown, UpConv
from fastgan.nn.norms import ClassBatchNorm2d

Norm = Callable[[int], nn.Module]  # channels -> a normalisation of features


class UpBlock(nn.Module):
    """[N, in_channels, H, W] -> [N, out_channels, 2H, 2W].

    Norm, ReLU, repeated pixels, conv, norm, ReLU, conv, beside a 1x1 conv. norm: makes norm and
    ReLU together, BatchNorm by default; where it makes a ClassBatchNorm2d, forward also takes the
    condition of its gain and bias.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Norm | None = None):
        super().__init__()
        norm = norm or functools.partial(BatchNorm2d, act="relu")
        self.norm1, self.conv1 = norm(in_channels), UpConv(in_channels, out_channels)
        self.norm2, self.conv2 = norm(out_channels), Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        h = self.conv1(_normalised(self.norm1, x, condition))
        h = self.conv2(_normalised(self.norm2, h, condition))
        return h + F.interpolate(self.shortcut(x), scale_factor=2, mode="nearest")


class DownBlock(nn.Module):
    """[N, in_channels, H, W] -> [N, out_channels, H // 2, W // 2], or H x W with down=False.

    Norm, ReLU, conv, norm, ReLU, conv, 2x2 means. hidden_channels: between the two convolutions.
    norm: of features, none by default. first: the block reads an image, so that no norm and ReLU
    come before the first convolution. The shortcut has a 1x1 convolution where the shape changes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        down: bool = True,
        norm: Norm = nn.Identity,
        first: bool = False,
    ):
        super().__init__()
        self.before = nn.Identity() if first else nn.Sequential(norm(in_channels), nn.ReLU())
        self.conv1 = Conv2d(in_channels, hidden_channels, 3, padding=1)
        self.between = nn.Sequential(norm(hidden_channels), nn.ReLU())
        self.conv2 = (
            ConvDown(hidden_channels, out_channels) if down else Conv2d(hidden_channels, out_channels, 3, padding=1)
        )
        self.pool = nn.AvgPool2d(2) if down else nn.Identity()
        self.shortcut = Conv2d(in_channels, out_channels, 1) if down or in_channels != out_channels else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.between(self.conv1(self.before(x)))) + self.shortcut(self.pool(x))


def down_blocks(
    widths: tuple[int, ...], num_down: int, norm: Norm = nn.Identity, wide: bool = False
) -> list[DownBlock]:
    """Make blocks from an image of widths[0] channels through the other widths.

    The first num_down of them halve the image. wide: channels grow in a block's first convolution,
    not in its second.
    """
    pairs = enumerate(zip(widths[:-1], widths[1:], strict=True))
    return [
        DownBlock(fan_in, fan_out, fan_out if wide or index == 0 else fan_in, index < num_down, norm, first=index == 0)
        for index, (fan_in, fan_out) in pairs
    ]


def flat_widths(img_resolution: int, width: int) -> tuple[int, ...]:
    """Return the same width from 4x4 to the full image, as in the generators for CIFAR-10.

    32, 256 -> (256, 256, 256, 256).
    """
    return (width,) * (img_resolution.bit_length() - 2)


def tapered_widths(img_resolution: int, base: int, widest: int = 16) -> tuple[int, ...]:
    """Return widths from 4x4 to the full image, doubled at every halving from `base`.

    They are at most widest * base: 64, 64, 8 -> (512, 512, 256, 128, 64).
    """
    return tuple(base * min(2**level, widest) for level in reversed(range(img_resolution.bit_length() - 2)))


def small_image(features: torch.Tensor) -> torch.Tensor:
    """Return features [N, 16 C] as an image [N, C, 4, 4], in channels_last."""
    return features.unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)


def xavier_init(network: nn.Module) -> None:
    """Draw uniform weights of variance 2 / (fan_in + fan_out), and set biases to zero.

    The variance is twice that in the 3x3 convolutions of blocks (Gulrajani et al., 2017).
    """
    blocks = [module for module in network.modules() if isinstance(module, UpBlock | DownBlock)]
    before_or_behind_relu = {conv for block in blocks for conv in (block.conv1, block.conv2)}
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight, gain=2**0.5 if module in before_or_behind_relu else 1.0)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _normalised(norm: nn.Module, x: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
    return norm(x, condition) if isinstance(norm, ClassBatchNorm2d) else norm(x)
