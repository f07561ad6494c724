"""The layers that double and halve an image: kernel 4, stride 2, padding 1.

Bias and activation are included. A transposed convolution, a convolution and their weight gradient
are the three derivatives of one trilinear form, so the gradients of each are the other two, to any
order. For each of the three, and for every kind of call, autotune.py picks the form that computes
it.
"""
from collections.abc import Callable

import torch

from fastgan.errors import UserError
from fastgan.ops.autograd_queries import is_needed, is_transformed
from fastgan.ops.deconv import implementations
from fastgan.ops.deconv.implementations import ACTIVATIONS
from fastgan.ops.dispatch import autotune, self_checks
from fastgan.ops.dispatch.device import device_type
from fastgan.ops.memory_formats import format_of


def deconv(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, act: str = "linear", slope: float = 0.2
) -> torch.Tensor:
    """Return act(conv_transpose2d(x, weight, bias, stride=2, padding=1)).

    x [N, C, h, w] -> [N, K, 2h, 2w], in the memory format of x. An image of one channel, which lies
    in both formats at once, counts as channels_last. weight: [C, K, 4, 4], the layout of
    ConvTranspose2d. bias: [K] or None. act: linear | relu | leaky_relu (`slope` below zero) | tanh.
    All on one device; float64, float32, float16 or bfloat16, under autocast cast to its dtype.
    Differentiable to any order in x, weight and bias. Raises UserError for anything else.
    """
    x, weight, bias = _checked("deconv", x, weight, bias, 0, act)
    if is_transformed(x, weight, bias):
        return implementations.up_reference(x, weight, bias, _doubled(x), act, slope)
    return _up(x, weight, bias, _doubled(x), act, slope)


def strided_conv(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, act: str = "linear", slope: float = 0.2
) -> torch.Tensor:
    """Return act(conv2d(x, weight, bias, stride=2, padding=1)).

    x [N, K, H, W] -> [N, C, H // 2, W // 2], in the memory format of x. weight: [C, K, 4, 4], the
    layout of Conv2d. bias: [C] or None. The rest is as for deconv.
    """
    x, weight, bias = _checked("strided_conv", x, weight, bias, 1, act)
    if x.shape[2] < 2 or x.shape[3] < 2:
        raise UserError(f"strided_conv: x is {list(x.shape)}; its height and width must be 2 or more.")
    if is_transformed(x, weight, bias):
        return implementations.down_reference(x, weight, bias, act, slope)
    return _down(x, weight, bias, act, slope)


def project(
    z: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, act: str = "linear", slope: float = 0.2
) -> torch.Tensor:
    """Return act(conv_transpose2d(z, weight, bias)) of one pixel, as a matrix product.

    z [N, C, 1, 1] -> [N, K, 4, 4]. weight: [C, K, 4, 4]. The convolution would look for 15 more
    pixels. The result has the memory format of the weight; the rest is as for deconv.
    """
    z, weight, bias = _checked("project", z, weight, bias, 0, act)
    if z.shape[2:] != (1, 1):
        raise UserError(f"project: z is {list(z.shape)}; it must be [N, C, 1, 1].")
    if format_of(weight) == torch.channels_last:
        columns = weight.permute(0, 2, 3, 1)  # [C, 4, 4, K], in the order of memory
        y = (z.flatten(1) @ columns.flatten(1)).view(-1, *columns.shape[1:]).permute(0, 3, 1, 2)
    else:
        y = (z.flatten(1) @ weight.flatten(1)).view(-1, *weight.shape[1:])
    return implementations.activate(y if bias is None else y + bias.view(1, -1, 1, 1), act, slope)


# --- the three operators, each with the other two as its gradients --------------------------------


