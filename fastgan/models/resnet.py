"""Residual G and D for square images of 4 * 2^k pixels.

WGAN-GP's (Gulrajani et al., 2017, arXiv 1704.00028), SNGAN's (Miyato et al., 2018,
arXiv 1802.05957) and its conditional forms, by class-conditional BatchNorm with projection
(arXiv 1802.05637) or an auxiliary classifier.

Widths are channels; res_blocks.flat_widths and tapered_widths give those of the papers.
"""
import functools

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.models.res_blocks import DownBlock, UpBlock, down_blocks, small_image, tapered_widths, xavier_init
from fastgan.nn.convolutions import Conv2d, ConvTranspose2d
from fastgan.nn.layers import BatchNorm1d, BatchNorm2d, ClassifierHead, ClassProjection
from fastgan.nn.norms import class_batch_norm, normalisation, normalise_weights


class Generator(nn.Module):
    """z [N, z_dim] (and c int64 [N] where c_dim > 0) -> images [N, img_channels, R, R] in [-1, 1].

    widths: of the 4x4 image and of the output of each block, so R is 4 << (len(widths) - 1). c_dim:
    the number of classes where BatchNorm in the blocks depends on them.
    """

    def __init__(self, widths: tuple[int, ...], img_channels: int = 3, z_dim: int = 128, c_dim: int = 0):
        super().__init__()
        norm = (
            functools.partial(class_batch_norm, num_classes=c_dim)
            if c_dim
            else functools.partial(BatchNorm2d, act="relu")
        )
        self.input = nn.Linear(z_dim, widths[0] * 16)
        self.blocks = nn.ModuleList(
            UpBlock(fan_in, fan_out, norm) for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True)
        )
        self.output = nn.Sequential(
            BatchNorm2d(widths[-1], "relu"), nn.Identity(), Conv2d(widths[-1], img_channels, 3, padding=1), nn.Tanh()
        )
        xavier_init(self)

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        x = small_image(self.input(z))
        for block in self.blocks:
            x = block(x, c)
        return self.output(x)


class Discriminator(nn.Module):
    """Images [N, img_channels, R, R] -> logits [N].

    widths: of the output of each block; the first num_down of them halve the image. norm: none |
    layer | spectral (of every weight, no bias at the end). pool: mean | sum of the last features
    over the pixels is h. c_dim: the number of classes where the logit is l(h) + <embed(c), h>, c
    int64 [N]; with `classifier` the result is (logits l(h) [N], class_logits [N, c_dim]) instead,
    and c is ignored.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        num_down: int,
        img_channels: int = 3,
        norm: str = "none",
        pool: str = "mean",
        c_dim: int = 0,
        classifier: bool = False,
    ):
        super().__init__()
        self.pool = pool
        norms = functools.partial(normalisation, "none" if norm == "spectral" else norm)
        self.blocks = nn.Sequential(*down_blocks((img_channels, *widths), num_down, norms))
        make_head = ClassifierHead if classifier else ClassProjection
        self.head = make_head(widths[-1], c_dim, bias=norm != "spectral")
        xavier_init(self)
        if c_dim and not classifier:
            nn.init.xavier_uniform_(self.head.embed.weight)
        if norm == "spectral":
            normalise_weights(self, "spectral")

    def forward(
        self, img: torch.Tensor, c: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        features = F.relu(self.blocks(img))
        return self.head(features.mean((2, 3)) if self.pool == "mean" else features.sum((2, 3)), c)


class StemDiscriminator(nn.Module):
    """Images [N, img_channels, R, R] -> logits [N], WGAN-GP's for 64x64.

    A convolution, halving blocks with layer normalisation, a linear map of the 4x4 features.
    widths: of the convolution and of the output of each block, so R is 4 << (len(widths) - 1).
    """

    def __init__(self, widths: tuple[int, ...], img_channels: int = 3, norm: str = "layer"):
        super().__init__()
        norms = functools.partial(normalisation, norm)
        blocks = [
            DownBlock(fan_in, fan_out, fan_in, norm=norms)
            for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True)
        ]
        stem, last = Conv2d(img_channels, widths[0], 3, padding=1), nn.Linear(16 * widths[-1], 1)
        self.layers = nn.Sequential(stem, *blocks, nn.Flatten(), last, nn.Flatten(0))
        xavier_init(self)

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        return self.layers(img)


# --- without shortcuts: WGAN-GP's plain convolutions for CIFAR-10 -----------------------------------------------------


class ConvGenerator(nn.Module):
    """z [N, z_dim] -> images [N, img_channels, R, R] in [-1, 1].

    Linear to 4x4, then transposed convolutions (5,2,2) with BatchNorm and ReLU. A layer before a
    BatchNorm has no bias, unlike the authors': BatchNorm would subtract it, and it costs a pass
    over the image each way.
    """

    def __init__(self, img_resolution: int = 32, img_channels: int = 3, z_dim: int = 128, ngf: int = 64):
        super().__init__()
        widths = tapered_widths(img_resolution // 2, ngf)
        self.input = nn.Linear(z_dim, widths[0] * 16, bias=False)
        self.input_norm = BatchNorm1d(widths[0] * 16, "relu")
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
            layers += [ConvTranspose2d(fan_in, fan_out, 5, 2, 2, 1, bias=False), BatchNorm2d(fan_out, "relu")]
        self.layers = nn.Sequential(*layers, ConvTranspose2d(widths[-1], img_channels, 5, 2, 2, 1), nn.Tanh())
        _strided_xavier_init(self)

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        return self.layers(small_image(self.input_norm(self.input(z))))


class ConvDiscriminator(nn.Module):
    """Images [N, img_channels, R, R] -> logits [N].

    Convolutions (5,2,2) and LeakyReLU 0.2 down to 4x4, then a linear map.
    """

    def __init__(self, img_resolution: int = 32, img_channels: int = 3, ndf: int = 64):
        super().__init__()
        widths = tapered_widths(img_resolution // 2, ndf)[::-1]
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip((img_channels, *widths[:-1]), widths, strict=True):
            layers += [Conv2d(fan_in, fan_out, 5, 2, 2), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * widths[-1], 1), nn.Flatten(0))
        _strided_xavier_init(self)

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        return self.layers(img)


def _strided_xavier_init(network: nn.Module) -> None:
    """Draw uniform weights of variance 4 / (fan_in + fan_out) in the convolutions.

    A stride of 2 divides the fan of the larger image by 4. Half that variance in the linear maps;
    zero biases (as Gulrajani et al., 2017, did).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            up = isinstance(module, nn.ConvTranspose2d)
            taps = module.weight[0, 0].numel()
            fan_in, fan_out = (
                module.in_channels * taps / (4 if up else 1),
                module.out_channels * taps / (1 if up else 4),
            )
            bound = (12 / (fan_in + fan_out)) ** 0.5
            nn.init.uniform_(module.weight, -bound, bound)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
