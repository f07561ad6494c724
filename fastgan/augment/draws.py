"""Random numbers of other distributions, computed from uniform ones.

The uniform numbers are inputs, so that every rung of the ladder sees the same ones.
"""
import math

import torch


def per_image(values: torch.Tensor) -> torch.Tensor:
    """Reshape [N] to [N, 1, 1, 1], one value for each image."""
    return values[:, None, None, None]


def integers(uniform: torch.Tensor, count: int) -> torch.Tensor:
    """Map U(0,1) to int64 0 to count - 1, equally likely; any shape."""
    return (uniform * count).long().clamp(max=count - 1)  # the largest float32 below 1 times 65 is 65


def between(uniform: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Map U(0,1) to U(low, high); any shape."""
    return low + (high - low) * uniform


def normals(uniform: torch.Tensor) -> torch.Tensor:
    """Map U(0,1) to N(0,1) by the inverse of the distribution function; any shape.

    The result lies within 5.2 standard deviations.
    """
    # 0 is drawn once in 2**24, and would be infinite
    return math.sqrt(2) * torch.erfinv((2 * uniform - 1).clamp(-1 + 2**-22, 1 - 2**-22))
