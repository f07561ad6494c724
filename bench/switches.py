"""The process-wide settings of torch that change a step's speed. Implementations set them differently, and each is measured under its own."""
from typing import NamedTuple

import torch


class Switches(NamedTuple):
    """The values of the switches. The defaults are torch's own."""

    matmul_tf32: bool = False
    cudnn_tf32: bool = True
    cudnn_benchmark: bool = False

    def apply(self) -> None:
        """Set them."""
        torch.backends.cuda.matmul.allow_tf32 = self.matmul_tf32
        torch.backends.cudnn.allow_tf32 = self.cudnn_tf32
        torch.backends.cudnn.benchmark = self.cudnn_benchmark


def present() -> Switches:
    """As they are now."""
    return Switches(torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark)
