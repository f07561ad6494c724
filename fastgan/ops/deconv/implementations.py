"""All implementations of the three deconvolution operators, `up`, `down` and `weight`.

csrc/deconv.h has their definition. With `small` [N, C, h, w], `big` [N, K, H, W] and `weight`
[C, K, 4, 4], H = 2h or 2h + 1 and W likewise, they are the derivatives of one trilinear form: `up`
the transposed convolution (4, 2, 1), `down` the convolution (4, 2, 1), `weight` the gradient of
both with respect to the weight. A form is a function; up_forms, down_forms and weight_forms return
those that fit a call. Nothing here has a gradient: fastgan/ops/deconv/operator.py adds that.
"""
from collections.abc import Callable

import torch
import torch.nn.functional as F

from fastgan.ops.dispatch.device import device_type
from fastgan.ops.memory_formats import channels_last, format_of, settled, uninitialised

ACTIVATIONS = ("linear", "relu", "leaky_relu", "tanh")  # numbered as csrc/deconv.h has them
LIBRARY_DTYPES = {"cpu": (torch.float32, torch.bfloat16), "cuda": (torch.float32, torch.float16, torch.bfloat16)}
# The CPU kernels of `up` and `down` are for images, of at most that many big channels, and for deep
# layers, whose channels are multiples of 32. The deep ones round their operands once more, too much
# beside the rounding of results that tanh has mapped to [-1, 1].
FEW_CHANNELS, DEEP_CHANNELS = 8, 32

Run = Callable[[], torch.Tensor]


def up_forms(
    small: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, size: tuple[int, int], act: str, slope: float
) -> dict[str, Run]:
    """Return act(up(small, weight) + bias) [N, K, *size], by every form that fits."""
    small = settled(small)
    arguments = (small, weight, bias, size, act, slope)
    forms = {"reference": lambda: up_reference(*arguments)}
    if _is_even(size):
        forms["subpixel"] = lambda: up_subpixel(*arguments)
    if device_type(small) == "cuda" or _suits_the_cpu(weight, act):
        forms |= _native_forms(small, lambda: up_native(*arguments), lambda: up_triton(*arguments))
    return forms


def down_forms(
    big: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, act: str, slope: float
) -> dict[str, Run]:
    """Return act(down(big, weight) + bias) [N, C, H // 2, W // 2], by every form that fits."""
    big = settled(big)
    arguments = (big, weight, bias, act, slope)
    forms = {"reference": lambda: down_reference(*arguments)}
    if _is_even(big.shape[2:]):
        forms["subpixel"] = lambda: down_subpixel(*arguments)
    if device_type(big) == "cuda" or _suits_the_cpu(weight, act):
        forms |= _native_forms(big, lambda: down_native(*arguments), lambda: down_triton(*arguments))
    return forms


def weight_forms(small: torch.Tensor, big: torch.Tensor) -> dict[str, Run]:
    """Return weight(small, big) [C, K, 4, 4], by every form that fits."""
    small, big = settled(small), settled(big)
    forms = {"reference": lambda: weight_reference(small, big)}
    if _is_even(big.shape[2:]):
        forms["subpixel"] = lambda: weight_subpixel(small, big)
    return forms | _native_forms(small, lambda: weight_native(small, big), lambda: weight_triton(small, big))


def _native_forms(image: torch.Tensor, native: Run, triton: Run) -> dict[str, Run]:
    kind = device_type(image)
    if image.dtype not in LIBRARY_DTYPES.get(kind, ()):
        return {}
    return {"cpu": native} if kind == "cpu" else {"cuda": native, "triton": triton}


def _suits_the_cpu(weight: torch.Tensor, act: str) -> bool:
    channels, others = weight.shape[:2]
    return others <= FEW_CHANNELS or (act != "tanh" and channels % DEEP_CHANNELS == 0 and others % DEEP_CHANNELS == 0)


def _is_even(size) -> bool:
    return size[0] % 2 == 0 and size[1] % 2 == 0


# --- the library's convolutions -------------------------------------------------------------------


def up_reference(small, weight, bias, size, act, slope) -> torch.Tensor:
    """Return the library's transposed convolution."""
    output_padding = [length - 2 * half for length, half in zip(size, small.shape[2:], strict=True)]
    return activate(F.conv_transpose2d(small, weight, bias, 2, 1, output_padding), act, slope)


def down_reference(big, weight, bias, act, slope) -> torch.Tensor:
    """Return the library's strided convolution."""
    return activate(F.conv2d(big, weight, bias, 2, 1), act, slope)


def weight_reference(small, big) -> torch.Tensor:
    """Return the library's gradient of the strided convolution with respect to the weight.

    The library reads only the shape and the memory format of the weight itself.
    """
    weight = uninitialised((small.shape[1], big.shape[1], 4, 4), format_of(big), big)
    return _convolution_weight_gradient(small, big, weight, stride=2)


def activate(x: torch.Tensor, act: str, slope: float) -> torch.Tensor:
    """Return one of ACTIVATIONS, as torch computes it."""
    if act == "leaky_relu":
        return F.leaky_relu(x, slope)
    return {"linear": lambda: x, "relu": lambda: F.relu(x), "tanh": lambda: torch.tanh(x)}[act]()


def _convolution_weight_gradient(dy, x, weight, stride: int) -> torch.Tensor:
    arguments = (dy, x, weight, None, [stride, stride], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False])
    return torch.ops.aten.convolution_backward(*arguments)[1]


