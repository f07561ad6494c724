"""R3GAN (Huang et al., 2025, arXiv 2501.05441).

Residual networks without normalisation or buffers, made for R1 and R2 in every step.

There is a stage for each resolution from 4x4 on; its width, cardinality (groups of the 3x3
convolutions) and number of blocks stand in tuples, the 4x4 stage first, so that the resolution of
the images is 4 * 2^(stages - 1). Convolutions have no bias: biases are part of the activations,
`bias_act`.

Under autocast the 4x4 stages, the bases and the logits stay in the precision of the parameters, as
in the paper.
"""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.errors import UserError
from fastgan.nn.convolutions import Conv2d
from fastgan.ops.bias_act import bias_act
from fastgan.ops.dispatch.device import device_type

SLOPE = 0.2
EXPANSION = 2  # channels inside of a block for each of the stage's


class Generator(nn.Module):
    """z float32 [N, z_dim] (and c int64 [N] where c_dim > 0) -> images [N, img_channels, R, R].

    Images are unbounded (no tanh). A learned 4x4 basis of widths[0] pictures, weighed by a linear
    map of z and the class's embedding; then stages, each of which doubles the image.
    """

    def __init__(
        self,
        img_channels: int,
        z_dim: int,
        widths: tuple[int, ...],
        cardinalities: tuple[int, ...],
        blocks: tuple[int, ...],
        c_dim: int = 0,
        embedding_dim: int = 64,
    ):
        """Build the stages. widths, cardinalities, blocks: of each stage, 4x4 first.

        c_dim: number of classes, 0 = unconditional. Raises UserError where the tuples differ in
        length or a cardinality does not divide the 2 * width channels inside of a block.
        """
        super().__init__()
        _check_stages(widths, cardinalities, blocks)
        self.embedding = _class_embedding(c_dim, embedding_dim, 1.0) if c_dim else None
        self.weigh = _linear(z_dim + (embedding_dim if c_dim else 0), widths[0])
        self.basis = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.stages = nn.ModuleList(
            _blocks(*stage, sum(blocks)) for stage in zip(widths, cardinalities, blocks, strict=True)
        )
        self.transitions = nn.ModuleList(_transition(*pair) for pair in zip(widths[:-1], widths[1:], strict=True))
        self.to_image = _conv(widths[-1], img_channels, 1)

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(c)], 1)
        with torch.autocast(z.device.type, enabled=False):
            weights = self.weigh(z.to(self.basis.dtype))
            x = self.stages[0](weights[:, :, None, None] * self.basis)
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(upsample(transition(x)))
        return self.to_image(x)


class Discriminator(nn.Module):
    """Images [N, img_channels, R, R] (and c int64 [N] where c_dim > 0) -> logits [N].

    Logits have the dtype of the parameters. The generator's stages in reverse, each of which halves
    the image; each 4x4 channel is weighed by its own learned 4x4 picture to one number. A linear
    map takes them to the logit, or to embedding_dim features whose product with the class's
    embedding is the logit.
    """

    def __init__(
        self,
        img_channels: int,
        widths: tuple[int, ...],
        cardinalities: tuple[int, ...],
        blocks: tuple[int, ...],
        c_dim: int = 0,
        embedding_dim: int = 64,
    ):
        """Build the stages. Arguments and errors are the generator's, the 4x4 stage first here too.
        """
        super().__init__()
        _check_stages(widths, cardinalities, blocks)
        finest_first = [stage[::-1] for stage in (widths, cardinalities, blocks)]
        self.from_image = _conv(img_channels, widths[-1], 1)
        self.stages = nn.ModuleList(_blocks(*stage, sum(blocks)) for stage in zip(*finest_first, strict=True))
        self.transitions = nn.ModuleList(
            _transition(*pair) for pair in zip(finest_first[0][:-1], finest_first[0][1:], strict=True)
        )
        self.basis = nn.Parameter(torch.randn(widths[0], 4, 4) / 4)  # fan-in 16
        self.judge = _linear(widths[0], embedding_dim if c_dim else 1)
        self.embedding = _class_embedding(c_dim, embedding_dim, embedding_dim**-0.5) if c_dim else None

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        x = self.from_image(img)
        for stage, transition in zip(self.stages[:-1], self.transitions, strict=True):
            x = transition(downsample(stage(x)))
        with torch.autocast(x.device.type, enabled=False):
            x = self.stages[-1](x.to(self.basis.dtype))
            features = self.judge((x * self.basis).sum((2, 3)))
            return features.squeeze(1) if self.embedding is None else (features * self.embedding(c)).sum(1)


