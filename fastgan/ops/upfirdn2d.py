"""Resampling with a small filter: insert zeros, pad, filter, keep every n-th sample.

The operator is linear in the image, and its adjoint is the same operator with the filter reversed
and `up` and `down` exchanged, so one definition gives gradients of every order. Filters are tuples
of Python numbers: constants for the compiler, and no buffers in a network.
"""
import functools
import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from fastgan.errors import UserError
from fastgan.ops.autograd_queries import is_transformed
from fastgan.ops.dispatch.device import device_type
from fastgan.ops.memory_formats import format_of

Taps = Sequence[float] | Sequence[Sequence[float]]  # a filter for both directions, or its rows
BILINEAR = (1.0, 3.0, 3.0, 1.0)  # the filter of StyleGAN2; the helpers normalise it


class _Resampling(NamedTuple):
    """Parameters of a resampling, all of a call but the image.

    The rows of the filter are in the order of a convolution, last tap first.
    """

    columns: tuple[float, ...]  # separable: taps from the last to the first, vertically
    # Separable: one row of taps, horizontally; else all rows, and `columns` is empty.
    rows: tuple[tuple[float, ...], ...]
    up: int
    down: int
    padding: tuple[int, int, int, int]  # left, right, top, bottom; negative crops

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the filter."""
        return len(self.columns or self.rows), len(self.rows[0])

    def result(self, length: int, axis: int) -> int:
        """Return the number of samples from `length` along the height (axis 0) or the width (1)."""
        before, after = self.padding[2 - 2 * axis : 4 - 2 * axis]
        return (length * self.up + before + after - self.size[axis]) // self.down + 1

    def adjoint(self, height: int, width: int) -> "_Resampling":
        """Return the transpose of this map for images of this size."""
        padding = []
        for axis, length in ((1, width), (0, height)):
            before = self.padding[2 - 2 * axis]
            left = self.size[axis] - 1 - before
            padding += [left, (length - 1) * self.up - self.result(length, axis) * self.down + 1 + before]
        rows = tuple(row[::-1] for row in (self.rows if self.columns else self.rows[::-1]))
        return _Resampling(self.columns[::-1], rows, self.down, self.up, tuple(padding))


def upfirdn2d(
    x: torch.Tensor,
    taps: Taps,
    up: int = 1,
    down: int = 1,
    padding: int | tuple[int, int, int, int] = 0,
    gain: float = 1.0,
) -> torch.Tensor:
    """Return gain * x, upsampled, padded, filtered and downsampled.

    x gets up - 1 zeros behind every sample, is padded and convolved with the filter, and every
    down-th sample is kept. The result has x's dtype and memory format.

    x: floating point [N, C, H, W]; the result is [N, C, H', W'] with
    H' = (H * up + top + bottom - height of the filter) // down + 1
    and likewise W'. taps: T numbers, a separable filter for both directions, or rows of numbers,
    any filter. It is convolved (reversed), as signal processing has it. up, down: 1 or more.
    padding: zeros around the image after `up`: left, right, top, bottom, or one number for all;
    negative crops. Differentiable in x to any order. Autocast does not change its precision. Raises
    UserError for anything else.
    """
    resampling = _checked(x, taps, up, down, padding, gain)
    if is_transformed(x):
        return _by_convolution(x, resampling)
    # The CPU uses one depthwise convolution of the whole filter. Leaky ReLU, blur, and gradients of
    # both orders of (32, 32, 32, 32), channels_last, compiled: 9.0 ms, and 33 as shifted sums,
    # which the compiler fuses, and then computes again wherever they are needed; halving 4.5 and
    # 7.7, doubling (32, 3, 32, 32) 3.3 and 2.0 (one Zen4 core). CUDA uses the sums, which need no
    # filter on the device.
    return _resample(x, resampling, device_type(x) != "cpu")


def upfirdn2d_reference(
    x: torch.Tensor,
    taps: Taps,
    up: int = 1,
    down: int = 1,
    padding: int | tuple[int, int, int, int] = 0,
    gain: float = 1.0,
) -> torch.Tensor:
    """Return the same by the library's depthwise convolution, with its gradients; see upfirdn2d."""
    return _by_convolution(x, _checked(x, taps, up, down, padding, gain))


