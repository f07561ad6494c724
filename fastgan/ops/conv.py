"""Convolutions whose gradients of every order are convolutions again.

They serve networks that a penalty differentiates twice. torch.nn.functional has convolutions of any
order too, but its gradient of the weight, differentiated once more, is a convolution of images with
filters as large as images: batch and channels are exchanged, and groups are computed one by one.
The input gradient of a gradient penalty runs into it in every layer. A convolution, its transpose
and its weight gradient are the three derivatives of one trilinear form (as in deconv/operator.py),
so three operators are enough for all orders. Milliseconds of one Zen4 core, fp32, 64 images in
channels_last, the weight's part of the second order, torch's and this: 1x1 32 -> 64 at 32x32 32.7
and 3.6, 3x3 64 -> 64 in 4 groups at 32x32 39 and 19, 3x3 64 -> 64 117 and 48.
"""
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from fastgan.ops.autograd_queries import is_needed, is_transformed
from fastgan.ops.dispatch import autotune, registry, self_checks
from fastgan.ops.dispatch.device import device_type
from fastgan.ops.memory_formats import format_of, settled, uninitialised


class _Geometry(NamedTuple):
    """Geometry of a convolution, the same for height and width of the image."""

    stride: int
    padding: int
    groups: int


def conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> torch.Tensor:
    """Return torch's conv2d of x, [N, K, h, w]; under autocast in its dtype.

    x [N, C, H, W], weight [K, C // groups, T, T], bias [K] or None. Differentiable to any order in
    x, weight and bias.
    """
    if _is_for_the_library(x, weight, bias):
        return F.conv2d(x, weight, bias, stride, padding, groups=groups)
    return _down(*_cast(x, weight, bias), _Geometry(stride, padding, groups))


def conv_transpose2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    groups: int = 1,
) -> torch.Tensor:
    """Return torch's conv_transpose2d of x, [N, K, H, W]; under autocast in its dtype.

    x [N, C, h, w], weight [C, K // groups, T, T], bias [K] or None. Differentiable to any order in
    x, weight and bias.
    """
    if _is_for_the_library(x, weight, bias):
        return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding, groups)
    size = tuple(
        (length - 1) * stride - 2 * padding + taps + output_padding
        for length, taps in zip(x.shape[2:], weight.shape[2:], strict=True)
    )
    return _up(*_cast(x, weight, bias), _Geometry(stride, padding, groups), size)


def _is_for_the_library(*tensors: torch.Tensor | None) -> bool:
    return _is_turned_off() or is_transformed(*tensors)


@torch.compiler.assume_constant_result
def _is_turned_off() -> bool:
    return registry.turned_off() or autotune.forced("conv") == autotune.REFERENCE


