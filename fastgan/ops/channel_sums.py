"""Channel sums of several tensors, one launch for all of them on CUDA: bias gradients.

passes/channel_sums.py puts it into compiled graphs; nothing else calls it.
"""

from collections.abc import Sequence

import torch

from fastgan.ops.dispatch import self_checks
from fastgan.ops.tickets import tickets

DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # that the kernel takes


@torch.library.custom_op("fastgan::channel_sums", mutates_args=())
def channel_sums(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sums of every channel, [C] of each tensor one behind the other; no gradient.

    The sums have the dtype of the tensors. tensors: [N, C] contiguous or [N, C, H, W] in
    channels_last, all of one dtype of DTYPES and on one CUDA device; on other devices any of the
    dtype.
    """
    return torch.cat([x.sum([0, *range(2, x.ndim)]) for x in tensors])


@channel_sums.register_kernel("cuda")
def _by_triton(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    from fastgan.kernels import channel_sums as kernels

    device = tensors[0].device
    with torch.cuda.device(device):
        return kernels.channel_sums(tensors, tickets(device, "channel_sums"))


@channel_sums.register_fake
def _(tensors):
    return tensors[0].new_empty(sum(x.shape[1] for x in tensors))


def self_check(implementation: str, device: torch.device) -> str | None:
    """Compare the kernel with the library's sums; return the problem, or None.

    The errors of both are measured against float64 results.
    """
    for dtype in DTYPES:
        tensors = [torch.randn(shape, device=device).to(dtype) for shape in ((6, 33, 5, 7), (64, 64, 8, 8), (10, 100))]
        tensors = [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in tensors]
        reference, truth = (
            torch.cat([x.to(t).sum([0, *range(2, x.ndim)]) for x in tensors]) for t in (dtype, torch.float64)
        )
        problem = self_checks.three_way_problem(f"sums of {dtype}", channel_sums(tensors), reference, truth)
        if problem:
            return problem
    return None
