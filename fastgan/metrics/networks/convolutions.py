"""A convolution with its BatchNorm folded in, the layer of the published networks."""
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


def relu(x: torch.Tensor) -> torch.Tensor:
    """Apply ReLU in place."""
    return functional.relu_(x)


def relu6(x: torch.Tensor) -> torch.Tensor:
    """Apply ReLU6 in place."""
    return functional.relu6(x, inplace=True)


def linear(x: torch.Tensor) -> torch.Tensor:
    """Return the input as it is."""
    return x


class FoldedConv(nn.Module):
    """Convolution, the affine map of BatchNorm in evaluation mode, and `activation`, in one pass.

    kernel: one side, or (height, width). padding: as torch.nn.Conv2d's, or (left, right, top,
    bottom) where it is not the same on both sides.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        activation: Callable[[torch.Tensor], torch.Tensor] = relu,
    ):
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.register_buffer("weight", torch.zeros(channels, in_channels // groups, *sides))
        self.register_buffer("bias", torch.zeros(channels))
        self._stride, self._groups, self._activation = stride, groups, activation
        self._uneven = padding if isinstance(padding, tuple) and len(padding) == 4 else None
        self._padding = 0 if self._uneven else padding

    @torch.no_grad()
    def fold(
        self,
        weight: torch.Tensor,
        gamma: torch.Tensor | float,
        beta: torch.Tensor,
        mean: torch.Tensor,
        var: torch.Tensor,
        eps: float,
    ) -> None:
        """Fold BatchNorm into the convolution's weight: its scale, shift and statistics.

        The result is computed in float64 and rounded once.
        """
        scale = gamma / (var.double() + eps).sqrt()
        self.weight.copy_(weight.double() * scale[:, None, None, None])
        self.bias.copy_(beta.double() - mean.double() * scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._uneven:
            x = functional.pad(x, self._uneven)
        return self._activation(
            functional.conv2d(x, self.weight, self.bias, self._stride, self._padding, 1, self._groups)
        )


def folded_convolutions(network: nn.Module) -> list[FoldedConv]:
    """Return all folded convolutions, in the order in which they were made."""
    return [module for module in network.modules() if isinstance(module, FoldedConv)]