class _Up(torch.autograd.Function):
    @staticmethod
    def forward(ctx, small, weight, bias, size, act, slope):
        forms = implementations.up_forms(small, weight, bias, size, act, slope)
        big = _run(forms, f"up to {size[0]}x{size[1]} {act}{' bias' * (bias is not None)}", small, weight)
        ctx.save_for_backward(small, weight, big if act != "linear" else None)
        ctx.act, ctx.slope = act, slope
        return big

    @staticmethod
    def backward(ctx, dbig):
        small, weight, big = ctx.saved_tensors
        dbig = _through_activation(dbig, big, ctx.act, ctx.slope)
        dsmall = _down(dbig, weight, None, "linear", 0.0) if is_needed(ctx, 0) else None
        dweight = _weight(small, dbig) if is_needed(ctx, 1) else None
        dbias = dbig.sum((0, 2, 3)) if is_needed(ctx, 2) else None
        return dsmall, dweight, dbias, None, None, None


class _Down(torch.autograd.Function):
    @staticmethod
    def forward(ctx, big, weight, bias, act, slope):
        forms = implementations.down_forms(big, weight, bias, act, slope)
        small = _run(forms, f"down {act}{' bias' * (bias is not None)}", big, weight)
        ctx.save_for_backward(big, weight, small if act != "linear" else None)
        ctx.act, ctx.slope = act, slope
        return small

    @staticmethod
    def backward(ctx, dsmall):
        big, weight, small = ctx.saved_tensors
        dsmall = _through_activation(dsmall, small, ctx.act, ctx.slope)
        dbig = _up(dsmall, weight, None, tuple(big.shape[2:]), "linear", 0.0) if is_needed(ctx, 0) else None
        dweight = _weight(dsmall, big) if is_needed(ctx, 1) else None
        dbias = dsmall.sum((0, 2, 3)) if is_needed(ctx, 2) else None
        return dbig, dweight, dbias, None, None


class _Weight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, small, big):
        ctx.save_for_backward(small, big)
        return _run(implementations.weight_forms(small, big), "weight", small, big)

    @staticmethod
    def backward(ctx, dweight):
        small, big = ctx.saved_tensors
        dsmall = _down(big, dweight, None, "linear", 0.0) if is_needed(ctx, 0) else None
        dbig = _up(small, dweight, None, tuple(big.shape[2:]), "linear", 0.0) if is_needed(ctx, 1) else None
        return dsmall, dbig


# The compiler takes each as one node and differentiates its content: the form was chosen before, by
# the eager steps that precede training.


@torch.compiler.allow_in_graph
def _up(small, weight, bias, size, act, slope) -> torch.Tensor:
    return _Up.apply(small, weight, bias, size, act, slope)


@torch.compiler.allow_in_graph
def _down(big, weight, bias, act, slope) -> torch.Tensor:
    return _Down.apply(big, weight, bias, act, slope)


@torch.compiler.allow_in_graph
def _weight(small, big) -> torch.Tensor:
    return _Weight.apply(small, big)


def _run(
    forms: dict[str, Callable[[], torch.Tensor]], direction: str, first: torch.Tensor, second: torch.Tensor
) -> torch.Tensor:
    """Return the result of the form that autotune.py picks for such tensors."""
    shapes = " ".join("x".join(map(str, tensor.shape)) for tensor in (first, second))
    call = (
        f"{direction} {shapes} {str(first.dtype).removeprefix('torch.')} {str(format_of(first)).removeprefix('torch.')}"
    )
    return forms[autotune.pick("deconv", call, forms, device_type(first))]()


def _through_activation(dy: torch.Tensor, y: torch.Tensor | None, act: str, slope: float) -> torch.Tensor:
    """Return the gradient before the activation.

    The sign of an element before the activation shows in y (slope >= 0).
    """
    if act == "linear":
        return dy
    if act == "tanh":
        return dy * (1 - y * y)
    return torch.where(y > 0, dy, dy * (0.0 if act == "relu" else slope))


# --- argument checks ------------------------------------------------------------------------------


