"""The layers that double and halve an image, with the BatchNorm statistics of their result.

On CUDA the kernel that computes the image also sums it up, block by block, while it is still in
registers (csrc/deconv_stats.h): no pass reads the image for its mean and variance alone. The sums
of the blocks are combined in an order that is always the same.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from fastgan.errors import UserError
from fastgan.ops.autograd_queries import is_needed, is_transformed
from fastgan.ops.deconv import implementations, operator
from fastgan.ops.deconv.meta import fake_down, fake_up
from fastgan.ops.dispatch import autotune, self_checks
from fastgan.ops.dispatch.device import device_type
from fastgan.ops.memory_formats import format_of

BLOCK_ROWS = 64  # as csrc/deconv_stats.h has it
CHANNELS = 8  # both channel counts must be multiples of it
CUDA_DTYPES = (torch.float16, torch.bfloat16)

Result = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # image, mean and rstd
Forms = dict[str, Callable[[], Result]]


class Norm(NamedTuple):
    """The part of a BatchNorm that concerns its statistics.

    running_mean and running_var (float32 [C], or both None) move towards the statistics.
    """

    eps: float = 1e-5
    momentum: float = 0.1
    running_mean: torch.Tensor | None = None
    running_var: torch.Tensor | None = None


def up_with_stats(
    small: torch.Tensor, weight: torch.Tensor, size: tuple[int, int], parts: int = 1, norm: Norm | None = None
) -> Result:
    """Return (big, mean, rstd) of up(small, weight) and the statistics of its parts.

    big = up(small, weight) [N, K, *size]; mean and rstd are [parts, K]. small [N, C, h, w], weight
    [C, K, 4, 4], of one floating point dtype; size: (2h or 2h + 1, 2w or 2w + 1). A batch is
    `parts` consecutive equal parts, two values a channel and part at least. rstd is
    1 / sqrt(variance + eps), the variance biased; both are of big's values as they are rounded, in
    float32 (float64 for float64). norm: Norm() where None; its running statistics move part by
    part, the variance unbiased. big is differentiable to any order in small and weight; mean and
    rstd are constants, and a caller that uses them as functions of big differentiates them itself.
    Raises UserError for anything else.
    """
    norm = norm or Norm()
    _check("up_with_stats", small, weight, 0, parts, len(small) * size[0] * size[1])
    if is_transformed(small, weight):
        return _with_statistics(implementations.up_reference(small, weight, None, size, "linear", 0.0), parts, norm)
    return _up(small, weight, size, parts, *norm)


def down_with_stats(big: torch.Tensor, weight: torch.Tensor, parts: int = 1, norm: Norm | None = None) -> Result:
    """Return (small, mean, rstd): small = down(big, weight) [N, C, H // 2, W // 2].

    The rest is as for up_with_stats.
    """
    norm = norm or Norm()
    _check("down_with_stats", big, weight, 1, parts, len(big) * (big.shape[2] // 2) * (big.shape[3] // 2))
    if is_transformed(big, weight):
        return _with_statistics(implementations.down_reference(big, weight, None, "linear", 0.0), parts, norm)
    return _down(big, weight, parts, *norm)


# --- the gradients are those of the layers without statistics -------------------------------------


class UpWithStats(torch.autograd.Function):
    """up_with_stats by one form of up_forms."""

    @staticmethod
    def forward(ctx, small, weight, size, parts, form, *norm):
        big, mean, rstd = up_forms(small, weight, size, parts, Norm(*norm))[form]()
        ctx.mark_non_differentiable(mean, rstd)
        ctx.save_for_backward(small, weight)
        return big, mean, rstd

    @staticmethod
    def backward(ctx, dbig, *_):
        small, weight = ctx.saved_tensors
        dsmall = operator._down(dbig, weight, None, "linear", 0.0) if is_needed(ctx, 0) else None
        dweight = operator._weight(small, dbig) if is_needed(ctx, 1) else None
        return dsmall, dweight, *(None,) * 7


class DownWithStats(torch.autograd.Function):
    """down_with_stats by one form of down_forms."""

    @staticmethod
    def forward(ctx, big, weight, parts, form, *norm):
        small, mean, rstd = down_forms(big, weight, parts, Norm(*norm))[form]()
        ctx.mark_non_differentiable(mean, rstd)
        ctx.save_for_backward(big, weight)
        return small, mean, rstd

    @staticmethod
    def backward(ctx, dsmall, *_):
        big, weight = ctx.saved_tensors
        dbig = operator._up(dsmall, weight, None, tuple(big.shape[2:]), "linear", 0.0) if is_needed(ctx, 0) else None
        dweight = operator._weight(dsmall, big) if is_needed(ctx, 1) else None
        return dbig, dweight, *(None,) * 6


# The compiler takes each as one node, as it does deconv's own. A call that autotune.py times must
# change nothing, so it has no running statistics.


@torch.compiler.allow_in_graph
def _up(small, weight, size, parts, *norm) -> Result:
    forms = up_forms(small, weight, size, parts, Norm(*norm[:2]))
    call = call_of(f"up to {size[0]}x{size[1]}", small, weight, parts)
    form = autotune.pick("deconv_stats", call, forms, device_type(small))
    return UpWithStats.apply(small, weight, size, parts, form, *norm)


@torch.compiler.allow_in_graph
def _down(big, weight, parts, *norm) -> Result:
    forms = down_forms(big, weight, parts, Norm(*norm[:2]))
    form = autotune.pick("deconv_stats", call_of("down", big, weight, parts), forms, device_type(big))
    return DownWithStats.apply(big, weight, parts, form, *norm)


def call_of(direction: str, image: torch.Tensor, weight: torch.Tensor, parts: int) -> str:
    """Return the kind of a call in words, for autotune.pick."""
    shapes = " ".join("x".join(map(str, tensor.shape)) for tensor in (image, weight))
    like = " ".join(str(each).removeprefix("torch.") for each in (image.dtype, format_of(image)))
    return f"{direction} {shapes} {parts} parts {like}"


# --- the forms ------------------------------------------------------------------------------------


def up_forms(small: torch.Tensor, weight: torch.Tensor, size: tuple[int, int], parts: int, norm: Norm) -> Forms:
    """Return (up(small, weight), mean, rstd) by every form that fits.

    The reference computes the sums from the result of the layer.
    """
    forms = {"reference": lambda: _with_statistics(operator._up(small, weight, None, size, "linear", 0.0), parts, norm)}
    return forms | {"cuda": lambda: _up_native(small, weight, size, parts, norm)} if fits(small, weight) else forms


def down_forms(big: torch.Tensor, weight: torch.Tensor, parts: int, norm: Norm) -> Forms:
    """Return (down(big, weight), mean, rstd) by every form that fits."""
    forms = {"reference": lambda: _with_statistics(operator._down(big, weight, None, "linear", 0.0), parts, norm)}
    return forms | {"cuda": lambda: _down_native(big, weight, parts, norm)} if fits(big, weight) else forms


def fits(*tensors: torch.Tensor) -> bool:
    """Return True if the CUDA kernels take these tensors.

    They run on tensor cores and read 16 bytes at a time.
    """
    image, weight = tensors
    is_aligned = all(tensor.storage_offset() * tensor.element_size() % 16 == 0 for tensor in tensors)
    return device_type(image) == "cuda" and image.dtype in CUDA_DTYPES and channels_fit(weight) and is_aligned


def channels_fit(weight: torch.Tensor) -> bool:
    """Return True if the CUDA kernels take a weight [C, K, 4, 4]."""
    return weight.shape[0] % CHANNELS == 0 and weight.shape[1] % CHANNELS == 0


def _up_native(small, weight, size, parts: int, norm: Norm) -> Result:
    big, partial = torch.ops.fastgan.deconv_up_stats(_nhwc(small), _nhwc(weight), *size, parts)
    mean, rstd = _finish(partial, norm, len(small) // parts, *size, 4)
    return big.contiguous(memory_format=format_of(small)), mean, rstd


def _down_native(big, weight, parts: int, norm: Norm) -> Result:
    small, partial = torch.ops.fastgan.deconv_down_stats(_nhwc(big), _nhwc(weight), parts)
    mean, rstd = _finish(partial, norm, len(big) // parts, *small.shape[2:], 1)
    return small.contiguous(memory_format=format_of(big)), mean, rstd


def _finish(
    partial, norm: Norm, images: int, height: int, width: int, phases: int
) -> tuple[torch.Tensor, torch.Tensor]:
    running = norm.running_mean, norm.running_var
    return torch.ops.fastgan.batch_stats_finish(
        partial, *running, images, height, width, phases, norm.momentum, norm.eps
    )


def _with_statistics(image: torch.Tensor, parts: int, norm: Norm) -> Result:
    return image, *statistics(image, parts, norm)


@torch.no_grad()
def statistics(image: torch.Tensor, parts: int, norm: Norm) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (mean, rstd) [parts, C] of an image [N, C, H, W] in torch operations.

    The running statistics are moved.
    """
    wide = image.unflatten(0, (parts, -1)).to(torch.promote_types(image.dtype, torch.float32))
    var, mean = torch.var_mean(wide, (1, 3, 4), correction=0)
    if norm.running_mean is not None:
        count = image.numel() // image.shape[1] // parts
        for part in range(parts):
            norm.running_mean.lerp_(mean[part].to(norm.running_mean.dtype), norm.momentum)
            norm.running_var.lerp_((var[part] * (count / (count - 1))).to(norm.running_var.dtype), norm.momentum)
    return mean, (var + norm.eps).rsqrt()


def _nhwc(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


# --- argument checks ------------------------------------------------------------------------------


def _check(name: str, x: torch.Tensor, weight: torch.Tensor, rows_dim: int, parts: int, num_values: int) -> None:
    if x.ndim != 4 or weight.ndim != 4 or weight.shape[2:] != (4, 4) or x.shape[1] != weight.shape[rows_dim]:
        raise UserError(
            f"{name}: x must be [N, C, H, W] and weight [C, K, 4, 4] of as many channels, "
            f"not {list(x.shape)} and {list(weight.shape)}."
        )
    if x.dtype != weight.dtype or x.device != weight.device or not x.is_floating_point():
        kinds = f"{x.dtype} {x.device} and {weight.dtype} {weight.device}"
        raise UserError(f"{name}: x and weight must be of one floating point dtype on one device, not {kinds}.")
    if parts < 1 or len(x) % parts or len(x) == 0:
        raise UserError(f"{name}: {len(x)} images cannot be cut into {parts} equal parts.")
    if num_values // parts < 2:
        raise UserError(f"{name}: x {list(x.shape)} gives one value a channel and part, of which there is no variance.")


# Shapes of the kernels' results, for the compiler.


def fake_up_stats(small, weight, height, width, parts) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the result of deconv_up_stats without values."""
    big = fake_up(small, weight, None, height, width, 0, 0.0)
    return big, _fake_partial(big, parts, 4 * _blocks(len(small) // parts * ((height + 1) // 2) * ((width + 1) // 2)))


def fake_down_stats(big, weight, parts) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the result of deconv_down_stats without values."""
    small = fake_down(big, weight, None, 0, 0.0)
    return small, _fake_partial(small, parts, _blocks(len(big) // parts * small.shape[2] * small.shape[3]))


def fake_finish(
    partial, running_mean, running_var, images, height, width, phases, momentum, eps
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the result of batch_stats_finish without values."""
    parts, _, channels, _ = partial.shape
    return partial.new_empty(parts, channels), partial.new_empty(parts, channels)


def _fake_partial(image: torch.Tensor, parts: int, blocks: int) -> torch.Tensor:
    return image.new_empty((parts, blocks, image.shape[1], 2), dtype=torch.float32)


def _blocks(rows: int) -> int:
    return (rows + BLOCK_ROWS - 1) // BLOCK_ROWS


def register_in_torch() -> None:
    """Register the library's operators with the compiler; called once, after the library loaded."""
    for name, fake in (
        ("deconv_up_stats", fake_up_stats),
        ("deconv_down_stats", fake_down_stats),
        ("batch_stats_finish", fake_finish),
    ):
        torch.library.register_fake(f"fastgan::{name}", fake)


# --- self-check -----------------------------------------------------------------------------------


def self_check(implementation: str, device: torch.device) -> str | None:
    """Compare images and statistics of both directions with torch's; return the problem, or None.

    The errors of both are measured against float64 results.
    """
    for dtype in CUDA_DTYPES:
        for batch, channels, others, height, width, parts in ((6, 40, 24, 5, 7, 2), (4, 64, 128, 8, 8, 1)):
            sizes = ((batch, channels, height, width), (batch, others, 2 * height, 2 * width), (channels, others, 4, 4))
            tensors = [_nhwc(torch.randn(size, device=device).to(dtype)) for size in sizes]
            for direction in ("up", "down"):
                problem = _problem_of(implementation, direction, *tensors, parts)
                if problem:
                    return problem
    return None


def _problem_of(implementation: str, direction: str, small, big, weight, parts: int) -> str | None:
    channels = weight.shape[1 if direction == "up" else 0]

    def run(name: str, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        sums = torch.float64 if dtype == torch.float64 else torch.float32
        norm = Norm(1e-5, 0.3, *(torch.linspace(0, 3, channels, device=weight.device, dtype=sums) for _ in range(2)))
        images = [tensor.to(dtype) for tensor in (small, big, weight)]
        if direction == "up":
            image = implementations.up_reference(images[0], images[2], None, tuple(big.shape[2:]), "linear", 0.0)
            forms = up_forms(images[0], images[2], tuple(big.shape[2:]), parts, norm)
        else:
            image = implementations.down_reference(images[1], images[2], None, "linear", 0.0)
            forms = down_forms(images[1], images[2], parts, norm)
        found = _with_statistics(image, parts, norm) if name == "reference" else forms[name]()
        return *found, norm.running_mean, norm.running_var

    ours, reference, truth = (
        run(implementation, small.dtype),
        run("reference", small.dtype),
        run("reference", torch.float64),
    )
    for what, *each in zip(
        ("image", "mean", "rstd", "running mean", "running variance"), ours, reference, truth, strict=True
    ):
        problem = self_checks.three_way_problem(f"the {what} of {direction} in {small.dtype}", *each)
        if problem:
            return problem
    return None
