"""Work and its ceiling: the useful FLOPs of a step, and the rate at which this machine multiplies matrices in the same dtype."""
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}


def useful_flops(step: Callable[[], object]) -> int:
    """FLOPs (2 per multiply-add) of the convolutions and matrix products of one call of an eager step, backward included."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def matmul(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], torch.Tensor], int]:
    """(a square matrix product of random numbers that can be called, its FLOPs)."""
    size = MATMUL_SIZE[device.type]
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), 2 * size**3