# --- as 2x2 convolutions of stride 1 --------------------------------------------------------------
# The big image's pixels 2m - 1 and 2m, m = 0 .. h, are the two phases of one pixel of an image [N,
# 2 * 2 * K, h + 1, w + 1], in rows and in columns. There the kernel of 4 taps is a kernel of 2 with
# 2 phases each: tap 2t + a reads phase a of pixel i + t. Nothing is strided any more.


def up_subpixel(small, weight, bias, size, act, slope) -> torch.Tensor:
    """Compute all four phases by one unit-stride convolution, then interleave them."""
    phases = F.conv_transpose2d(small, _phased_weight(weight))  # [N, 4K, h + 1, w + 1]
    big = _interleave(phases)
    if bias is not None:
        big = big + bias.view(1, -1, 1, 1)
    return activate(big, act, slope)


def down_subpixel(big, weight, bias, act, slope) -> torch.Tensor:
    """Compute space to depth, then the unit-stride convolution."""
    return activate(F.conv2d(_split_phases(big), _phased_weight(weight), bias), act, slope)


def weight_subpixel(small, big) -> torch.Tensor:
    """Compute space to depth, then the weight gradient of the unit-stride convolution."""
    phases = _split_phases(big)
    weight = uninitialised((small.shape[1], phases.shape[1], 2, 2), format_of(big), big)
    arguments = (small, phases, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False])
    gradient = torch.ops.aten.convolution_backward(*arguments)[1]
    taps = gradient.view(small.shape[1], 2, 2, big.shape[1], 2, 2)  # [C, a, b, K, t, u]
    return (
        taps.permute(0, 3, 4, 1, 5, 2)
        .reshape(small.shape[1], big.shape[1], 4, 4)
        .contiguous(memory_format=format_of(big))
    )


def _phased_weight(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight [C, K, 4, 4] as [C, 4K, 2, 2].

    Channel (a, b, k) of tap (t, u) is weight[:, k, 2t + a, 2u + b].
    """
    taps = weight.unflatten(2, (2, 2)).unflatten(4, (2, 2))  # [C, K, t, a, u, b]
    return taps.permute(0, 3, 5, 1, 2, 4).flatten(1, 3).contiguous(memory_format=format_of(weight))


def _split_phases(big: torch.Tensor) -> torch.Tensor:
    """Return [N, K, 2h, 2w] as [N, 4K, h + 1, w + 1], with zeros for the pixels outside."""
    framed = F.pad(big, (1, 1, 1, 1)).unflatten(2, (-1, 2)).unflatten(4, (-1, 2))  # [N, K, h + 1, a, w + 1, b]
    return framed.permute(0, 3, 5, 1, 2, 4).flatten(1, 3).contiguous(memory_format=format_of(big))


def _interleave(phases: torch.Tensor) -> torch.Tensor:
    """Invert _split_phases."""
    pixels = phases.unflatten(1, (2, 2, -1)).permute(0, 3, 4, 1, 5, 2)  # [N, K, h + 1, a, w + 1, b]
    framed = pixels.flatten(4, 5).flatten(2, 3)
    return framed[:, :, 1:-1, 1:-1].contiguous(memory_format=format_of(phases))


# --- our own kernels ------------------------------------------------------------------------------
# They take channels_last. Tensors in another format are copied, and the result has the format of
# the input.


def up_native(small, weight, bias, size, act, slope) -> torch.Tensor:
    """Run csrc/deconv_up_cpu.cpp or csrc/deconv_cuda_up.cu."""
    big = torch.ops.fastgan.deconv_up(
        channels_last(small), channels_last(weight), bias, *size, ACTIVATIONS.index(act), slope
    )
    return big.contiguous(memory_format=format_of(small))


def down_native(big, weight, bias, act, slope) -> torch.Tensor:
    """Run csrc/deconv_down_cpu.cpp or csrc/deconv_cuda_down.cu."""
    small = torch.ops.fastgan.deconv_down(
        channels_last(big), channels_last(weight), bias, ACTIVATIONS.index(act), slope
    )
    return small.contiguous(memory_format=format_of(big))


def weight_native(small, big) -> torch.Tensor:
    """Run csrc/deconv_weight_cpu.cpp or csrc/deconv_cuda_weight.cu."""
    return torch.ops.fastgan.deconv_weight(channels_last(small), channels_last(big)).contiguous(
        memory_format=format_of(big)
    )


def up_triton(small, weight, bias, size, act, slope) -> torch.Tensor:
    """Run kernels/deconv.py."""
    from fastgan.ops.deconv import triton

    big = triton.up(channels_last(small), channels_last(weight), bias, *size, ACTIVATIONS.index(act), slope)
    return big.contiguous(memory_format=format_of(small))


def down_triton(big, weight, bias, act, slope) -> torch.Tensor:
    """Run kernels/deconv.py."""
    from fastgan.ops.deconv import triton

    small = triton.down(channels_last(big), channels_last(weight), bias, ACTIVATIONS.index(act), slope)
    return small.contiguous(memory_format=format_of(big))


def weight_triton(small, big) -> torch.Tensor:
    """Run kernels/deconv.py."""
    from fastgan.ops.deconv import triton

    return triton.weight(channels_last(small), channels_last(big)).contiguous(memory_format=format_of(big))
