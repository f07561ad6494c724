"""The Triton kernels of deconv as operators of torch, which the compiler can trace.

Imported on first use: importing Triton takes a second.
"""
import torch

from fastgan.kernels import deconv as kernels
from fastgan.kernels import deconv_tiles
from fastgan.ops.deconv.meta import fake_down, fake_up, fake_weight
from fastgan.ops.dispatch import tiles


@torch.library.custom_op("fastgan::deconv_up_triton", mutates_args=(), device_types="cuda")
def up(
    small: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    height: int,
    width: int,
    act: int,
    slope: float,
) -> torch.Tensor:
    """Run the kernel like the library's deconv_up."""
    with torch.cuda.device(small.device):
        return kernels.up(small, weight, bias, height, width, act, slope)


@torch.library.custom_op("fastgan::deconv_down_triton", mutates_args=(), device_types="cuda")
def down(big: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, act: int, slope: float) -> torch.Tensor:
    """Run the kernel like the library's deconv_down."""
    with torch.cuda.device(big.device):
        return kernels.down(big, weight, bias, act, slope)


@torch.library.custom_op("fastgan::deconv_weight_triton", mutates_args=(), device_types="cuda")
def weight(small: torch.Tensor, big: torch.Tensor) -> torch.Tensor:
    """Run the kernel like the library's deconv_weight."""
    with torch.cuda.device(small.device):
        return kernels.weight(small, big)


up.register_fake(fake_up)
down.register_fake(fake_down)
weight.register_fake(fake_weight)

if torch.cuda.is_available():
    tiles.load(tiles.TritonTiles(deconv_tiles))
