"""Building blocks that several models use."""
import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.ops.batch_norm import batch_norm
from fastgan.ops.deconv.operator import deconv, project, strided_conv
from fastgan.ops.deconv.with_batch_norm import deconv_batch_norm, strided_conv_batch_norm
from fastgan.ops.dispatch.device import device_type
from fastgan.ops.leaky_relu_bce import activated, leaky_relu_bce_head

SLOPES = {"relu": 0.0, "leaky_relu": 0.2}  # below zero


def activation(name: str) -> nn.Module:
    """Return relu | leaky_relu (slope 0.2, Radford et al., 2015) | elu as a module."""
    return {"relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(SLOPES["leaky_relu"]), "elu": nn.ELU}[name]()


class OverParts:
    """A layer that compares the images of a batch, within each of `parts` equal consecutive parts.

    It computes the same as `parts` calls would.
    """

    parts = 1


@contextlib.contextmanager
def in_parts(network: nn.Module, parts: int) -> Iterator[None]:
    """Set `parts` of all layers of the network that compare images, and reset it to 1 at the exit.

    Inside, a batch is that many batches one after another.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, OverParts)]
    for layer in layers:
        layer.parts = parts
    try:
        yield
    finally:
        for layer in layers:
            layer.parts = 1


class _BatchNorm(OverParts):
    """One of torch's BatchNorm layers with an activation.

    In training each part of a batch has statistics of its own.
    """

    act = "linear"

    def __init__(self, num_channels: int, act: str = "linear", affine: bool = True):
        super().__init__(num_channels, affine=affine)
        self.act = act

    def forward(self, x: torch.Tensor, behind: nn.Module | None = None, slope: float | None = None) -> torch.Tensor:
        """Normalise x, or the output of `behind` for x.

        behind: a (4, 2, 1) convolution or its transpose without bias and activation. slope: below
        zero, of an activation in the place of `act`.
        """
        slope = {"linear": 1.0, **SLOPES}[self.act] if slope is None else slope
        if not self.training:
            return activated(super().forward(x if behind is None else behind(x)), slope)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(self.parts)
        rest = self.weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps
        act = "leaky_relu", slope, self.parts  # slope 1 is linear, 0 is ReLU
        if behind is None:
            self._check_input_dim(x)
            return batch_norm(x[..., None], *rest, *act)[..., 0] if x.ndim == 3 else batch_norm(x, *rest, *act)
        both = deconv_batch_norm if isinstance(behind, nn.ConvTranspose2d) else strided_conv_batch_norm
        return both(x, behind.weight, *rest, *act)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, act={self.act}"


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """nn.BatchNorm1d(F) and an activation, [N, F] or [N, F, L] -> the same; its state is that layer's.

    act: linear | relu | leaky_relu (0.2 below zero).
    """


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """nn.BatchNorm2d(C) and an activation, [N, C, H, W] -> the same; its state is that layer's.

    act: as above.
    """


class Head(nn.Module):
    """The end of a discriminator: the last activation and the map to one logit.

    `loss` fuses them with the cross-entropy. A discriminator that ends in a Head offers
    `features(img)` and `head`, with D(img) = D.head(D.features(img)); the step then computes the
    loss here.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, slope: float):
        """Take over the parameters of a layer.

        layer: Linear(F, 1), or Conv2d(C, 1, (H, W)) for images of that size. slope: leaky ReLU's, 1
        for none.
        """
        super().__init__()
        self.weight, self.bias, self.slope = layer.weight, layer.bias, slope

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features before the activation, [N, F] or [N, C, H, W], to logits [N]."""
        last = F.linear if features.ndim == 2 else F.conv2d
        return last(activated(features, self.slope), self.weight, self.bias).flatten()

    def loss(self, features: torch.Tensor, target: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (cross-entropy with the target, logits) of the features, both float32 [N].

        target: one number or [N], in [0, 1].
        """
        return leaky_relu_bce_head(features, self.weight, self.bias, target, self.slope)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, slope={self.slope}"


LeakyReLUBCEHead = Head  # the public name, by its operator