def upsample2d(x: torch.Tensor, taps: Taps = BILINEAR, factor: int = 2) -> torch.Tensor:
    """Return [N, C, H, W] filtered and enlarged to [N, C, factor * H, factor * W].

    A constant keeps its value inside; beyond the border there are zeros.
    """
    size = _size(taps)
    padding = [side for length in size[::-1] for side in ((length + factor - 1) // 2, (length - factor) // 2)]
    return upfirdn2d(x, taps, up=factor, padding=tuple(padding), gain=factor**2 / _sum(taps))


def downsample2d(x: torch.Tensor, taps: Taps = BILINEAR, factor: int = 2) -> torch.Tensor:
    """Return [N, C, H, W] filtered and reduced to [N, C, H // factor, W // factor].

    A constant keeps its value inside; beyond the border there are zeros.
    """
    size = _size(taps)
    padding = [side for length in size[::-1] for side in ((length - factor + 1) // 2, (length - factor) // 2)]
    return upfirdn2d(x, taps, down=factor, padding=tuple(padding), gain=1 / _sum(taps))


def filter2d(
    x: torch.Tensor, taps: Taps = BILINEAR, padding: int | tuple[int, int, int, int] | None = None, gain: float = 1.0
) -> torch.Tensor:
    """Return [N, C, H, W] filtered with the taps scaled to the sum `gain`; zeros beyond the border.

    padding: of upfirdn2d; None keeps height and width.
    """
    if padding is None:
        padding = tuple(side for length in _size(taps)[::-1] for side in (length // 2, (length - 1) // 2))
    return upfirdn2d(x, taps, padding=padding, gain=gain / _sum(taps))


# --- one operator, its own gradient ---------------------------------------------------------------


class _Resample(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, resampling, summed):
        ctx.adjoint, ctx.summed = resampling.adjoint(*x.shape[2:]), summed
        return (_by_sums if summed else _by_convolution)(x, resampling)

    @staticmethod
    def backward(ctx, dy):
        return _Resample.apply(dy, ctx.adjoint, ctx.summed), None, None


@torch.compiler.allow_in_graph  # one node for Dynamo; AOTAutograd traces and differentiates its content
def _resample(x: torch.Tensor, resampling: _Resampling, summed: bool) -> torch.Tensor:
    return _Resample.apply(x, resampling, summed)


# --- the two implementations ----------------------------------------------------------------------


def _by_convolution(x: torch.Tensor, resampling: _Resampling) -> torch.Tensor:
    """Compute one depthwise convolution with the whole filter.

    It is transposed where that avoids the products with inserted zeros. On the CPU it runs at least
    in float32: the library has no transposed depthwise kernel for bf16 (6.9 ms where float32 takes
    0.4, 64 images of 8x16x16).
    """
    if device_type(x) == "cpu" and x.dtype in (torch.bfloat16, torch.float16):
        return _by_convolution(x.float(), resampling).to(x.dtype)
    columns, rows, up, down, padding = resampling
    kernel = torch.tensor(rows, dtype=x.dtype, device=x.device)
    if columns:
        kernel = torch.tensor(columns, dtype=x.dtype, device=x.device).unsqueeze(1) * kernel
    kernel, groups = kernel.expand(x.shape[1], 1, -1, -1), x.shape[1]
    with torch.autocast(x.device.type, enabled=False):
        if up == 1:
            both, rest = _split(padding)
            return F.conv2d(_padded(x, rest), kernel, stride=down, padding=both, groups=groups)
        height, width = resampling.size  # a transposed convolution gives what the padding T - 1, T - up would
        both, rest = _split(
            (width - 1 - padding[0], width - up - padding[1], height - 1 - padding[2], height - up - padding[3])
        )
        y = F.conv_transpose2d(x, kernel.flip(2, 3), stride=up, padding=both, groups=groups)
        return _padded(y, [-side for side in rest])[:, :, ::down, ::down].contiguous(memory_format=format_of(x))


def _split(sides: Sequence[int]) -> tuple[tuple[int, int], list[int]]:
    """Return the padding that a convolution can do by itself, and the rest.

    sides: left, right, top, bottom. The convolution pads both sides alike: (vertical, horizontal).
    """
    left, right, top, bottom = sides
    vertical, horizontal = max(0, min(top, bottom)), max(0, min(left, right))
    return (vertical, horizontal), [left - horizontal, right - horizontal, top - vertical, bottom - vertical]


def _padded(x: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
    return F.pad(x, sides) if any(sides) else x  # torch copies for nothing


def _by_sums(x: torch.Tensor, resampling: _Resampling) -> torch.Tensor:
    """Compute sums of shifted images, one direction after the other.

    A filter that is not separable goes row by row.
    """
    columns, rows, up, down, (left, right, top, bottom) = resampling
    if columns:
        y = _sum_along(_sum_along(x, 2, columns, up, down, top, bottom), 3, rows[0], up, down, left, right)
    else:
        one_row = ([float(other == row) for other in range(len(rows))] for row in range(len(rows)))
        parts = [_sum_along(x, 2, taps, up, down, top, bottom) for taps in one_row]
        y = _total(_sum_along(part, 3, row, up, down, left, right) for part, row in zip(parts, rows, strict=True))
    return y.contiguous(memory_format=format_of(x))  # interleaving has lost it


def _sum_along(
    x: torch.Tensor, dim: int, taps: Sequence[float], up: int, down: int, before: int, after: int
) -> torch.Tensor:
    """Resample along one direction.

    Output sample m * up + p is the sum of taps[t] * x[m + s] over the t that meet a sample:
    p + t - before = s * up. taps: in the order in which they meet the samples.
    """
    length = x.shape[dim]
    num = length * up + before + after - len(taps) + 1  # before samples are dropped
    num_each = -(-num // up)  # of a phase p
    phases = [
        [((p + t - before) // up, tap) for t, tap in enumerate(taps) if (p + t - before) % up == 0 and tap]
        for p in range(up)
    ]
    shifts = [shift for phase in phases for shift, _ in phase] or [0]
    first = min(*shifts, 0)
    last = max(max(shifts) + num_each, length)
    sides = (-first, last - length)
    padded = _padded(x, sides if dim == 3 else (0, 0, *sides))
    step = down if up == 1 else 1
    sums = [_weighted(padded, dim, [(shift - first, tap) for shift, tap in phase], num_each, step) for phase in phases]
    if up == 1:
        return sums[0]
    y = torch.stack(sums, dim + 1).flatten(dim, dim + 1)
    return y.narrow(dim, 0, num)[(slice(None),) * dim + (slice(None, None, down),)]


def _weighted(x: torch.Tensor, dim: int, terms: list[tuple[int, float]], num: int, step: int) -> torch.Tensor:
    """Return the sum of tap * x[start : start + num : step] along `dim` over terms (start, tap)."""
    if not terms:
        return torch.zeros_like(x.narrow(dim, 0, num)[(slice(None),) * dim + (slice(None, None, step),)])
    return _total(x[(slice(None),) * dim + (slice(start, start + num, step),)] * tap for start, tap in terms)


def _total(parts) -> torch.Tensor:
    return functools.reduce(operator.add, parts)


# --- arguments ------------------------------------------------------------------------------------


def _checked(x, taps, up, down, padding, gain) -> _Resampling:
    if not (isinstance(x, torch.Tensor) and x.ndim == 4 and x.is_floating_point()):
        raise UserError("upfirdn2d: x must be a floating point tensor [N, C, H, W].")
    if up < 1 or down < 1:
        raise UserError(f"upfirdn2d: up and down must be 1 or more, not {up} and {down}.")
    padding = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
    if len(padding) != 4:
        raise UserError(
            f"upfirdn2d: padding must be one number or left, right, top, bottom, not {len(padding)} numbers."
        )
    height, width = _size(taps)
    if _is_separable(taps):
        columns, rows = tuple(float(tap) for tap in taps[::-1]), (tuple(gain * float(tap) for tap in taps[::-1]),)
    else:
        columns, rows = (), tuple(tuple(gain * float(tap) for tap in row[::-1]) for row in taps[::-1])
    resampling = _Resampling(columns, rows, up, down, padding)
    if min(resampling.result(x.shape[2], 0), resampling.result(x.shape[3], 1)) < 1:
        raise UserError(
            f"upfirdn2d: the padded image [{x.shape[2]}, {x.shape[3]}] * {up} "
            f"is smaller than the filter [{height}, {width}]."
        )
    return resampling


def _is_separable(taps: Taps) -> bool:
    return not isinstance(taps[0], Sequence)


def _size(taps: Taps) -> tuple[int, int]:
    """Return height and width of a filter."""
    is_filter = isinstance(taps, Sequence) and len(taps) > 0
    if not is_filter or (
        not _is_separable(taps) and (len(taps[0]) == 0 or any(len(row) != len(taps[0]) for row in taps))
    ):
        raise UserError("upfirdn2d: taps must be a sequence of numbers, or of rows of equal length.")
    return (len(taps), len(taps)) if _is_separable(taps) else (len(taps), len(taps[0]))


def _sum(taps: Taps) -> float:
    """Return the sum of all coefficients of a filter."""
    return math.fsum(taps) ** 2 if _is_separable(taps) else math.fsum(tap for row in taps for tap in row)
