"""DCGAN (Radford et al., 2015, arXiv 1511.06434) for square images of 16, 32, 64 or 128 pixels.

With labels or without, under any normalisation.
"""
import math

import torch
from torch import nn

from fastgan.errors import UserError
from fastgan.nn.layers import (
    SLOPES,
    BatchNorm2d,
    ClassProjection,
    Deconv,
    Head,
    NormedConv,
    Projection,
    StridedConv,
    activation,
    dcgan_init,
)  # fmt: skip
from fastgan.nn.noise import NO_NOISE, GaussianNoise, Noise
from fastgan.nn.norms import ClassBatchNorm2d, class_batch_norm, normalisation, normalise_weights

OF_WEIGHTS = ("spectral", "weight")  # normalisations that are no layer of their own
WITHOUT_BIAS = ("none", *OF_WEIGHTS)  # normalisations that bring no bias: the convolutions have one instead


class Generator(nn.Sequential):
    """z [N, z_dim] -> images [N, img_channels, R, R] in [-1, 1].

    1x1 -> 4x4 by a transposed convolution (4,1,0), then doubled by transposed convolutions (4,2,1);
    BatchNorm and ReLU between, tanh at the end. norm: batch | instance | layer | none | spectral |
    weight, in BatchNorm's place. c_dim: the number of classes where BatchNorm's gain and bias
    depend on the class; then forward takes c int64 [N] as well. Raises UserError for classes with
    another norm than batch.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        z_dim: int = 100,
        ngf: int = 64,
        norm: str = "batch",
        c_dim: int = 0,
    ):
        if c_dim and norm != "batch":
            raise UserError(f"G's normalisation {norm!r} cannot be class-conditional: choose 'batch', or "
                            "conditioning by 'concat'")
        widths = _widths(img_resolution, ngf)[::-1]
        bias = norm in WITHOUT_BIAS
        layers = [Projection(z_dim, widths[0], bias=bias)]
        layers += [Deconv(fan_in, fan_out, bias=bias) for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True)]
        blocks = [_up_block(layer, norm, c_dim) for layer in layers]
        super().__init__(*blocks, nn.Sequential(Deconv(widths[-1], img_channels, act="tanh")))
        dcgan_init(self)
        if norm in OF_WEIGHTS:
            normalise_weights(self, norm)

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        x = z.reshape(z.shape[0], -1, 1, 1)
        for block in self:
            if isinstance(block, NormedConv):
                x = block(x)
                continue
            for layer in block:
                x = layer(x, c) if isinstance(layer, ClassBatchNorm2d) else layer(x)
        return x


class Discriminator(nn.Sequential):
    """Images [N, img_channels, R, R] -> logits [N].

    Halved by convolutions (4,2,1) down to 4x4, then (4,1,0) to one logit; LeakyReLU 0.2, BatchNorm
    from the second layer, or another norm there: instance | layer | none | spectral | weight. noise:
    on the inputs of all layers but the first.
    """

    def __init__(
        self, img_resolution: int, img_channels: int, ndf: int = 64, norm: str = "batch", noise: Noise = NO_NOISE
    ):
        blocks, width = _down_blocks(img_resolution, img_channels, ndf, norm, noise)
        super().__init__(*blocks, _head(nn.Conv2d(width, 1, 4, 1, 0, bias=False), norm, noise))
        dcgan_init(self)
        if norm in OF_WEIGHTS:
            normalise_weights(self, norm)

    @property
    def head(self) -> nn.Module:
        """The layers from features to logits: a Head, except where weights are normalised."""
        return self[-1]

    def features(self, img: torch.Tensor) -> torch.Tensor:
        """Map images to the input of the head, [N, C, 4, 4]."""
        for block in list(self)[:-1]:
            img = block(img)
        return img

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        return self.head(self.features(img))


# --- with labels: c is int64 [N], class numbers below c_dim -----------------------------------------------------------


class ConcatGenerator(nn.Module):
    """A Generator of z [N, z_dim] beside an embedding of the class [N, embed_dim].

    Mirza and Osindero, 2014, arXiv 1411.1784.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        z_dim: int,
        ngf: int,
        c_dim: int,
        norm: str = "batch",
        embed_dim: int = 100,
    ):
        super().__init__()
        self.embed = nn.Embedding(c_dim, embed_dim)  # from N(0, 1), like z
        self.layers = Generator(img_resolution, img_channels, z_dim + embed_dim, ngf, norm)

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([z.flatten(1), self.embed(c)], 1))


