"""What is measured: every call of an operator that the presets make, with every implementation that fits and that passed its self-check."""
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fastgan.ops import choice, deconv_forms, trust
from fastgan.ops.deconv import deconv

DCGAN_LAYERS = ((512, 256, 4), (256, 128, 8), (128, 64, 16), (64, 3, 32))  # (small channels, big channels, small size) of both networks at 64x64
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class OpCase:
    """One kind of call. flop and bytes: the useful ones, everything that goes in and out counted once."""

    op: str
    call: str  # the shapes and the direction, in words
    dtype: str  # fp32 | bf16 | fp16
    flop: int
    bytes: int
    candidates: dict[str, Callable[[], object]]  # by implementation, the reference first


def all_cases(ops: list[str], batch_size: int, dtypes: list[str], device: torch.device) -> Iterator[OpCase]:
    """The cases of these operators, one at a time: a case's tensors are gone when the next one is made."""
    for op in ops:
        for dtype in dtypes:
            yield from CASES[op](batch_size, dtype, device)


def deconv_cases(batch_size: int, dtype: str, device: torch.device) -> Iterator[OpCase]:
    """The layers of DCGAN in the three directions, which are all that forward and backward passes of both networks call; then its last layer."""
    for layer in DCGAN_LAYERS:
        small, big, weight = _layer(layer, batch_size, DTYPES[dtype], device)
        flop = 2 * small.numel() * weight.shape[1] * 16
        num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in (small, big, weight))
        directions = {
            "up": deconv_forms.up_forms(small, weight, None, tuple(big.shape[2:]), "linear", 0.0),
            "down": deconv_forms.down_forms(big, weight, None, "linear", 0.0),
            "weight": deconv_forms.weight_forms(small, big),
        }
        for direction, forms in directions.items():
            yield OpCase("deconv", f"{direction} {_describe(layer, batch_size)}", dtype, flop, num_bytes, _trusted("deconv", forms, device))
    yield from _last_layer_cases(batch_size, dtype, device)


def _last_layer_cases(batch_size: int, dtype: str, device: torch.device) -> Iterator[OpCase]:
    """64 -> 3 channels with bias and tanh, forward and with its backward, beside the library in both memory formats."""
    layer = DCGAN_LAYERS[-1]
    small, big, weight = _layer(layer, batch_size, DTYPES[dtype], device)
    bias = torch.randn(weight.shape[1], device=device, dtype=small.dtype)
    leaves = [tensor.requires_grad_() for tensor in (small, weight, bias)]
    plain_leaves = [tensor.detach().contiguous().requires_grad_() for tensor in leaves]
    plain_dbig = big.contiguous()

    def library(leaves, dbig=None):
        return _forward_backward(lambda: torch.tanh(F.conv_transpose2d(*leaves, 2, 1)), leaves, dbig)

    def ours(implementation, dbig=None):
        choice.force({"deconv": implementation})
        return _forward_backward(lambda: deconv(*leaves, act="tanh"), leaves, dbig)

    names = [name for name in ("cpu", "cuda", "triton") if trust.problem("deconv", name, device.type) is None]
    flop = 2 * small.numel() * weight.shape[1] * 16
    for what, times, gradients in (("forward", 1, (None, None)), ("forward and backward", 3, (big, plain_dbig))):
        candidates = {"reference": lambda g=gradients: library(leaves, g[0]), "reference contiguous": lambda g=gradients: library(plain_leaves, g[1])}
        candidates |= {name: lambda n=name, g=gradients: ours(n, g[0]) for name in names}
        num_bytes = times * sum(tensor.numel() * tensor.element_size() for tensor in (small, big, weight))
        yield OpCase("deconv", f"{what} {_describe(layer, batch_size)} bias tanh", dtype, times * flop, num_bytes, candidates)


def _forward_backward(forward: Callable[[], torch.Tensor], leaves, dbig: torch.Tensor | None):
    if dbig is None:
        with torch.no_grad():
            return forward()
    return torch.autograd.grad(forward(), leaves, dbig)


def _layer(layer, batch_size: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """small, big and weight in channels_last, as training has them."""
    channels, others, size = layer
    shapes = ((batch_size, channels, size, size), (batch_size, others, 2 * size, 2 * size), (channels, others, 4, 4))
    return tuple(torch.randn(shape, device=device).to(dtype).contiguous(memory_format=torch.channels_last) for shape in shapes)


def _describe(layer, batch_size: int) -> str:
    channels, others, size = layer
    return f"{channels} -> {others} at {size} -> {2 * size} batch {batch_size}"


def _trusted(op: str, forms: dict[str, Callable[[], object]], device: torch.device) -> dict[str, Callable[[], object]]:
    return {name: run for name, run in forms.items() if name == choice.REFERENCE or trust.problem(op, name, device.type) is None}


CASES = {"deconv": deconv_cases}