class ResidualBlock(nn.Module):
    """1x1 to twice the width, grouped 3x3, 1x1 back, added to the input: [N, width, H, W] -> same.

    Fix-up (Zhang et al., 2019): the last convolution starts at 0, the other two from He's normal
    times num_blocks^(-1/4), of the whole network's blocks. A network of any depth starts as its
    transitions alone, and its updates keep their size.
    """

    def __init__(self, width: int, cardinality: int, num_blocks: int):
        super().__init__()
        inside = EXPANSION * width
        gain = (2 / (1 + SLOPE**2)) ** 0.5 * num_blocks**-0.25
        self.expand = _conv(width, inside, 1, gain)
        self.expand_bias = nn.Parameter(torch.zeros(inside))
        self.mix = _conv(inside, inside, 3, gain, groups=cardinality)
        self.mix_bias = nn.Parameter(torch.zeros(inside))
        self.contract = _conv(inside, width, 1, gain=0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = bias_act(self.expand(x), self.expand_bias, act="leaky_relu", slope=SLOPE)
        y = bias_act(self.mix(y), self.mix_bias, act="leaky_relu", slope=SLOPE)
        y = self.contract(y)
        return x.to(y.dtype) + y  # in bf16 where convolutions are, behind a 4x4 stage in fp32 too


def upsample(x: torch.Tensor) -> torch.Tensor:
    """Upsample [N, C, H, W] to [N, C, 2H, 2W] by bilinear interpolation, zeros outside.

    Every second pixel is x's, those between are means of neighbours.

    Computed as a depthwise convolution: on one core of a Zen 4, float32 [32, 96, 16, 16] in
    channels_last, forward and both orders of gradient take 8.5 ms compiled and 42 ms eager; slices
    and stacks 13 and 39 ms, nearest neighbours and a mean over 2x2 59 and 51 ms.
    """
    return _depthwise(
        x,
        1 / 4,
        lambda x, weight: F.conv_transpose2d(x, weight, stride=2, padding=1, output_padding=1, groups=x.shape[1]),
    )


def downsample(x: torch.Tensor) -> torch.Tensor:
    """Downsample [N, C, H, W] of even size to [N, C, H/2, W/2].

    Every second pixel of x filtered by [1, 2, 1] / 4 in both directions, zeros outside. Measured as
    for upsample: 1.5 ms compiled and 11 ms eager; slices take 7.5 and 12 ms.
    """
    return _depthwise(x, 1 / 16, lambda x, weight: F.conv2d(x, weight, stride=2, padding=1, groups=x.shape[1]))


def _depthwise(
    x: torch.Tensor, gain: float, convolve: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Return convolve(x, gain * filter), on the CPU in float32 whatever x is.

    The library's transposed depthwise convolution takes 6.9 ms in bf16 and 0.4 ms in float32 for 64
    images of 8x16x16, and the gradient of the other one is such a convolution.
    """
    if device_type(x) != "cpu":
        return convolve(x, _triangle(x, gain))
    with torch.autocast("cpu", enabled=False):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return convolve(wide, _triangle(wide, gain)).to(x.dtype)


def _triangle(x: torch.Tensor, gain: float) -> torch.Tensor:
    """Return gain times the outer product of [1, 2, 1] with itself, as a depthwise weight.

    It is [C, 1, 3, 3], computed on the device of x, since a copy from the host would wait. It is
    contiguous, so that a compiled step has one for all layers of a width (passes/equal_nodes.py):
    r3gan-tiny 6 launches instead of 15.
    """
    taps = 2 - torch.arange(-1, 2, device=x.device, dtype=x.dtype).abs()
    return (gain * torch.outer(taps, taps)).expand(x.shape[1], 1, 3, 3).contiguous()


def _blocks(width: int, cardinality: int, number: int, num_blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width, cardinality, num_blocks) for _ in range(number)))


def _transition(fan_in: int, fan_out: int) -> nn.Module:
    """Make a 1x1 convolution where the width changes.

    It commutes with the resampling, so it stands where the image is small.
    """
    return nn.Identity() if fan_in == fan_out else _conv(fan_in, fan_out, 1)


def _conv(fan_in: int, fan_out: int, kernel: int, gain: float = 1.0, groups: int = 1) -> Conv2d:
    """Make a convolution that keeps the image's size, with weights from N(0, gain^2 / fan_in).

    fan_in: the number of products that an output is the sum of.
    """
    layer = Conv2d(fan_in, fan_out, kernel, padding=kernel // 2, groups=groups, bias=False)
    nn.init.normal_(layer.weight, std=gain * layer.weight[0].numel() ** -0.5)
    return layer


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out, bias=False)
    nn.init.normal_(layer.weight, std=fan_in**-0.5)
    return layer


def _class_embedding(c_dim: int, dim: int, gain: float) -> nn.Embedding:
    """Make an embedding, class numbers [N] -> [N, dim], from N(0, gain^2 / c_dim).

    It is a linear map of one-hot vectors, which have c_dim inputs.
    """
    layer = nn.Embedding(c_dim, dim)
    nn.init.normal_(layer.weight, std=gain * c_dim**-0.5)
    return layer


def _check_stages(widths: tuple[int, ...], cardinalities: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    if not len(widths) == len(cardinalities) == len(blocks) > 0:
        raise UserError(
            f"r3gan: widths, cardinalities and blocks must have a number for every stage, not {widths}, "
            f"{cardinalities} and {blocks}."
        )
    for width, cardinality in zip(widths, cardinalities, strict=True):
        if EXPANSION * width % cardinality:
            raise UserError(
                f"r3gan: cardinality {cardinality} must divide {EXPANSION * width}, the channels inside of a "
                f"block of width {width}."
            )