def linear_stack(widths: tuple[int, ...], hidden_activation: str, init: str) -> nn.Sequential:
    """Make linear maps through `widths` with activations in between.

    [N, widths[0]] -> [N, widths[-1]].
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [linear(fan_in, fan_out, init), activation(hidden_activation)]
    return nn.Sequential(*layers[:-1])


def linear_critic(widths: tuple[int, ...], hidden_activation: str, init: str) -> nn.Sequential:
    """Make a linear_stack that ends in a Head: [N, widths[0]] -> one logit [N].

    The parameters have the names that they have in the stack.
    """
    layers = linear_stack((*widths, 1), hidden_activation, init)
    has_slope = len(widths) > 1 and hidden_activation in SLOPES
    if has_slope:
        layers[-2] = nn.Identity()  # its activation is in the head
    layers[-1] = Head(layers[-1], SLOPES[hidden_activation] if has_slope else 1.0)
    return layers


def linear(fan_in: int, fan_out: int, init: str) -> nn.Linear:
    """Make a linear layer.

    `xavier_relu` draws weights of standard deviation 1 / sqrt(fan_in / 2) and sets biases to zero.
    """
    layer = nn.Linear(fan_in, fan_out)
    if init == "xavier_relu":
        nn.init.normal_(layer.weight, std=(fan_in / 2) ** -0.5)
        nn.init.zeros_(layer.bias)
    return layer


class Deconv(nn.ConvTranspose2d):
    """ConvTranspose2d(C, K, 4, stride=2, padding=1) and an activation.

    [N, C, H, W] -> [N, K, 2H, 2W]. Its state is that layer's.
    """

    def __init__(self, in_channels: int, out_channels: int, act: str = "linear", bias: bool = False):
        super().__init__(in_channels, out_channels, 4, 2, 1, bias=bias)
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return deconv(x, self.weight, self.bias, act=self.act)


class Projection(nn.ConvTranspose2d):
    """ConvTranspose2d(C, K, 4, stride=1, padding=0) of one pixel, [N, C, 1, 1] -> [N, K, 4, 4].

    Its state is that layer's.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False):
        super().__init__(in_channels, out_channels, 4, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return project(x, self.weight, self.bias)


class StridedConv(nn.Conv2d):
    """Conv2d(C, K, 4, stride=2, padding=1), [N, C, H, W] -> [N, K, H // 2, W // 2].

    Its state is that layer's.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False):
        super().__init__(in_channels, out_channels, 4, 2, 1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return strided_conv(x, self.weight, self.bias)


class NormedConv(nn.Sequential):
    """A Deconv or StridedConv without bias and activation, a BatchNorm2d, and further layers.

    Its state is a Sequential's. On CUDA the layer and its BatchNorm are one operator: hooks of the
    layer do not run, and those of the BatchNorm see the input of the layer. Elsewhere it is a
    Sequential.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if device_type(x) != "cuda":
            return super().forward(x)
        layer, norm, *rest = self
        x = norm(x, layer)
        for module in rest:
            x = module(x)
        return x


class UpConv(nn.Conv2d):
    """Conv2d(C, K, 3, padding=1) of the image doubled by repeating pixels.

    [N, C, H, W] -> [N, K, 2H, 2W]. Its state is that layer's. Computed as the transposed
    convolution (4, 2, 1) that both are together: 4 products a pixel instead of 9, and no doubled
    image in memory. With both gradients 1.5 to 1.9 times as fast as the two at 256 channels on one
    core of Zen 4.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # A tap of the wide kernel is the sum of the 2x2 taps that meet the same small pixel.
        wide = 4 * F.avg_pool2d(self.weight.flip(2, 3).transpose(0, 1), 2, stride=1, padding=1)
        return deconv(x, wide, self.bias)


class ConvDown(nn.Conv2d):
    """The 2x2 means of Conv2d(C, K, 3, padding=1), [N, C, H, W] -> [N, K, H // 2, W // 2].

    Its state is that layer's. Computed as the strided convolution (4, 2, 1) that both are together:
    4 products a pixel of the input instead of 9, and no full image of K channels. With both
    gradients 2.1 to 2.3 times as fast as the two at 128 and 256 channels on one core of Zen 4.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return strided_conv(x, F.avg_pool2d(self.weight, 2, stride=1, padding=1), self.bias)


class ClassProjection(nn.Module):
    """The end of a conditional discriminator: features h [N, F], c int64 [N] -> logits [N].

    Miyato and Koyama, 2018, arXiv 1802.05637. The logit is l(h) + <embed(c), h>: the first term
    rates the features as real, the second one as features of their class. c_dim 0: l(h) alone, c is
    ignored. In float32 at least, under autocast as well: rounded to bfloat16 a logit of 10 is off
    by 0.03.
    """

    def __init__(self, num_features: int, c_dim: int, bias: bool = True):
        super().__init__()
        self.linear = nn.Linear(num_features, 1, bias=bias)
        self.embed = nn.Embedding(c_dim, num_features) if c_dim else None

    def forward(self, h: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        h = h.to(torch.promote_types(h.dtype, torch.float32))
        with torch.autocast(h.device.type, enabled=False):
            logits = self.linear(h).squeeze(1)
            return logits if self.embed is None else logits + (self.embed(c) * h).sum(1)


class ClassifierHead(nn.Module):
    """The end of an auxiliary classifier: h [N, F] -> (logits [N], class_logits [N, c_dim]).

    Odena et al., 2017, arXiv 1610.09585. In float32 at least; c is ignored.
    """

    def __init__(self, num_features: int, c_dim: int, bias: bool = True):
        super().__init__()
        self.linear, self.classify = nn.Linear(num_features, 1, bias=bias), nn.Linear(num_features, c_dim, bias=bias)

    def forward(self, h: torch.Tensor, c: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        h = h.to(torch.promote_types(h.dtype, torch.float32))
        with torch.autocast(h.device.type, enabled=False):
            return self.linear(h).squeeze(1), self.classify(h)


def dcgan_init(network: nn.Module) -> None:
    """Initialise like DCGAN (Radford et al., 2015, section 4).

    Convolutions from N(0, 0.02), BatchNorm weights from N(1, 0.02), biases zero.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | Head):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
