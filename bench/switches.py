"""The process-wide settings of torch that change a step's speed.

Implementations set them differently, and each is measured under its own.
"""
from typing import NamedTuple

import torch


class Switches(NamedTuple):
    """The values of the switches. The defaults are torch's own."""

    matmul_tf32: bool = False
    cudnn_tf32: bool = True
    cudnn_benchmark: bool = False
    cudnn_deterministic: bool = False
    deterministic_algorithms: bool = False

    def apply(self) -> None:
        """Set them."""
        torch.backends.cuda.matmul.allow_tf32 = self.matmul_tf32
        torch.backends.cudnn.allow_tf32 = self.cudnn_tf32
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
        torch.backends.cudnn.deterministic = self.cudnn_deterministic
        # Setting it loads the compiler
        if torch.are_deterministic_algorithms_enabled() != self.deterministic_algorithms:
            torch.use_deterministic_algorithms(self.deterministic_algorithms)


def present() -> Switches:
    """Return the present values."""
    cudnn = torch.backends.cudnn
    tf32 = torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32
    return Switches(*tf32, cudnn.benchmark, cudnn.deterministic, torch.are_deterministic_algorithms_enabled())
