"""torch's convolutions, with its signatures, computed by the operators where they fit.

Their parameters, state and results are those of torch's layers. A call that no operator takes
(dilation, other padding modes, unequal sides, an output_size, exports) runs torch's own forward.
"""
import torch
from torch import nn

from fastgan.ops.conv import conv2d, conv_transpose2d
from fastgan.ops.deconv.operator import deconv, project, strided_conv
from fastgan.ops.leaky_relu_bce import leaky_relu_bce_head
from fastgan.ops.memory_formats import in_format

DEVICES = ("cpu", "cuda")
KERNEL = (4, 4)  # of the layers that double or halve an image, and of a projection


class Conv2d(nn.Conv2d):
    """nn.Conv2d by the operators: `strided_conv` where it is (4, 2, 1), `conv2d` elsewhere.

    Where it maps a whole image to one logit, it is the end of a discriminator, and computes in
    float32. All have gradients of the second order that are as fast as those of the first.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not fits(self, input):
            return super().forward(input)
        if gives_one_logit(self, input):
            return to_one_logit(input, self.weight, self.bias).view(-1, 1, 1, 1)
        memory_format = result_format(self, input)
        if halves(self) and min(input.shape[2:]) > 1:
            y = strided_conv(in_format(input, memory_format), self.weight, self.bias)
        else:
            y = conv2d(input, self.weight, self.bias, self.stride[0], self.padding[0], self.groups)
        return in_format(y, memory_format)


class ConvTranspose2d(nn.ConvTranspose2d):
    """nn.ConvTranspose2d by the operators: `deconv` where it is (4, 2, 1), `conv_transpose2d` elsewhere.

    Where it maps one pixel to 4x4, it is `project`.
    """

    def forward(self, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        if output_size is not None or not fits(self, input):
            return super().forward(input, output_size)
        if halves(self):
            return self.doubled(input)
        return in_format(self._wider(input), result_format(self, input))

    def doubled(self, x: torch.Tensor, act: str = "linear") -> torch.Tensor:
        """Return the result of a (4, 2, 1) layer with an activation behind it."""
        memory_format = result_format(self, x)
        return in_format(deconv(in_format(x, memory_format), self.weight, self.bias, act), memory_format)

    def _wider(self, x: torch.Tensor) -> torch.Tensor:
        """Return the result of another layer."""
        is_plain = self.padding == self.output_padding == (0, 0) and self.groups == 1
        if is_plain and self.kernel_size == KERNEL and tuple(x.shape[2:]) == (1, 1):
            return project(x, self.weight, self.bias)
        stride, padding, more = self.stride[0], self.padding[0], self.output_padding[0]
        return conv_transpose2d(x, self.weight, self.bias, stride, padding, more, self.groups)


class Linear(nn.Linear):
    """nn.Linear; from features [N, F] to one logit it computes in float32, as the end of a discriminator."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not gives_one_logit(self, input):
            return super().forward(input)
        return to_one_logit(input, self.weight, self.bias).unsqueeze(1)


def halves(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    """Return True for (4, 2, 1) without groups; its transpose doubles."""
    geometry = layer.kernel_size, layer.stride, layer.padding, layer.output_padding, layer.groups
    return geometry == (KERNEL, (2, 2), (1, 1), (0, 0), 1)


def result_format(layer: nn.Conv2d | nn.ConvTranspose2d, x: torch.Tensor) -> torch.memory_format:
    """Return the memory format of torch's result: channels_last where the image or the weight is.

    Of one channel, an image lies in both formats; torch takes it for what its strides say, and the
    operators for channels_last, behind which a user's view() would fail.
    """
    is_channels_last = any(
        each.stride(1) == 1
        and each.stride(3) == each.shape[1]
        and each.is_contiguous(memory_format=torch.channels_last)
        for each in (x, layer.weight)
    )
    return torch.channels_last if is_channels_last else torch.contiguous_format


def gives_one_logit(layer: nn.Conv2d | nn.Linear, x: torch.Tensor) -> bool:
    """Return True if a layer maps each of x, [N, F] or [N, C, H, W], to one number."""
    if isinstance(layer, nn.Linear):
        return layer.out_features == 1 and x.ndim == 2 and _is_usual(layer, x, layer.in_features)
    is_last = layer.out_channels == layer.groups == 1 and fits(layer, x)
    return is_last and layer.kernel_size == tuple(x.shape[2:]) and layer.padding == (0, 0)


def to_one_logit(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, slope: float = 1.0
) -> torch.Tensor:
    """Return the logits [N] of a leaky ReLU (slope 1: none) and a map to one number.

    Sums are float32. The result is too under autocast, which takes any dtype; else it is like x.
    """
    logits = leaky_relu_bce_head(x, weight, bias, 0.0, slope)[1]  # the loss is the caller's
    return logits if torch.is_autocast_enabled(x.device.type) else logits.to(x.dtype)


def fits(layer: nn.Conv2d | nn.ConvTranspose2d, x: torch.Tensor) -> bool:
    """Return True if the operators compute the layer for x: a batch of images of its channels."""
    return x.ndim == 4 and geometry_problem(layer) is None and _is_usual(layer, x, layer.in_channels)


def geometry_problem(layer: nn.Conv2d | nn.ConvTranspose2d) -> str | None:
    """Return the property of a convolution that no operator has, in words, or None."""
    if layer.padding_mode != "zeros":
        return f"padding_mode is {layer.padding_mode!r}"
    if isinstance(layer.padding, str):
        return f"padding is {layer.padding!r}"
    if layer.dilation != (1, 1):
        return f"dilation is {layer.dilation}"
    for name in ("stride", "padding", "output_padding"):
        first, second = getattr(layer, name)
        if first != second:
            return f"{name} is {(first, second)}, not the same for height and width"
    return None


def _is_usual(layer: nn.Module, x: torch.Tensor, num_channels: int) -> bool:
    """Return True if x is of the layer's channels, device and dtype; torch refuses the others.

    Exporters know torch's layers, so they are given those.
    """
    weight, kind = layer.weight, x.device.type
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return False
    if x.shape[1] != num_channels or x.numel() == 0 or x.device != weight.device or kind not in DEVICES:
        return False
    if torch.is_autocast_enabled(kind):  # it casts no float64
        return x.is_floating_point() and torch.float64 not in (x.dtype, weight.dtype)
    return x.is_floating_point() and x.dtype == weight.dtype
