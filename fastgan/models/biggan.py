"""BigGAN (Brock et al., 2019, arXiv 1809.11096) for square images of 4 * 2^k pixels, with labels.

In its form for 128x128 and in that for CIFAR-10. G takes any z, so truncation of z is left to the
caller.
"""
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.errors import UserError
from fastgan.models.res_blocks import Norm, UpBlock, down_blocks, small_image
from fastgan.nn.layers import BatchNorm2d, ClassProjection
from fastgan.nn.norms import ClassBatchNorm2d, normalise_weights

SPECTRAL_EPS = 1e-6


class Generator(nn.Module):
    """z [N, z_dim], c int64 [N] -> images [N, img_channels, R, R] in [-1, 1].

    c is None where c_dim is 0. widths: of the 4x4 image and of the output of each block, so R is 4
    << (len(widths) - 1); tapered_widths(128, 96) is the paper's. shared_dim: of the one embedding
    of the class that, beside its own part of z, makes gain and bias in every block's BatchNorm;
    then z_dim is a multiple of len(widths), as the 4x4 image has its part too. 0: gain and bias are
    embeddings of the class, and all of z goes into the 4x4 image. attention: the resolution that
    has self-attention, 0 for none. init: orthogonal | normal (standard deviation 0.02). Every
    weight but those of embeddings is spectrally normalised. Raises UserError for a z_dim that
    cannot be cut into parts.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        img_channels: int = 3,
        z_dim: int = 120,
        c_dim: int = 1000,
        shared_dim: int = 128,
        attention: int = 64,
        init: str = "orthogonal",
    ):
        super().__init__()
        if shared_dim and z_dim % len(widths):
            raise UserError(
                f"z_dim {z_dim} cannot be cut into {len(widths)} equal parts, one for every scale of G: take a "
                f"multiple of {len(widths)}"
            )
        self.num_parts = len(widths) if shared_dim else 1
        part_dim = z_dim // self.num_parts
        self.embed = nn.Embedding(c_dim, shared_dim) if c_dim and shared_dim else None
        norm = _conditional_norm(c_dim, part_dim + shared_dim * (self.embed is not None) if shared_dim else 0)

        self.input = nn.Linear(part_dim, widths[0] * 16)
        self.blocks = nn.ModuleList(
            UpBlock(fan_in, fan_out, norm) for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True)
        )
        attended = [attention == 8 << level for level in range(len(self.blocks))]
        self.attentions = nn.ModuleList(
            SelfAttention(width) if is_on else nn.Identity() for width, is_on in zip(widths[1:], attended, strict=True)
        )
        self.output = nn.Sequential(
            BatchNorm2d(widths[-1], "relu"), nn.Identity(), nn.Conv2d(widths[-1], img_channels, 3, padding=1), nn.Tanh()
        )
        _init(self, init)
        normalise_weights(self, "spectral", SPECTRAL_EPS, embeddings=False)

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        first, *parts = z.chunk(self.num_parts, 1)
        x = small_image(self.input(first))
        for block, attention, condition in zip(self.blocks, self.attentions, self._conditions(parts, c), strict=True):
            x = attention(block(x, condition))
        return self.output(x)

    def _conditions(self, parts: list[torch.Tensor], c: torch.Tensor | None) -> Iterable[torch.Tensor | None]:
        """Return the condition of BatchNorm for each block."""
        if not parts:
            return [c] * len(self.blocks)
        if self.embed is None:
            return parts
        embedded = self.embed(c)
        return [torch.cat([embedded, part], 1) for part in parts]


class Discriminator(nn.Module):
    """Images [N, img_channels, R, R], c int64 [N] (None where c_dim is 0) -> logits [N].

    The logit is l(h) + <embed(c), h>, h the sum of the last features. widths: of the output of each
    block; the first num_down of them halve the image. attention: the resolution behind a block that
    has self-attention, 0 for none. init: as for the Generator. Every weight is spectrally
    normalised.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        num_down: int,
        img_resolution: int,
        img_channels: int = 3,
        c_dim: int = 1000,
        attention: int = 64,
        init: str = "orthogonal",
    ):
        super().__init__()
        layers: list[nn.Module] = []
        for index, block in enumerate(down_blocks((img_channels, *widths), num_down, wide=True)):
            layers.append(block)
            if index < num_down and img_resolution >> (index + 1) == attention:
                layers.append(SelfAttention(widths[index]))
        self.layers = nn.Sequential(*layers)
        self.head = ClassProjection(widths[-1], c_dim)
        _init(self, init)
        normalise_weights(self, "spectral", SPECTRAL_EPS)

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        return self.head(F.relu(self.layers(img)).sum((2, 3)), c)


class SelfAttention(nn.Module):
    """Self-attention of every pixel to the 2x2 maxima of all others (Zhang et al., 2019).

    arXiv 1805.08318. [N, C, H, W] -> the same, H and W even. `strength` [] starts at 0: the layer
    as the identity. Matrix products and a softmax, which have gradients of any order; they hold
    N * H * W * (H * W / 4) numbers in memory.
    """

    def __init__(self, num_channels: int):
        super().__init__()
        self.query, self.key = (
            nn.Conv2d(num_channels, num_channels // 8, 1, bias=False),
            nn.Conv2d(num_channels, num_channels // 8, 1, bias=False),
        )
        self.value = nn.Conv2d(num_channels, num_channels // 2, 1, bias=False)
        self.output = nn.Conv2d(num_channels // 2, num_channels, 1, bias=False)
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query = self.query(x).flatten(2)  # [N, C / 8, H W]
        # [N, C / 8 and C / 2, H W / 4]
        key, value = (F.max_pool2d(layer(x), 2).flatten(2) for layer in (self.key, self.value))
        weights = torch.softmax(query.transpose(1, 2) @ key, 2).to(value.dtype)  # [N, H W, H W / 4]
        seen = (weights @ value.transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.strength * self.output(seen)


def _conditional_norm(c_dim: int, condition_dim: int) -> Norm:
    """Return a maker of BatchNorm with a ReLU, by number of channels.

    Its gain and bias are linear in a vector of condition_dim, or embeddings of the class where that
    is 0, or plain without classes.
    """

    def make(num_channels: int) -> nn.Module:
        if condition_dim:
            return ClassBatchNorm2d(
                num_channels, *(nn.Linear(condition_dim, num_channels, bias=False) for _ in range(2))
            )
        if c_dim:
            return ClassBatchNorm2d(num_channels, *(nn.Embedding(c_dim, num_channels) for _ in range(2)))
        return BatchNorm2d(num_channels, "relu")

    return make


def _init(network: nn.Module, init: str) -> None:
    """Draw orthogonal weights (Saxe et al., 2014), or normal ones of standard deviation 0.02.

    Biases are zero.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
            if init == "orthogonal":
                nn.init.orthogonal_(module.weight)
            else:
                nn.init.normal_(module.weight, 0.0, 0.02)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
