"""BatchNorm in training mode with the activation behind it, over equal parts of the batch.

Statistics are those of each of `parts` consecutive equal parts. The sums over the batch are one
launch each, forward and backward, where Triton's kernels run: mean and variance with the running
statistics, and the two sums of the gradient. Element-wise operations are left to torch, so that the
compiler fuses them with the operations before and behind. The reference is torch's own layer.
"""

import functools

import torch
import torch.nn.functional as F

from fastgan.errors import UserError
from fastgan.ops.autograd_queries import is_needed, is_transformed
from fastgan.ops.dispatch import autotune, self_checks
from fastgan.ops.dispatch.device import device_type
from fastgan.ops.leaky_relu_bce import activated

ACTIVATIONS = ("linear", "relu", "leaky_relu")
KERNEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MOST_CHANNELS = 2**17  # of the kernels: TICKETS groups of COLUMNS


def batch_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    momentum: float = 0.1,
    eps: float = 1e-5,
    act: str = "linear",
    slope: float = 0.2,
    parts: int = 1,
) -> torch.Tensor:
    """Return act((x - mean) / sqrt(variance + eps) * weight + bias), like x.

    BatchNorm in training mode (Ioffe and Szegedy, 2015, arXiv 1502.03167), with statistics of each
    part of the batch. x: [N, C] or [N, C, H, W], floating point, N a multiple of parts, two values
    a channel and part at least; sums are float32, or float64 where x is. weight, bias: [C] or None.
    running_mean, running_var: [C] or None, moved in place towards the statistics (the variance
    unbiased) by `momentum`, part by part, as that many calls would. act: linear | relu | leaky_relu
    (`slope` below zero, >= 0). Differentiable to any order in x, weight and bias. Raises UserError
    for anything else.
    """
    _check(x, weight, bias, running_mean, running_var, act, slope, parts)
    slope = {"linear": 1.0, "relu": 0.0, "leaky_relu": float(slope)}[act]
    arguments = (x, weight, bias, running_mean, running_var, float(momentum), float(eps), slope, parts)
    if not _kernels_fit(x, weight, bias, running_mean, running_var) or is_transformed(x, weight, bias):
        return batch_norm_reference(*arguments)
    return _chosen(*arguments)


def batch_norm_reference(x, weight, bias, running_mean, running_var, momentum, eps, slope, parts) -> torch.Tensor:
    """Return the same by torch's BatchNorm, part by part; differentiable."""
    each = [
        F.batch_norm(part, running_mean, running_var, weight, bias, True, momentum, eps)
        for part in (x.chunk(parts) if parts > 1 else (x,))
    ]
    return activated(each[0] if parts == 1 else torch.cat(each), slope)


# --- the form with kernels for the sums -----------------------------------------------------------


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, momentum, eps, slope, parts):
        mean, rstd = _operators().statistics(x, running_mean, running_var, momentum, eps, parts)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.eps, ctx.slope = eps, slope
        return normalised(x, weight, bias, mean, rstd, slope)

    @staticmethod
    def backward(ctx, dy):
        return *gradients(ctx, dy), *(None,) * 6