class ConcatDiscriminator(nn.Module):
    """A Discriminator of an image and one more channel, a plane learnt for its class.

    One plane stands in for c_dim constant ones.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        ndf: int,
        c_dim: int,
        norm: str = "batch",
        noise: Noise = NO_NOISE,
    ):
        super().__init__()
        self.plane = nn.Embedding(c_dim, img_resolution**2)
        self.layers = Discriminator(img_resolution, img_channels + 1, ndf, norm, noise)

    def forward(self, img: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        plane = self.plane(c).view(-1, 1, *img.shape[2:])
        return self.layers(torch.cat([img, plane.to(img.dtype)], 1))


class ProjectionDiscriminator(nn.Module):
    """A Discriminator whose logit is l(h) + <embed(c), h>.

    h [N, C] is the sum over its last 4x4 features.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        ndf: int,
        c_dim: int,
        norm: str = "batch",
        noise: Noise = NO_NOISE,
    ):
        super().__init__()
        blocks, width = _down_blocks(img_resolution, img_channels, ndf, norm, noise)
        self.layers = nn.Sequential(*blocks, nn.LeakyReLU(SLOPES["leaky_relu"]), *_noise(noise))
        self.projection = ClassProjection(width, c_dim)
        dcgan_init(self)
        for layer in (self.projection.linear, self.projection.embed):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        nn.init.zeros_(self.projection.linear.bias)
        if norm in OF_WEIGHTS:
            normalise_weights(self, norm)

    def forward(self, img: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.projection(self.layers(img).sum((2, 3)), c)


# --- blocks -----------------------------------------------------------------------------------------------------------


def _widths(img_resolution: int, base: int) -> list[int]:
    """Return the channels from the finest hidden layer to the 4x4 one: base, 2 base, 4 base ..."""
    return [base << level for level in range(int(math.log2(img_resolution)) - 2)]


def _norm(name: str, num_channels: int, act: str) -> list[nn.Module]:
    """Return the layers of a normalisation, if any, and of the activation after it.

    BatchNorm contains the activation, which is then an Identity in its place.
    """
    if name == "batch":
        norms, behind = [BatchNorm2d(num_channels, act)], nn.Identity
    else:
        norms, behind = [] if name in WITHOUT_BIAS else [normalisation(name, num_channels)], lambda: activation(act)
    return norms if act == "linear" else [*norms, behind()]


def _up_block(layer: Projection | Deconv, norm: str, c_dim: int) -> nn.Sequential:
    norms = (
        [class_batch_norm(layer.out_channels, c_dim), nn.Identity()]
        if c_dim
        else _norm(norm, layer.out_channels, "relu")
    )
    return _block(layer, norms)


def _block(layer: nn.Module, norms: list[nn.Module]) -> nn.Sequential:
    """Join a layer and its norms, as one operator where a BatchNorm follows a convolution."""
    is_one = isinstance(layer, (Deconv, StridedConv)) and norms and type(norms[0]) is BatchNorm2d
    return NormedConv(layer, *norms) if is_one else nn.Sequential(layer, *norms)


def _down_blocks(
    img_resolution: int, img_channels: int, ndf: int, norm: str, noise: Noise
) -> tuple[list[nn.Sequential], int]:
    """Return (convolutions with their norms, activations and noise, the last one's channels).

    The last block has neither activation nor noise.
    """
    widths = _widths(img_resolution, ndf)
    bias = norm in WITHOUT_BIAS
    ends = [_noise(noise) if width < widths[-1] else [] for width in widths]
    blocks = [nn.Sequential(StridedConv(img_channels, widths[0], bias), nn.LeakyReLU(0.2), *ends[0])]
    for fan_in, fan_out, end in zip(widths[:-1], widths[1:], ends[1:], strict=True):
        act = "leaky_relu" if fan_out < widths[-1] else "linear"  # the last one's activation is the head's
        blocks.append(_block(StridedConv(fan_in, fan_out, bias), [*_norm(norm, fan_out, act), *end]))
    return blocks, widths[-1]


def _noise(noise: Noise) -> list[GaussianNoise]:
    return [GaussianNoise(*noise)] if noise.std else []


def _head(layer: nn.Conv2d, norm: str, noise: Noise) -> nn.Module:
    """Return the last activation and layer: features [N, C, 4, 4] -> logits [N].

    It is a Head where the layer's weight is not normalised and its input has no noise.
    """
    if norm in OF_WEIGHTS or noise.std:
        return nn.Sequential(nn.LeakyReLU(SLOPES["leaky_relu"]), *_noise(noise), layer, nn.Flatten(0))
    return Head(layer, SLOPES["leaky_relu"])
