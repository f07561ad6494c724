"""Work and its ceiling: the useful FLOPs of a step, and the rate at which this machine multiplies
matrices in the same dtype.
"""
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}


def useful_flops(step: Callable[[], object]) -> int:
    """FLOPs (2 per multiply-add) of the convolutions and matrix products of one call of an eager
    step, backward included.
    """
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _gradient_flops})
    counter.mod_tracker = _NoModules()
    with counter:
        step()
    return counter.get_total_flops()


def _gradient_flops(
    dy_shape, x_shape, weight_shape, bias, stride, padding, dilation, transposed, output_padding, groups, mask, **rest
) -> int:
    """Each gradient of a convolution has its products. torch's own count takes the weight gradient
    of a grouped one for that of a whole one.
    """
    return sum(mask[:2]) * conv_flop_count(x_shape, weight_shape, dy_shape, transposed)


class _NoModules:
    """In place of what tells torch's counter in which module it is: a hook that breaks where an
    input of a module is differentiated by.
    """

    parents = frozenset({"Global"})

    def __enter__(self) -> "_NoModules":
        return self

    def __exit__(self, *error) -> None:
        pass


def matmul(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], torch.Tensor], int]:
    """(a square matrix product of random numbers that can be called, its FLOPs)."""
    size = MATMUL_SIZE[device.type]
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), 2 * size**3
