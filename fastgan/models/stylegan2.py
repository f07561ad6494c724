"""StyleGAN2 (Karras et al., 2020, arXiv 1912.04958) for square images of 8, 16, 32 ... pixels.

Styles, mixing and truncation from Karras et al., 2019 (arXiv 1812.04948), the conditional form and
the small D ("orig") from Karras et al., 2020 (arXiv 2006.06676).
"""
import math
from collections.abc import Sequence

import torch
from torch import nn

from fastgan.errors import UserError
from fastgan.models.stylegan2_layers import EqualConv, EqualLinear, MinibatchStd, StyledConv, ToImage, normalised, wide
from fastgan.models.stylegan2_styles import modulations
from fastgan.ops.upfirdn2d import upsample2d

W_AVG_DECAY = 0.998  # per step


class Generator(nn.Module):
    """z [N, z_dim] (and classes c, int64 [N]) -> images float32 [N, img_channels, R, R].

    Values are about -1 to 1, unbounded. G.mapping turns z into styles, one for every layer;
    G.synthesis turns styles into an image. G(z, c) is both, in training mode with two z mixed.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        z_dim: int = 512,
        w_dim: int = 512,
        c_dim: int = 0,
        channel_base: int = 16384,
        channel_max: int = 512,
        mapping_layers: int = 8,
        style_mixing: float = 0.9,
    ):
        """Build G. A layer of R x R pixels has min(channel_base / R, channel_max) channels.

        c_dim: number of classes, 0 for none. style_mixing: the part of the images in training whose
        finer layers take their styles from a second z.
        """
        super().__init__()
        self.synthesis = Synthesis(img_resolution, img_channels, w_dim, channel_base, channel_max)
        self.mapping = Mapping(z_dim, c_dim, w_dim, mapping_layers, self.synthesis.num_ws)
        self.style_mixing = style_mixing

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        return self.synthesis(self.mixed_styles(z, c) if self.training else self.mapping(z, c))

    def truncated(self, ws: torch.Tensor, psi: float) -> torch.Tensor:
        """Move styles [N, num_ws, w_dim] towards the average style: w_avg + psi * (w - w_avg).

        psi below 1 trades variety for fidelity.
        """
        return self.mapping.w_avg.lerp(ws, psi)

    def mixed_styles(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Return styles [N, num_ws, w_dim] for training.

        With probability `style_mixing` the styles from a random layer on come from another z.
        """
        if self.style_mixing == 0:
            return self.mapping(z, c)
        both = self.mapping(torch.cat([z, torch.randn_like(z)]), None if c is None else torch.cat([c, c]))
        coarse, fine = both.chunk(2)
        num, num_ws = coarse.shape[:2]
        crossover = torch.randint(1, num_ws, (num, 1), device=z.device)
        is_mixed = torch.rand(num, 1, device=z.device) < self.style_mixing
        is_fine = is_mixed & (torch.arange(num_ws, device=z.device) >= crossover)
        return torch.where(is_fine.unsqueeze(2), fine, coarse)


class Mapping(nn.Module):
    """z [N, z_dim] (and classes c, int64 [N]) -> styles [N, num_ws, w_dim], one for all layers.

    `w_avg` [w_dim] follows the mean style in training.
    """

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, num_layers: int, num_ws: int):
        super().__init__()
        self.layers = _LatentLayers(z_dim, c_dim, w_dim, num_layers)
        self.num_ws = num_ws
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        w = self.layers(z, c)
        if self.training:
            with torch.no_grad():
                self.w_avg.lerp_(w.mean(0), 1 - W_AVG_DECAY)
        return w.unsqueeze(1).expand(-1, self.num_ws, -1)


class Synthesis(nn.Module):
    """Styles [N, num_ws, w_dim] -> images float32 [N, img_channels, R, R].

    From a learned 4x4 image two styled convolutions a resolution, the first of which doubles; the
    images of all resolutions add up. Styles go to the convolutions in order; the layer that makes
    the image of a resolution shares the style of the next resolution's first convolution.
    """

    def __init__(self, img_resolution: int, img_channels: int, w_dim: int, channel_base: int, channel_max: int):
        super().__init__()
        widths = _widths(img_resolution, channel_base, channel_max)
        self.const = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.convs = nn.ModuleList([StyledConv(widths[0], widths[0], w_dim, 4)])
        for level, (narrower, width) in enumerate(zip(widths[:-1], widths[1:], strict=True), start=1):
            self.convs.append(StyledConv(narrower, width, w_dim, 4 << level, up=True))
            self.convs.append(StyledConv(width, width, w_dim, 4 << level))
        self.to_images = nn.ModuleList([ToImage(width, img_channels, w_dim) for width in widths])
        self.num_ws = len(self.convs) + 1

    def forward(self, ws: torch.Tensor) -> torch.Tensor:
        convs, to_images = self._modulations(ws)
        noises = self._noises(ws)
        x = self.convs[0](self.const, *convs[0], noises[0])
        img = self.to_images[0](x, to_images[0])
        for level, to_image in enumerate(self.to_images[1:], start=1):
            for layer in (2 * level - 1, 2 * level):
                x = self.convs[layer](x, *convs[layer], noises[layer])  # [N, C, 4 << level, 4 << level]
            img = upsample2d(img) + to_image(x, to_images[level])
        return img

    def _modulations(self, ws: torch.Tensor) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], list[torch.Tensor]]:
        """Return the modulations of the convolutions and of the layers that make images.

        The latter take the styles 1, 3, 5 ...
        """
        w = ws.transpose(0, 1)
        return modulations(self.convs, self.to_images, torch.cat([w[:-1], w[1::2]]))

    def _noises(self, ws: torch.Tensor) -> Sequence[torch.Tensor | None]:
        """Draw the noise of every convolution at once, float32 [N, R * R].

        None outside of training.
        """
        if not self.training:
            return [None] * len(self.convs)
        sizes = [conv.noise.noise_const.numel() for conv in self.convs]
        return torch.randn(len(ws), sum(sizes), device=ws.device).split(sizes, 1)


