"""The layers that double and halve an image, fused with BatchNorm and activation.

Where the kernels of stats.py and batch_norm.py fit a call and autotune.py finds them faster, the
kernel that computes the image also computes its statistics. Everywhere else it is one layer behind
the other.
"""

from collections.abc import Callable

import torch

from fastgan.ops import batch_norm as batch_norms
from fastgan.ops.autograd_queries import is_transformed
from fastgan.ops.batch_norm import batch_norm
from fastgan.ops.deconv import operator, stats
from fastgan.ops.deconv.stats import DownWithStats, Norm, UpWithStats
from fastgan.ops.dispatch import autotune, self_checks
from fastgan.ops.dispatch.device import device_type

SLOPES = {"linear": 1.0, "relu": 0.0}  # below zero; leaky_relu has an argument


def deconv_batch_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    gain: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    momentum: float = 0.1,
    eps: float = 1e-5,
    act: str = "linear",
    slope: float = 0.2,
    parts: int = 1,
) -> torch.Tensor:
    """Return batch_norm(deconv(x, weight), gain, bias, ...), like x.

    x [N, C, h, w] -> [N, K, 2h, 2w]. weight: [C, K, 4, 4]; gain and bias are weight and bias of
    batch_norm, [K] or None. Shapes, dtypes, errors and orders of gradient are those of
    deconv.deconv and batch_norm.batch_norm.
    """
    rest = (gain, bias, running_mean, running_var)
    if not _fits(x, weight, rest, 1, act, parts):
        return batch_norm(operator.deconv(x, weight), *rest, momentum, eps, act, slope, parts)
    x, weight, _ = operator._checked("deconv", x, weight, None, 0, act)
    return _chosen("up", x, weight, *rest, float(momentum), float(eps), SLOPES.get(act, slope), parts)


def strided_conv_batch_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    gain: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    momentum: float = 0.1,
    eps: float = 1e-5,
    act: str = "linear",
    slope: float = 0.2,
    parts: int = 1,
) -> torch.Tensor:
    """Return batch_norm(strided_conv(x, weight), gain, bias, ...), like x.

    x [N, K, H, W] -> [N, C, H // 2, W // 2]. weight: [C, K, 4, 4]; gain and bias: [C] or None. The
    rest is as for deconv_batch_norm.
    """
    rest = (gain, bias, running_mean, running_var)
    if not _fits(x, weight, rest, 0, act, parts):
        return batch_norm(operator.strided_conv(x, weight), *rest, momentum, eps, act, slope, parts)
    x, weight, _ = operator._checked("strided_conv", x, weight, None, 1, act)
    return _chosen("down", x, weight, *rest, float(momentum), float(eps), SLOPES.get(act, slope), parts)


class _Normalise(torch.autograd.Function):
    """BatchNorm with the statistics that were computed with its image.

    The statistics are functions of the image, and are differentiated as such.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, mean, rstd, eps, slope):
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.eps, ctx.slope = eps, slope
        return batch_norms.normalised(x, weight, bias, mean, rstd, slope)

    @staticmethod
    def backward(ctx, dy):
        return *batch_norms.gradients(ctx, dy), *(None,) * 4


# The compiler takes it as one node and differentiates its content, as it does with deconv's.
@torch.compiler.allow_in_graph
def _chosen(direction, x, weight, gain, bias, running_mean, running_var, momentum, eps, slope, parts) -> torch.Tensor:
    """Run the form that autotune.py picks.

    Image and sums are timed: the pass over the elements is the same in either form.
    """
    size = (2 * x.shape[2], 2 * x.shape[3])
    runs = _runs(direction, x, weight, size, momentum, eps, parts)
    call = f"{stats.call_of(direction, x, weight, parts)} and batch_norm"
    form = autotune.pick("deconv_stats", call, runs, device_type(x))
    norm = Norm(eps, momentum, running_mean, running_var)
    if form == autotune.REFERENCE:
        plain = (
            operator._up(x, weight, None, size, "linear", 0.0)
            if direction == "up"
            else operator._down(x, weight, None, "linear", 0.0)
        )
        return batch_norms._chosen(plain, gain, bias, running_mean, running_var, momentum, eps, slope, parts)
    if direction == "up":
        image, mean, rstd = UpWithStats.apply(x, weight, size, parts, form, *norm)
    else:
        image, mean, rstd = DownWithStats.apply(x, weight, parts, form, *norm)
    return _Normalise.apply(image, gain, bias, mean, rstd, eps, slope)


def _runs(direction: str, x, weight, size, momentum: float, eps: float, parts: int) -> dict[str, Callable[[], object]]:
    """Return the calls to time, by form.

    The forms are the fastest form of the layer with the kernel of the sums, and both in one.
    """
    norm = Norm(eps, momentum)
    if direction == "up":
        forms, plain = (
            stats.up_forms(x, weight, size, parts, norm),
            lambda: operator._up(x, weight, None, size, "linear", 0.0),
        )
    else:
        forms, plain = (
            stats.down_forms(x, weight, parts, norm),
            lambda: operator._down(x, weight, None, "linear", 0.0),
        )
    return forms | {
        autotune.REFERENCE: lambda: batch_norms._operators().statistics(plain(), None, None, momentum, eps, parts)
    }


def _fits(x: torch.Tensor, weight: torch.Tensor, others: tuple, channels_dim: int, act: str, parts: int) -> bool:
    """Return True if the kernels of both operators take such a call and passed their self-checks.

    others: gain, bias and running statistics. All other calls run one layer behind the other, which
    computes or refuses them.
    """
    if device_type(x) != "cuda" or x.ndim != 4 or weight.ndim != 4 or is_transformed(x, weight, *others):
        return False
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    is_known = act in batch_norms.ACTIVATIONS and (others[2] is None) == (others[3] is None)
    is_whole = parts > 0 and len(x) % parts == 0 and len(x) > parts and min(x.shape[2:]) > 1
    in_channels = all(each is None or each.shape == (weight.shape[channels_dim],) for each in others)
    if not (is_known and is_whole and in_channels and dtype in stats.CUDA_DTYPES):
        return False
    return batch_norms._have_layout(x, *others) and stats.channels_fit(weight) and _are_trusted()


@torch.compiler.assume_constant_result
def _are_trusted() -> bool:
    return (
        self_checks.problem("batch_norm", "triton", "cuda") is None
        and self_checks.problem("deconv_stats", "cuda", "cuda") is None
    )
