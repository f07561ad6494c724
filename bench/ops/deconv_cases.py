"""The calls of deconv: the layers of DCGAN in all directions.

Its last layer comes with everything around it.
"""
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from fastgan.ops.deconv import implementations
from fastgan.ops.deconv.operator import deconv
from fastgan.ops.dispatch import autotune

# (small channels, big channels, small size) of both networks at 64x64
DCGAN_LAYERS = ((512, 256, 4), (256, 128, 8), (128, 64, 16), (64, 3, 32))
Calls = dict[str, Callable[[], object]]


def cases(batch_size: int, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, int, int, Calls]]:
    """Yield (call, flop, bytes, candidates) of the layers in the three directions.

    Forward and backward passes of both networks call nothing else.
    """
    for layer in DCGAN_LAYERS:
        small, big, weight = layer_tensors(layer, batch_size, dtype, device)
        flop = 2 * small.numel() * weight.shape[1] * 16
        num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in (small, big, weight))
        directions = {
            "up": implementations.up_forms(small, weight, None, tuple(big.shape[2:]), "linear", 0.0),
            "down": implementations.down_forms(big, weight, None, "linear", 0.0),
            "weight": implementations.weight_forms(small, big),
        }
        for direction, candidates in directions.items():
            yield f"{direction} {describe_layer(layer, batch_size)}", flop, num_bytes, candidates
    yield from _last_layer_cases(batch_size, dtype, device)


def _last_layer_cases(
    batch_size: int, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[str, int, int, Calls]]:
    """Yield the cases of 64 -> 3 channels with bias and tanh, forward and with its backward.

    They run beside the library in both memory formats.
    """
    layer = DCGAN_LAYERS[-1]
    small, big, weight = layer_tensors(layer, batch_size, dtype, device)
    leaves = [
        tensor.requires_grad_() for tensor in (small, weight, torch.randn(weight.shape[1], device=device, dtype=dtype))
    ]
    plain_leaves, plain_dbig = [tensor.detach().contiguous().requires_grad_() for tensor in leaves], big.contiguous()

    def library(leaves, dbig):
        return _run(lambda: torch.tanh(F.conv_transpose2d(*leaves, 2, 1)), leaves, dbig)

    def ours(implementation, dbig):
        autotune.force({"deconv": implementation})
        return _run(lambda: deconv(*leaves, act="tanh"), leaves, dbig)

    flop, num_bytes = (
        2 * small.numel() * weight.shape[1] * 16,
        sum(tensor.numel() * tensor.element_size() for tensor in (small, big, weight)),
    )
    for what, times, dbig, dplain in (("forward", 1, None, None), ("forward and backward", 3, big, plain_dbig)):
        candidates = {
            "reference": lambda d=dbig: library(leaves, d),
            "reference contiguous": lambda d=dplain: library(plain_leaves, d),
        }
        candidates |= {name: lambda n=name, d=dbig: ours(n, d) for name in ("cpu", "cuda", "triton")}
        yield f"{what} {describe_layer(layer, batch_size)} bias tanh", times * flop, times * num_bytes, candidates


def _run(forward: Callable[[], torch.Tensor], leaves, dbig: torch.Tensor | None):
    if dbig is None:
        with torch.no_grad():
            return forward()
    return torch.autograd.grad(forward(), leaves, dbig)


def layer_tensors(
    layer, batch_size: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return small, big and weight in channels_last, as training has them."""
    channels, others, size = layer
    shapes = ((batch_size, channels, size, size), (batch_size, others, 2 * size, 2 * size), (channels, others, 4, 4))
    return tuple(
        torch.randn(shape, device=device).to(dtype).contiguous(memory_format=torch.channels_last) for shape in shapes
    )


def describe_layer(layer, batch_size: int) -> str:
    """Describe a row of DCGAN_LAYERS in words."""
    channels, others, size = layer
    return f"{channels} -> {others} at {size} -> {2 * size} batch {batch_size}"
