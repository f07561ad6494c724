"""Checks that several tests share.

They are closeness to a reference of higher precision, and gradients of both orders.
"""
from collections.abc import Callable, Sequence

import torch


def assert_close_to_truth(
    ours: torch.Tensor, reference: torch.Tensor, truth_fp64: torch.Tensor, atol: float | None = None
) -> None:
    """Assert that our largest error is at most twice that of the reference, plus `atol`.

    The reference has the same dtype. `truth_fp64` is the same computation in float64. `atol`
    defaults to one rounding step at the magnitude of the truth, for a reference that happens to be
    exact.
    """
    assert truth_fp64.dtype == torch.float64, f"the truth must be float64, not {truth_fp64.dtype}"
    assert ours.dtype == reference.dtype, f"ours is {ours.dtype}, the reference {reference.dtype}"
    assert ours.shape == reference.shape == truth_fp64.shape, (
        f"shapes {ours.shape}, {reference.shape}, {truth_fp64.shape}"
    )
    if ours.numel() == 0:
        return
    if atol is None:
        atol = torch.finfo(ours.dtype).eps * truth_fp64.abs().max().item()
    error, allowed = _largest_error(ours, truth_fp64), 2 * _largest_error(reference, truth_fp64) + atol
    assert error <= allowed, f"off by {error:.3g}, allowed are {allowed:.3g}"  # a NaN fails, for it compares false


def check_gradients(function: Callable, inputs: Sequence[torch.Tensor]) -> None:
    """Check first and second derivatives of `function(*inputs)` against finite differences.

    The inputs are made float64 leaves here.
    """
    leaves = tuple(x.detach().double().requires_grad_() for x in inputs)
    torch.autograd.gradcheck(function, leaves)
    torch.autograd.gradgradcheck(function, leaves)


def _largest_error(x: torch.Tensor, truth: torch.Tensor) -> float:
    return (x.detach().double().cpu() - truth.cpu()).abs().max().item()