class Discriminator(nn.Module):
    """Images [N, img_channels, R, R] (and classes c, int64 [N]) -> logits [N].

    Two convolutions a resolution, the second of which halves, down to 4x4; "resnet" adds skips past
    them. At 4x4 the statistics of the minibatch are appended. Conditional, the last features [N, F]
    are projected onto the mapped class (Miyato & Koyama, 2018).
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        c_dim: int = 0,
        channel_base: int = 16384,
        channel_max: int = 512,
        architecture: str = "resnet",
        mbstd_group: int = 4,
        mapping_layers: int = 8,
    ):
        """Build D. architecture: resnet | orig (no skips).

        mbstd_group: images compared with each other, at most. mapping_layers: of the class.
        """
        super().__init__()
        if architecture not in ("resnet", "orig"):
            raise UserError(f"D's architecture is {architecture!r}; it can be resnet or orig")
        widths = _widths(img_resolution, channel_base, channel_max)[::-1]
        down = _ResidualDown if architecture == "resnet" else _PlainDown
        self.from_image = EqualConv(img_channels, widths[0], 1)
        self.blocks = nn.Sequential(*(down(width, wider) for width, wider in zip(widths[:-1], widths[1:], strict=True)))
        width = widths[-1]
        self.statistics = MinibatchStd(mbstd_group)
        self.conv = EqualConv(width + 1, width, 3)
        self.linear = EqualLinear(width * 16, width, act="leaky_relu")
        self.out = EqualLinear(width, width if c_dim else 1)
        self.mapping = _LatentLayers(0, c_dim, width, mapping_layers) if c_dim else None

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        x = self.blocks(self.from_image(img))
        x = self.conv(self.statistics(x))
        x = self.out(self.linear(x.flatten(1)))
        if self.mapping is None:
            return x.squeeze(1)
        return (x * self.mapping(None, c)).sum(1) / math.sqrt(x.shape[1])


class _LatentLayers(nn.Module):
    """z [N, z_dim] and the embedded class -> float32 [N, w_dim], by fully connected layers.

    Both inputs are normalised; z is None where z_dim is 0.
    """

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, num_layers: int):
        super().__init__()
        self.embedding = nn.Embedding(c_dim, w_dim) if c_dim else None
        widths = [z_dim + (w_dim if c_dim else 0)] + [w_dim] * num_layers
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.layers = nn.Sequential(*(EqualLinear(*pair, act="leaky_relu", lr_multiplier=0.01) for pair in pairs))

    def forward(self, z: torch.Tensor | None, c: torch.Tensor | None) -> torch.Tensor:
        inputs = [] if z is None else [normalised(wide(z))]
        if self.embedding is not None:
            if c is None:
                raise UserError(
                    f"this network was built for {self.embedding.num_embeddings} classes: give c, the class of "
                    "each image"
                )
            inputs.append(normalised(self.embedding(c)))
        return self.layers(torch.cat(inputs, 1))


class _PlainDown(nn.Sequential):
    """[N, C, H, W] -> [N, K, H / 2, W / 2]."""

    def __init__(self, width: int, wider: int, gain: float = 1.0):
        super().__init__(EqualConv(width, width, 3), EqualConv(width, wider, 3, down=True, gain=gain))


class _ResidualDown(nn.Module):
    """_PlainDown added to a 1x1 convolution of the halved input.

    Both are scaled so that their sum has the variance of one.
    """

    def __init__(self, width: int, wider: int):
        super().__init__()
        self.main = _PlainDown(width, wider, gain=math.sqrt(0.5))
        self.skip = EqualConv(width, wider, 1, act="linear", down=True, gain=math.sqrt(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x) + self.skip(x)


def _widths(img_resolution: int, channel_base: int, channel_max: int) -> list[int]:
    """Return the channels at 4x4, 8x8 ... up to the resolution of the images."""
    if img_resolution < 8 or img_resolution & (img_resolution - 1):
        raise UserError(f"StyleGAN2 makes images of 8, 16, 32 ... pixels a side, not {img_resolution}")
    if channel_base < img_resolution:
        raise UserError(
            f"channel_base is {channel_base}; images of {img_resolution} pixels need {img_resolution} or more"
        )
    return [min(channel_base // (4 << level), channel_max) for level in range(img_resolution.bit_length() - 2)]
