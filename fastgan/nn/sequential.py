"""nn.Sequential that runs neighbours as one operator where there is one.

Its children, their names and its state are an nn.Sequential's. The neighbours are found at every
call, so that a child may be exchanged and a hook registered at any time.
"""
from collections.abc import Callable

import torch
from torch import nn

from fastgan.nn.convolutions import (
    Conv2d,
    ConvTranspose2d,
    Linear,
    fits,
    gives_one_logit,
    halves,
    result_format,
    to_one_logit,
)
from fastgan.nn.layers import BatchNorm1d, BatchNorm2d
from fastgan.ops.dispatch.device import device_type
from fastgan.ops.memory_formats import in_format

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
        return (2, lambda x: first.doubled(x, "tanh")) if fits(first, x) and halves(first) else None
    slope = _slope_of(first)
    if slope is None or type(second) not in (Conv2d, Linear) or not gives_one_logit(second, x):
        return None
    shape = (-1, *[1] * (x.ndim - 1))
    return 2, lambda x: to_one_logit(x, second.weight, second.bias, slope).view(shape)


def _with_batch_norm(layers: list[nn.Module], x: torch.Tensor) -> tuple[int, Run] | None:
    """Return the operator of a convolution, if any, a BatchNorm, and an activation, if any.

    The BatchNorm is called, so that a hook that counts its calls runs.
    """
    behind = layers[0] if _is_bare(layers[0], x) and not _has_hooks(layers[0]) else None
    norm, *rest = layers if behind is None else layers[1:]
    if type(norm) not in (BatchNorm1d, BatchNorm2d) or norm.act != "linear" or _has_hooks(norm):
        return None
    slope = _slope_of(rest[0]) if rest and not _has_hooks(rest[0]) else None
    if behind is None:
        return None if slope is None else (2, lambda x: norm(x, None, slope))
    memory_format = result_format(behind, x)

    def run(x: torch.Tensor) -> torch.Tensor:
        return in_format(norm(in_format(x, memory_format), behind, slope), memory_format)

    return 2 + (slope is not None), run


def _is_bare(layer: nn.Module, x: torch.Tensor) -> bool:
    """Return True for a (4, 2, 1) convolution without a bias, or its transpose."""
    is_one = type(layer) in (Conv2d, ConvTranspose2d) and layer.bias is None
    return is_one and halves(layer) and fits(layer, x)


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
