"""DCGAN (Radford et al., 2015, arXiv 1511.06434) for square images of 16, 32, 64 or 128 pixels."""
import math

import torch
from torch import nn

from fastgan.layers import SLOPES, Deconv, Head, Projection, StridedConv, dcgan_init


class Generator(nn.Sequential):
    """z [N, z_dim] -> images [N, img_channels, R, R] in [-1, 1].

    1x1 -> 4x4 by a transposed convolution (4,1,0), then doubled by transposed convolutions (4,2,1); BatchNorm and ReLU between, tanh at the end.
    """

    def __init__(self, img_resolution: int, img_channels: int, z_dim: int = 100, ngf: int = 64):
        widths = _widths(img_resolution, ngf)[::-1]
        blocks = [_up_block(Projection(z_dim, widths[0]))]
        blocks += [_up_block(Deconv(fan_in, fan_out)) for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True)]
        super().__init__(*blocks, nn.Sequential(Deconv(widths[-1], img_channels, act="tanh")))
        dcgan_init(self)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return super().forward(z.reshape(z.shape[0], -1, 1, 1))


class Discriminator(nn.Sequential):
    """Images [N, img_channels, R, R] -> logits [N].

    Halved by convolutions (4,2,1) down to 4x4, then (4,1,0) to one logit; LeakyReLU 0.2, BatchNorm from the second layer.
    """

    def __init__(self, img_resolution: int, img_channels: int, ndf: int = 64):
        widths = _widths(img_resolution, ndf)
        first = nn.Sequential(StridedConv(img_channels, widths[0]), nn.LeakyReLU(0.2))
        blocks = [_down_block(fan_in, fan_out) for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True)]
        last = blocks.pop()[:-1]  # its activation is in the head
        super().__init__(first, *blocks, last, Head(nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False), SLOPES["leaky_relu"]))
        dcgan_init(self)

    @property
    def head(self) -> Head:
        return self[-1]

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """Images -> what the head takes, [N, C, 4, 4]."""
        for block in list(self)[:-1]:
            img = block(img)
        return img

    def forward(self, img: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(img))


def _widths(img_resolution: int, base: int) -> list[int]:
    """Channels from the finest hidden layer to the 4x4 one: base, 2 base, 4 base ..."""
    return [base << level for level in range(int(math.log2(img_resolution)) - 2)]


def _up_block(layer: Projection | Deconv) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU())


def _down_block(fan_in: int, fan_out: int) -> nn.Sequential:
    return nn.Sequential(StridedConv(fan_in, fan_out), nn.BatchNorm2d(fan_out), nn.LeakyReLU(0.2))
