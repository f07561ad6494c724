"""Work and its ceiling: the useful FLOPs (2 per multiply-add) of a step and of profiled calls.

The ceiling is the rate of matrix products on this machine in the same dtype.
"""
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

Shapes = list[list[int]]

MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}


def useful_flops(step: Callable[[], object]) -> int:
    """Return the FLOPs (2 per multiply-add) of one call of an eager step, backward included.

    Counted are convolutions and matrix products.
    """
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _gradient_flops})
    counter.mod_tracker = _NoModules()
    with counter:
        step()
    return counter.get_total_flops()


def _gradient_flops(
    dy_shape, x_shape, weight_shape, bias, stride, padding, dilation, transposed, output_padding, groups, mask, **rest
) -> int:
    """Return the FLOPs of the gradients of a convolution, each with its own products.

    torch's own count takes the weight gradient of a grouped convolution for that of a whole one.
    """
    return sum(mask[:2]) * conv_flop_count(x_shape, weight_shape, dy_shape, transposed)


class _NoModules:
    """Replacement of the module tracker of torch's counter.

    That one sets a hook that fails where the gradient by an input of a module is taken.
    """

    parents = frozenset({"Global"})

    def __enter__(self) -> "_NoModules":
        return self

    def __exit__(self, *error) -> None:
        pass


def matmul(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], torch.Tensor], int]:
    """Return (a callable square matrix product of random numbers, its FLOPs)."""
    size = MATMUL_SIZE[device.type]
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), 2 * size**3


# --- profiled calls ---------------------------------------------------------------------------------------------------

# Every pixel of the smaller image [N, C, h, w] meets a weight [K / groups, kh, kw] of its channel:
# a convolution gathers that image, a transposed one scatters it. The forward pass and each of the
# two gradients are one sum, read in three directions: 2 * N * C * h * w * (K / groups) * kh * kw
# FLOPs.


def call_flops(op: str, shapes: Shapes, values: list[Any]) -> int | None:
    """Return the FLOPs of one call of an operator.

    None for one that is neither a convolution nor a matrix product. bias and activation are not
    counted.

    op: as the profiler names it, aten::mm. shapes: of its tensors, [] for an argument that is none.
    values: of the other arguments, None for a tensor.
    """
    name = op.removesuffix("_triton")
    return COUNTS[name](shapes, values) if name in COUNTS else None


def _convolution(shapes: Shapes, values: list[Any]) -> int:
    """Count the FLOPs of a convolution.

    Arguments: input, weight, bias, stride, padding, dilation, transposed, output_padding, groups.
    """
    image, weight = shapes[:2]
    stride, padding, dilation, transposed = values[3:7]
    small = image if transposed else _gathered(image, weight, stride, padding, dilation)
    return _form(small, weight)


def _convolution_backward(shapes: Shapes, values: list[Any]) -> int:
    """Count the FLOPs of the gradients of a convolution.

    Arguments: grad_output, input, weight, bias_sizes, stride, padding, dilation, transposed,
    output_padding, groups, output_mask.
    """
    gradient, image, weight = shapes[:3]
    return sum(values[10][:2]) * _form(image if values[7] else gradient, weight)


def _gathered(
    image: list[int], weight: list[int], stride: list[int], padding: list[int], dilation: list[int]
) -> list[int]:
    """Return the shape that a convolution makes of an image."""
    sizes = zip(image[2:], weight[2:], stride, padding, dilation, strict=True)
    return [
        image[0],
        weight[0],
        *((size + 2 * pad - gap * (kernel - 1) - 1) // step + 1 for size, kernel, step, pad, gap in sizes),
    ]


def _form(small: list[int], weight: list[int]) -> int:
    return 2 * math.prod(small) * math.prod(weight[1:])


def _deconv_up(shapes: Shapes, values: list[Any]) -> int:
    """Count the FLOPs of the direction up; arguments: small, weight."""
    return _form(shapes[0], shapes[1])


def _deconv_down(shapes: Shapes, values: list[Any]) -> int:
    """Count the FLOPs of the direction down; arguments: big, weight."""
    (num, _, height, width), weight = shapes[:2]
    return _form([num, weight[0], height // 2, width // 2], weight)


def _deconv_weight(shapes: Shapes, values: list[Any]) -> int:
    """Count the FLOPs of the weight gradient; arguments: small, big."""
    return _form(shapes[0], [shapes[0][1], shapes[1][1], 4, 4])


def _product(shapes: Shapes, values: list[Any]) -> int:
    """Count the FLOPs of a matrix product; arguments: [..., N, K], [..., K, M]."""
    return 2 * math.prod(shapes[0]) * shapes[1][-1]


def _product_and_sum(shapes: Shapes, values: list[Any]) -> int:
    """Count the FLOPs of a matrix product and a sum; arguments: summand, [N, K], [K, M]."""
    return _product(shapes[1:], values)


COUNTS = {
    "aten::convolution": _convolution,
    "aten::convolution_backward": _convolution_backward,
    "aten::mm": _product,
    "aten::bmm": _product,
    "aten::addmm": _product_and_sum,
    "fastgan::deconv_up": _deconv_up,
    "fastgan::deconv_down": _deconv_down,
    "fastgan::deconv_weight": _deconv_weight,
}
