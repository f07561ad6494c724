"""nn.Sequential that runs neighbours as one operator where there is one.

Its children, their names and its state are an nn.Sequential's. The neighbours are found at every
call, so that a child may be exchanged and a hook registered at any time.
"""
from collections.abc import Callable

import torch
from torch import nn

from fastgan.nn.convolutions import Conv2d, ConvTranspose2d, Linear, fits, gives_one_logit, halves, to_one_logit
from fastgan.nn.layers import BatchNorm1d, BatchNorm2d
from fastgan.ops.deconv.operator import deconv
from fastgan.ops.dispatch.device import device_type

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
LONGEST = 3  # neighbours in one operator

Run = Callable[[torch.Tensor], torch.Tensor]


class FusedSequential(nn.Sequential):
    """nn.Sequential whose neighbours run as one operator.

    They are a transposed convolution (4, 2, 1) and its tanh, an activation and the map to one
    logit, and on CUDA a (4, 2, 1) convolution, its BatchNorm and its activation, or the last two. A
    layer with a hook runs alone, so that the hook sees its input and output.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        layers = list(self)
        while layers:
            num, run = _first_operator(layers[:LONGEST], input)
            input, layers = run(input), layers[num:]
        return input


def _first_operator(layers: list[nn.Module], x: torch.Tensor) -> tuple[int, Run]:
    """Return (number of the layers that run as one, what runs them), from the first layer on."""
    if not isinstance(x, torch.Tensor) or len(layers) == 1 or _has_hooks(layers[1]):
        return 1, layers[0]
    normed = _with_batch_norm(layers, x) if device_type(x) == "cuda" else None
    if normed is not None:
        return normed
    if _has_hooks(layers[0]):
        return 1, layers[0]
    return _pair(*layers[:2], x) or (1, layers[0])


def _pair(first: nn.Module, second: nn.Module, x: torch.Tensor) -> tuple[int, Run] | None:
    """Return the operator of a convolution and its tanh, or of an activation and a last layer."""
    if type(first) is ConvTranspose2d and type(second) is nn.Tanh:
        doubles = fits(first, x) and halves(first) and first.output_padding == (0, 0)
        return (2, lambda x: deconv(x, first.weight, first.bias, "tanh")) if doubles else None
    slope = _slope_of(first)
    if slope is None or type(second) not in (Conv2d, Linear) or not gives_one_logit(second, x):
        return None
    shape = (-1, *[1] * (x.ndim - 1))
    return 2, lambda x: to_one_logit(x, second.weight, second.bias, slope).view(shape)


def _with_batch_norm(layers: list[nn.Module], x: torch.Tensor) -> tuple[int, Run] | None:
    """Return the operator of a convolution, if any, a BatchNorm, and an activation, if any.

    The BatchNorm is called, so that a hook that counts its calls runs.
    """
    first, second = layers[:2]
    behind = first if _is_bare(first, x) and not _has_hooks(first) else None
    norm, *rest = layers if behind is None else layers[1:]
    if type(norm) not in (BatchNorm1d, BatchNorm2d) or norm.act != "linear" or _has_hooks(norm):
        return None
    slope = _slope_of(rest[0]) if rest and not _has_hooks(rest[0]) else None
    num = (behind is not None) + 1 + (slope is not None)
    return (num, lambda x: norm(x, behind, slope)) if num > 1 else None


def _is_bare(layer: nn.Module, x: torch.Tensor) -> bool:
    """Return True for a (4, 2, 1) convolution without a bias, or its transpose."""
    if type(layer) not in (Conv2d, ConvTranspose2d) or layer.bias is not None or not halves(layer):
        return False
    return fits(layer, x) and (type(layer) is Conv2d or layer.output_padding == (0, 0))


def _slope_of(layer: nn.Module) -> float | None:
    """Return the slope below zero of a ReLU or leaky ReLU, or None for another layer."""
    if type(layer) is nn.ReLU:
        return 0.0
    return float(layer.negative_slope) if type(layer) is nn.LeakyReLU and layer.negative_slope >= 0 else None


def _has_hooks(layer: nn.Module) -> bool:
    """Return True if a layer has hooks besides those that only count its calls."""
    return any(
        not getattr(hook, "only_counts", False) for name in HOOKS for hook in getattr(layer, name).values()
    )
