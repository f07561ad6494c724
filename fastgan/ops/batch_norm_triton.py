"""The Triton kernels of batch_norm as operators of torch, which the compiler can trace.

Imported on first use.
"""

import torch

from fastgan.kernels import batch_norm as kernels
from fastgan.ops.tickets import tickets


@torch.library.custom_op(
    "fastgan::batch_norm_statistics_triton", mutates_args=("running_mean", "running_var"), device_types="cuda"
)
def statistics(
    x: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    momentum: float,
    eps: float,
    parts: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run kernels.statistics with the tickets of the device."""
    with torch.cuda.device(x.device):
        return kernels.statistics(x, running_mean, running_var, tickets(x.device, "batch_norm"), momentum, eps, parts)


@torch.library.custom_op("fastgan::batch_norm_gradient_sums_triton", mutates_args=(), device_types="cuda")
def gradient_sums(
    x: torch.Tensor,
    dy: torch.Tensor,
    mean: torch.Tensor,
    rstd: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    slope: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run kernels.gradient_sums with the tickets of the device."""
    with torch.cuda.device(x.device):
        return kernels.gradient_sums(x, dy, mean, rstd, weight, bias, tickets(x.device, "batch_norm"), slope)


@statistics.register_fake
def _(x, running_mean, running_var, momentum, eps, parts):
    return tuple(x.new_empty(parts, x.shape[1], dtype=torch.float32) for _ in range(2))


@gradient_sums.register_fake
def _(x, dy, mean, rstd, weight, bias, slope):
    return mean.new_empty(2, *mean.shape), mean.new_empty(2, mean.shape[1])