def gradients(ctx, dy: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """Return the gradients of x, weight and bias.

    They are inputs 0 to 2 of a Function that saved x, weight, bias, mean and rstd.
    """
    x, weight, bias, mean, rstd = ctx.saved_tensors
    dy = dy.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else dy.contiguous()
    if torch.is_grad_enabled():  # create_graph: from x on, so that the next order only has to differentiate this
        mean, rstd = statistics_reference(x, ctx.eps, len(mean))
        sums, totals = gradient_sums_reference(x, dy, mean, rstd, weight, bias, ctx.slope)
    else:
        sums, totals = _operators().gradient_sums(x, dy, mean, rstd, weight, bias, ctx.slope)
    dx = input_gradient(x, dy, mean, rstd, weight, bias, ctx.slope, sums) if is_needed(ctx, 0) else None
    return dx, totals[1] if ctx.needs_input_grad[1] else None, totals[0] if ctx.needs_input_grad[2] else None


# The compiler takes it as one node and differentiates its content, as it does with deconv's.
@torch.compiler.allow_in_graph
def _chosen(x, weight, bias, running_mean, running_var, momentum, eps, slope, parts) -> torch.Tensor:
    """Run the form that autotune.py picks.

    Only the sums are timed: the passes over elements are the compiler's in either form.
    """
    runs = {
        "reference": functools.partial(torch.var_mean, _by_parts(x, parts), _dims(x), correction=0),
        "triton": lambda: _operators().statistics(x, None, None, momentum, eps, parts),
    }
    call = f"{'x'.join(map(str, x.shape))}{f' {parts} parts' * (parts > 1)} {str(x.dtype).removeprefix('torch.')}"
    form = (
        _BatchNorm.apply
        if autotune.pick("batch_norm", call, runs, device_type(x)) == "triton"
        else batch_norm_reference
    )
    return form(x, weight, bias, running_mean, running_var, momentum, eps, slope, parts)


@functools.cache
def _operators():
    from fastgan.ops import batch_norm_triton

    return batch_norm_triton


def _kernels_fit(x: torch.Tensor, *others: torch.Tensor | None) -> bool:
    return device_type(x) == "cuda" and _have_layout(x, *others)


def _have_layout(x: torch.Tensor, *others: torch.Tensor | None) -> bool:
    """Return True if the kernels can read these tensors.

    x must lie row after row, the others must have the dtype of their sums.
    """
    is_dense = x.is_contiguous() if x.ndim == 2 else x.is_contiguous(memory_format=torch.channels_last)
    in_float32 = all(each is None or (each.dtype == torch.float32 and each.is_contiguous()) for each in others)
    return x.dtype in KERNEL_DTYPES and is_dense and in_float32 and x.shape[1] <= MOST_CHANNELS


# --- in torch operations: the element-wise part, and the sums of the kernels ----------------------
# mean and rstd are [parts, C], of the dtype of the sums.


def normalised(x, weight, bias, mean, rstd, slope: float) -> torch.Tensor:
    """Return the result of the layer, like x."""
    return _together(activated(_normalise(x, weight, bias, mean, rstd)[1], slope), x)


def input_gradient(x, dy, mean, rstd, weight, bias, slope: float, sums: torch.Tensor) -> torch.Tensor:
    """Return dx, like x. sums: [2, parts, C], of dz and of dz times the normalised x."""
    centred, _, dz = _before_activation(x, dy, mean, rstd, weight, bias, slope)
    means = sums * (len(mean) * x.shape[1] / x.numel())
    dx = dz - _per_channel(means[0], x) - centred * _per_channel(rstd * means[1], x)
    return _together(dx * _per_channel(rstd if weight is None else rstd * weight, x), x)


def statistics_reference(x, eps: float, parts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (mean, 1 / sqrt(variance + eps)), both [parts, C]; differentiable."""
    variance, mean = torch.var_mean(_by_parts(x, parts).to(_dtype_of_sums(x)), _dims(x), correction=0)
    return mean, (variance + eps).rsqrt()


def gradient_sums_reference(x, dy, mean, rstd, weight, bias, slope: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums of dz and of dz times the normalised x; differentiable.

    Returns ([2, parts, C], the sums of each part; [2, C], those of all parts).
    """
    centred, _, dz = _before_activation(x, dy, mean, rstd, weight, bias, slope)
    sums = torch.stack([dz.sum(_dims(x)), (dz * centred).sum(_dims(x)) * rstd])
    return sums, sums.sum(1)


def _before_activation(
    x, dy, mean, rstd, weight, bias, slope: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (x - mean, z, the gradient dz), by parts; z is the input of the activation."""
    centred, z = _normalise(x, weight, bias, mean, rstd)
    dz = _by_parts(dy, len(mean)).to(z.dtype)
    return centred, z, dz if slope == 1 else torch.where(z > 0, dz, dz * slope)


def _normalise(x, weight, bias, mean, rstd) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (x - mean, (x - mean) * rstd * weight + bias), by parts."""
    centred = _by_parts(x, len(mean)).to(mean.dtype) - _per_channel(mean, x)
    z = centred * _per_channel(rstd if weight is None else rstd * weight, x)
    return centred, z if bias is None else z + _per_channel(bias[None], x)


def _by_parts(x: torch.Tensor, parts: int) -> torch.Tensor:
    """Return [N, C, ...] as [parts, N / parts, C, ...]."""
    return x.unflatten(0, (parts, -1))


def _together(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return y.flatten(0, 1).to(x.dtype)


def _per_channel(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return [parts, C] with the dimensions of x by parts."""
    return values.view(len(values), 1, -1, *[1] * (x.ndim - 2))


def _dims(x: torch.Tensor) -> tuple[int, ...]:
    """Return the dimensions of x by parts that are summed over."""
    return (1, 3, 4)[: x.ndim - 1]


def _dtype_of_sums(x: torch.Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


# --- argument checks ------------------------------------------------------------------------------


def _check(x, weight, bias, running_mean, running_var, act: str, slope: float, parts: int) -> None:
    if x.ndim not in (2, 4) or not x.is_floating_point() or x.numel() == 0:
        raise UserError(f"batch_norm: x must be floating point [N, C] or [N, C, H, W], not {x.dtype} {list(x.shape)}.")
    if parts < 1 or x.shape[0] % parts:
        raise UserError(f"batch_norm: {x.shape[0]} images cannot be cut into {parts} equal parts.")
    if x.numel() // x.shape[1] // parts < 2:
        raise UserError(
            f"batch_norm: x {list(x.shape)} has one value a channel{' and part' * (parts > 1)}, which has no variance."
        )
    if act not in ACTIVATIONS or slope < 0:
        raise UserError(
            f"batch_norm: act is {act!r}, slope {slope}; choose one of {', '.join(ACTIVATIONS)} and a slope >= 0."
        )
    for name, tensor in (
        ("weight", weight),
        ("bias", bias),
        ("running_mean", running_mean),
        ("running_var", running_var),
    ):
        if tensor is not None and (tensor.shape != (x.shape[1],) or tensor.device != x.device):
            where = f"{list(tensor.shape)} on {tensor.device}"
            raise UserError(
                f"batch_norm: {name} must be [{x.shape[1]}] on {x.device} for x {list(x.shape)}, not {where}."
            )
    if (running_mean is None) != (running_var is None):
        raise UserError("batch_norm: running_mean and running_var must be given both, or neither.")


# --- self-check -----------------------------------------------------------------------------------


def self_check(implementation: str, device: torch.device) -> str | None:
    """Compare the sums of both directions with the reference; return the problem, or None.

    The errors of both are measured against float64 results.
    """
    for dtype in KERNEL_DTYPES:
        for shape, parts, slope in (((6, 33, 5, 7), 2, 0.2), ((64, 64, 8, 8), 1, 0.0), ((10, 100), 2, 1.0)):
            problem = _problem_of(dtype, shape, parts, slope, device)
            if problem:
                return f"{problem} ({'x'.join(map(str, shape))}, {parts} parts)"
    return None


def _problem_of(
    dtype: torch.dtype, shape: tuple[int, ...], parts: int, slope: float, device: torch.device
) -> str | None:
    x, dy = (3 + torch.randn(shape, device=device).to(dtype) for _ in range(2))
    x, dy = (each.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else each for each in (x, dy))
    weight, bias, running_mean, running_var = (torch.rand(shape[1], device=device) for _ in range(4))
    running = running_mean.clone(), running_var.clone()
    mean, rstd = _operators().statistics(x, *running, 0.1, 1e-5, parts)
    ours = (mean, rstd, *running, *_operators().gradient_sums(x, dy, mean, rstd, weight, bias, slope))

    def reference(to: torch.dtype) -> tuple[torch.Tensor, ...]:
        wide = [each.to(to) for each in (x, dy, mean, rstd, weight, bias)]
        statistics = running_mean.to(to, copy=True), running_var.to(to, copy=True)
        batch_norm_reference(wide[0], None, None, *statistics, 0.1, 1e-5, 1.0, parts)
        return (*statistics_reference(wide[0], 1e-5, parts), *statistics, *gradient_sums_reference(*wide, slope))

    names = ("mean", "rstd", "running mean", "running variance", "sums of the gradient", "gradients of weight and bias")
    for name, *each in zip(names, ours, reference(torch.float32), reference(torch.float64), strict=True):
        problem = self_checks.three_way_problem(f"{name} of {dtype}", *each)
        if problem:
            return problem
    return None