def _cast(x: torch.Tensor, *others: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    """Return all in the dtype that autocast gives them inside a convolution."""
    if not torch.is_autocast_enabled(x.device.type):
        return x, *others
    dtype = torch.get_autocast_dtype(x.device.type)
    return tuple(None if tensor is None else tensor.to(dtype) for tensor in (x, *others))


# --- the three operators, each with the other two as its gradients --------------------------------
# small [N, C, h, w], big [N, K, H, W], weight [C, K // groups, T, T]


class _Down(torch.autograd.Function):
    @staticmethod
    def forward(ctx, big, weight, bias, geometry):
        big = settled(big)
        ctx.save_for_backward(big, weight)
        ctx.geometry = geometry
        return F.conv2d(big, weight, bias, geometry.stride, geometry.padding, groups=geometry.groups)

    @staticmethod
    def backward(ctx, dsmall):
        big, weight = ctx.saved_tensors
        dbig = _up(dsmall, weight, None, ctx.geometry, tuple(big.shape[2:])) if is_needed(ctx, 0) else None
        dweight = _weight(dsmall, big, ctx.geometry, tuple(weight.shape[2:])) if is_needed(ctx, 1) else None
        dbias = dsmall.sum((0, 2, 3)) if is_needed(ctx, 2) else None
        return dbig, dweight, dbias, None


class _Up(torch.autograd.Function):
    @staticmethod
    def forward(ctx, small, weight, bias, geometry, size):
        small = settled(small)
        ctx.save_for_backward(small, weight)
        ctx.geometry = geometry
        return _run_up(small, weight, bias, geometry, size)

    @staticmethod
    def backward(ctx, dbig):
        small, weight = ctx.saved_tensors
        dsmall = _down(dbig, weight, None, ctx.geometry) if is_needed(ctx, 0) else None
        dweight = _weight(small, dbig, ctx.geometry, tuple(weight.shape[2:])) if is_needed(ctx, 1) else None
        dbias = dbig.sum((0, 2, 3)) if is_needed(ctx, 2) else None
        return dsmall, dweight, dbias, None, None


class _Weight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, small, big, geometry, taps):
        small, big = settled(small), settled(big)
        ctx.save_for_backward(small, big)
        ctx.geometry = geometry
        (stride, padding, groups), shape = geometry, (small.shape[1], big.shape[1] // geometry.groups, *taps)
        weight = uninitialised(shape, _format_of(small, big), big)  # only its shape and format are read
        arguments = (
            small,
            big,
            weight,
            None,
            [stride] * 2,
            [padding] * 2,
            [1, 1],
            False,
            [0, 0],
            groups,
            [False, True, False],
        )
        return torch.ops.aten.convolution_backward(*arguments)[1]

    @staticmethod
    def backward(ctx, dweight):
        small, big = ctx.saved_tensors
        dsmall = _down(big, dweight, None, ctx.geometry) if is_needed(ctx, 0) else None
        dbig = _up(small, dweight, None, ctx.geometry, tuple(big.shape[2:])) if is_needed(ctx, 1) else None
        return dsmall, dbig, None, None


# The compiler takes each as one node and differentiates its content.


@torch.compiler.allow_in_graph
def _down(big, weight, bias, geometry) -> torch.Tensor:
    return _Down.apply(big, weight, bias, geometry)


@torch.compiler.allow_in_graph
def _up(small, weight, bias, geometry, size) -> torch.Tensor:
    return _Up.apply(small, weight, bias, geometry, size)


@torch.compiler.allow_in_graph
def _weight(small, big, geometry, taps) -> torch.Tensor:
    return _Weight.apply(small, big, geometry, taps)


# --- forms of the transposed convolution ----------------------------------------------------------


def _run_up(small, weight, bias, geometry, size) -> torch.Tensor:
    """Run the form that autotune.py picks for such tensors.

    There are two forms where the image doubles, or keeps its size.
    """
    forms = _up_forms(small, weight, bias, geometry, size)
    if len(forms) == 1:
        return forms["reference"]()
    shapes = " ".join("x".join(map(str, tensor.shape)) for tensor in (small, weight))
    words = str(small.dtype).removeprefix("torch."), str(_format_of(small, weight)).removeprefix("torch.")
    groups = f" in {geometry.groups}" * (geometry.groups > 1)
    call = (
        f"up to {size[0]}x{size[1]} by {geometry.padding}{groups} {shapes} "
        f"{' '.join(words)}{' bias' * (bias is not None)}"
    )
    return forms[autotune.pick("conv", call, forms, device_type(small))]()


def _up_forms(small, weight, bias, geometry, size) -> dict[str, Callable[[], torch.Tensor]]:
    forms = {"reference": lambda: up_reference(small, weight, bias, geometry, size)}
    if geometry.stride == 2 and geometry.groups == 1:
        forms["subpixel"] = lambda: up_subpixel(small, weight, bias, geometry, size)
    if geometry.stride == 1 and max(weight.shape[2:]) > 1 and geometry.padding < min(weight.shape[2:]):
        forms["flipped"] = lambda: up_flipped(small, weight, bias, geometry)
    return forms


def up_reference(small, weight, bias, geometry, size) -> torch.Tensor:
    """Return the library's transposed convolution, big [N, K, *size]."""
    stride, padding, groups = geometry
    lengths = zip(size, small.shape[2:], weight.shape[2:], strict=True)
    output_padding = [length - ((half - 1) * stride - 2 * padding + taps) for length, half, taps in lengths]
    return F.conv_transpose2d(small, weight, bias, stride, padding, output_padding, groups)


def up_subpixel(small, weight, bias, geometry, size) -> torch.Tensor:
    """Compute stride 2 by a convolution of stride 1 and an interleaving of its channels.

    The convolution computes the 2x2 pixels of every small one as channels. Tap t of the transposed
    convolution takes small pixel i to pixel 2i + t - padding. With an even padding (one more tap in
    front makes an odd one even), phase t % 2 of pixel m comes from i = m + padding / 2 - t // 2:
    one convolution of half the taps for all four phases.
    """
    odd, channels = geometry.padding % 2, weight.shape[1]
    back = [(taps + odd) % 2 for taps in weight.shape[2:]]
    even = F.pad(weight, (odd, back[1], odd, back[0]))  # [C, K, 2s, 2s']
    taps = even.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).flip(2, 4)  # [C, K, s, a, s', b]
    phased = taps.permute(1, 3, 5, 0, 2, 4).flatten(0, 2)  # [4K, C, s, s'], channels (k, a, b)
    shift, sides = (geometry.padding + odd) // 2, []
    for length, half, num in ((size[1], small.shape[3], phased.shape[3]), (size[0], small.shape[2], phased.shape[2])):
        sides += [num - 1 - shift, -(-length // 2) - half + shift]
    memory_format = _format_of(small, weight)
    vertical, horizontal = max(0, min(sides[2:])), max(0, min(sides[:2]))  # the padding of the convolution itself
    rest = [sides[0] - horizontal, sides[1] - horizontal, sides[2] - vertical, sides[3] - vertical]
    small = F.pad(small, rest) if any(rest) else small
    phases = F.conv2d(small, phased.contiguous(memory_format=memory_format), padding=(vertical, horizontal))
    big = F.pixel_shuffle(phases, 2)[:, :, :size[0], :size[1]]
    if bias is not None:
        big = big + bias.view(1, channels, 1, 1)
    return big.contiguous(memory_format=memory_format)


def up_flipped(small, weight, bias, geometry) -> torch.Tensor:
    """Compute stride 1 as a convolution, with reversed taps and exchanged sides of the weight.

    The library's kernels for a transposed convolution are slower where there are groups, and for
    some shapes in bf16: 2.34 and 1.54 ms for 64 images of 16x16, 32 -> 32 in 2 groups in fp32, 6.76
    and 3.07 ms for 32 of 32x32, 32 -> 32 in bf16 (one Zen4 core).
    """
    groups, taps = geometry.groups, weight.shape[2:]
    exchanged = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3)  # [K, C // groups, T, T]
    memory_format = _format_of(small, weight)
    padding = [length - 1 - geometry.padding for length in taps]
    return F.conv2d(small, exchanged.contiguous(memory_format=memory_format), bias, 1, padding, groups=groups)


def _format_of(*tensors: torch.Tensor) -> torch.memory_format:
    """Return the memory format of the library's result: channels_last where an operand is."""
    return (
        torch.channels_last
        if any(format_of(tensor) == torch.channels_last for tensor in tensors)
        else torch.contiguous_format
    )


CHECKED = {  # stride, padding, taps, groups, size of the big image, for a small one of 5x6 pixels
    "subpixel": ((2, 2, 5, 1, (10, 12)), (2, 0, 3, 1, (11, 13)), (2, 1, 3, 1, (10, 11)), (2, 1, 4, 1, (10, 12))),
    "flipped": ((1, 1, 3, 1, (5, 6)), (1, 0, 4, 1, (8, 9)), (1, 1, 3, 2, (5, 6)), (1, 2, 5, 4, (5, 6))),
}


def self_check(implementation: str, device: torch.device) -> str | None:
    """Compare a form of the transposed convolution with the library's; return the problem, or None.

    The errors of both are measured against float64 results.
    """
    for stride, padding, taps, groups, size in CHECKED[implementation]:
        small, bias = torch.randn(2, 8, 5, 6, device=device), torch.randn(12, device=device)
        weight, geometry = torch.randn(8, 12 // groups, taps, taps, device=device), _Geometry(stride, padding, groups)
        reference = up_reference(small, weight, bias, geometry, size)
        ours = _up_forms(small, weight, bias, geometry, size)[implementation]()
        truth = up_reference(small.double(), weight.double(), bias.double(), geometry, size)
        problem = self_checks.three_way_problem(
            f"a transposed convolution of {taps}x{taps} taps", ours, reference, truth
        )
        if problem:
            return problem
    return None
