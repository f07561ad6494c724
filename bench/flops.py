"""Work and its ceiling: the useful FLOPs of a step, and the rate of matrix products.

The rate is that of this machine in the same dtype.
"""
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}


def useful_flops(step: Callable[[], object]) -> int:
    """Return the FLOPs (2 per multiply-add) of one call of an eager step, backward included.

    Counted are convolutions and matrix products.
    """
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _gradient_flops})
    counter.mod_tracker = _NoModules()
    with counter:
        step()
    return counter.get_total_flops()


def _gradient_flops(
    dy_shape, x_shape, weight_shape, bias, stride, padding, dilation, transposed, output_padding, groups, mask, **rest
) -> int:
    """Return the FLOPs of the gradients of a convolution, each with its own products.

    torch's own count takes the weight gradient of a grouped convolution for that of a whole one.
    """
    return sum(mask[:2]) * conv_flop_count(x_shape, weight_shape, dy_shape, transposed)


class _NoModules:
    """Replacement of the module tracker of torch's counter.

    That one sets a hook that fails where the gradient by an input of a module is taken.
    """

    parents = frozenset({"Global"})

    def __enter__(self) -> "_NoModules":
        return self

    def __exit__(self, *error) -> None:
        pass


def matmul(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], torch.Tensor], int]:
    """Return (a callable square matrix product of random numbers, its FLOPs)."""
    size = MATMUL_SIZE[device.type]
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), 2 * size**3