def _checked(
    name: str, x, weight, bias, rows_dim: int, act: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return the arguments in the dtype of autocast, if that is on.

    rows_dim: the dimension of weight that holds the channels of x.
    """
    if x.ndim != 4 or weight.ndim != 4 or weight.shape[2:] != (4, 4):
        raise UserError(
            f"{name}: x must be [N, C, H, W] and weight [C, K, 4, 4], not {list(x.shape)} and {list(weight.shape)}."
        )
    if x.shape[1] != weight.shape[rows_dim] or 0 in x.shape[1:] or 0 in weight.shape:
        raise UserError(
            f"{name}: x {list(x.shape)} and weight {list(weight.shape)} do not fit: "
            f"{weight.shape[rows_dim]} channels are needed."
        )
    if bias is not None and bias.shape != (weight.shape[1 - rows_dim],):
        raise UserError(
            f"{name}: bias must be [{weight.shape[1 - rows_dim]}] for weight {list(weight.shape)}, "
            f"not {list(bias.shape)}."
        )
    if act not in ACTIVATIONS:
        raise UserError(f"{name}: act is {act!r}; choose one of {', '.join(ACTIVATIONS)}.")
    tensors = [x, weight] + ([] if bias is None else [bias])
    if len({tensor.device for tensor in tensors}) > 1:
        raise UserError(
            f"{name}: x, weight and bias must be on one device, "
            f"not on {', '.join(str(tensor.device) for tensor in tensors)}."
        )
    if torch.is_autocast_enabled(x.device.type):
        tensors = [tensor.to(torch.get_autocast_dtype(x.device.type)) for tensor in tensors]
    if len({tensor.dtype for tensor in tensors}) > 1 or not tensors[0].is_floating_point():
        raise UserError(
            f"{name}: x, weight and bias must be of one floating point dtype, "
            f"not {', '.join(str(tensor.dtype) for tensor in tensors)}."
        )
    return tensors[0], tensors[1], None if bias is None else tensors[2]


def _doubled(x: torch.Tensor) -> tuple[int, int]:
    return 2 * x.shape[2], 2 * x.shape[3]


# --- self-check -----------------------------------------------------------------------------------


def self_check(implementation: str, device: torch.device) -> str | None:
    """Compare the three operators with the library's; return the problem, or None.

    The operators are also each other's gradients. The errors of both are measured against float64
    results.
    """
    for dtype in implementations.LIBRARY_DTYPES[device.type]:
        for batch, channels, few, height, width in ((3, 17, 3, 5, 6), (4, 64, 64, 8, 8)):
            sizes = (
                (batch, channels, height, width),
                (batch, few, 2 * height, 2 * width),
                (channels, few, 4, 4),
                (few,),
            )
            small, big, weight, bias = (torch.randn(size, device=device).to(dtype) for size in sizes)
            images = [tensor.contiguous(memory_format=torch.channels_last) for tensor in (small, big, weight)]
            problem = _problem_of(implementation, *images, bias)
            if problem:
                return problem
    return None


def _problem_of(implementation: str, small, big, weight, bias) -> str | None:
    def calls(cast: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, dict[str, Callable[[], torch.Tensor]]]:
        s, b, w, each_bias = cast(small), cast(big), cast(weight), cast(bias)
        return {
            "up": implementations.up_forms(
                s, w, each_bias, tuple(b.shape[2:]), "tanh" if w.shape[1] < 32 else "relu", 0.2
            ),
            "down": implementations.down_forms(b, w, None, "leaky_relu", 0.2),
            "weight": implementations.weight_forms(s, b),
        }

    truths = calls(lambda tensor: tensor.double())
    for direction, forms in calls(lambda tensor: tensor).items():
        if implementation in forms:
            results = forms[implementation](), forms["reference"](), truths[direction]["reference"]()
            problem = self_checks.three_way_problem(f"{direction} in {small.dtype}", *results)
            if problem:
                return problem
    return None
