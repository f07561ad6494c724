"""Bias, activation, gain and clamp in one pass over memory.

Eager calls run a native kernel where one fits. Compiled code traces the reference instead: the
compiler fuses it with the operations around it, which is impossible with our kernels.
"""
import math

import torch
import torch.nn.functional as F

from fastgan.errors import UserError
from fastgan.ops.autograd_queries import is_transformed
from fastgan.ops.dispatch import self_checks

ACTIVATIONS = ("linear", "relu", "leaky_relu")
NATIVE_DTYPES = {
    "cpu": (torch.float32, torch.float64),
    "cuda": (torch.float32, torch.float16, torch.bfloat16),
}


def bias_act(
    x: torch.Tensor,
    bias: torch.Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    slope: float = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
) -> torch.Tensor:
    """Return clamp(act(x + bias) * gain, -clamp, clamp).

    The result has the shape, dtype and memory order of `x`; differentiable to any order. x:
    floating point, any shape. bias: [x.shape[dim]], cast to the dtype of x. act: linear, relu or
    leaky_relu. slope: of leaky_relu below zero, >= 0. gain: > 0. clamp: > 0, None = no clamp; no
    gradient flows where it acts. Raises UserError for anything else.
    """
    _check(x, bias, dim, act, slope, gain, clamp)
    if bias is not None:
        bias = bias.to(x.dtype)
    if torch.compiler.is_compiling() or not _native_fits(x, bias):
        return bias_act_reference(x, bias, dim, act, slope, gain, clamp)
    negative_slope = {"linear": 1.0, "relu": 0.0, "leaky_relu": slope}[act]
    return torch.ops.fastgan.bias_act(x, bias, dim % x.ndim, negative_slope, gain, math.inf if clamp is None else clamp)


def bias_act_reference(
    x: torch.Tensor,
    bias: torch.Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    slope: float = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
) -> torch.Tensor:
    """Return the same in torch operations, for every device and dtype; see bias_act."""
    if bias is not None:
        x = x + bias.to(x.dtype).view([-1 if d == dim % x.ndim else 1 for d in range(x.ndim)])
    if act == "relu":
        x = F.relu(x)
    elif act == "leaky_relu":
        x = F.leaky_relu(x, slope)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def register_in_torch() -> None:
    """Register shapes and gradients of native operators; called once, after the library loaded."""
    torch.library.register_fake("fastgan::bias_act", lambda x, bias, dim, slope, gain, clamp: torch.empty_like(x))
    torch.library.register_fake("fastgan::bias_act_backward", lambda dy, y, slope, gain, clamp: torch.empty_like(y))
    torch.library.register_autograd("fastgan::bias_act", _backward, setup_context=_save)
    torch.library.register_autograd("fastgan::bias_act_backward", _double_backward, setup_context=_save_for_double)


def self_check(implementation: str, device: torch.device) -> str | None:
    """Compare values and gradients of a kernel with the reference; return the problem, or None.

    The errors of both are measured against float64 results.
    """
    x, bias, dy = (
        torch.randn(3, 5, 7, 9, device=device),
        torch.randn(5, device=device),
        torch.randn(3, 5, 7, 9, device=device),
    )
    rest = (1, "leaky_relu", 0.2, 1.5, 2.0)
    for dtype in NATIVE_DTYPES[implementation]:
        x, bias, dy = x.to(dtype), bias.to(dtype), dy.to(dtype)
        y = torch.ops.fastgan.bias_act(x, bias, rest[0], *rest[2:])
        ours = y, torch.ops.fastgan.bias_act_backward(dy, y, *rest[2:])
        reference, truth = (
            _value_and_gradient(*(tensor.to(t) for tensor in (x, bias, dy)), rest) for t in (dtype, torch.float64)
        )
        for what, *each in zip(("the value", "the gradient"), ours, reference, truth, strict=True):
            problem = self_checks.three_way_problem(f"{what} in {dtype}", *each)
            if problem:
                return problem
    return None


def _value_and_gradient(x, bias, dy, rest) -> tuple[torch.Tensor, torch.Tensor]:
    y, gradient = torch.func.vjp(lambda x: bias_act_reference(x, bias, *rest), x)
    return y, gradient(dy)[0]


def _check(x, bias, dim, act, slope, gain, clamp) -> None:
    if not x.is_floating_point():
        raise UserError(f"bias_act: x must be floating point, not {x.dtype}.")
    if not -x.ndim <= dim < x.ndim:
        raise UserError(f"bias_act: dim is {dim}, but x has {x.ndim} dimensions.")
    if bias is not None and bias.shape != (x.shape[dim],):
        raise UserError(
            f"bias_act: bias must have shape [{x.shape[dim]}], the size of dimension {dim} of x, "
            f"not {list(bias.shape)}."
        )
    if act not in ACTIVATIONS:
        raise UserError(f"bias_act: act is {act!r}; choose one of {', '.join(ACTIVATIONS)}.")
    if slope < 0 or gain <= 0 or (clamp is not None and clamp <= 0):
        raise UserError(
            f"bias_act: slope must be >= 0, gain > 0 and clamp > 0 or None, not {slope}, {gain} and {clamp}."
        )


def _native_fits(x: torch.Tensor, bias: torch.Tensor | None) -> bool:
    return (
        x.dtype in NATIVE_DTYPES.get(x.device.type, ())
        and (bias is None or (bias.device == x.device and bias.is_contiguous()))
        and (x.is_contiguous() or _is_channels_last(x))
        and not is_transformed(x, bias)
        and self_checks.problem("bias_act", x.device.type, x.device.type) is None
    )


def _is_channels_last(x: torch.Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _in_memory_order_of(y: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    return dy.contiguous() if y.is_contiguous() else dy.contiguous(memory_format=torch.channels_last)


# The side of zero and of the clamp of an element shows in y, so only y is kept for the gradient.
def _save(ctx, inputs, output) -> None:
    x, bias, dim, *ctx.activation = inputs
    ctx.save_for_backward(output)
    ctx.has_bias, ctx.other_dims = bias is not None, [d for d in range(x.ndim) if d != dim]


def _backward(ctx, dy):
    (y,) = ctx.saved_tensors
    dx = torch.ops.fastgan.bias_act_backward(_in_memory_order_of(y, dy), y, *ctx.activation)
    dbias = dx.sum(ctx.other_dims) if ctx.has_bias and ctx.needs_input_grad[1] else None
    return dx, dbias, None, None, None, None


def _save_for_double(ctx, inputs, output) -> None:
    _, y, *ctx.activation = inputs
    ctx.save_for_backward(y)


def _double_backward(ctx, ddx):
    # The gradient is linear in dy and, almost everywhere, does not change with y.
    (y,) = ctx.saved_tensors
    return torch.ops.fastgan.bias_act_backward(_in_memory_order_of(y, ddx), y, *ctx.activation), None, None, None, None
