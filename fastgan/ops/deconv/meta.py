"""Shapes and strides of the results of the deconv kernels, for the compiler."""
import torch

from fastgan.ops.memory_formats import channels_last


def fake_up(small, weight, bias, height, width, act, slope) -> torch.Tensor:
    """Return the result of deconv_up without values."""
    return channels_last(small.new_empty(small.shape[0], weight.shape[1], height, width))


def fake_down(big, weight, bias, act, slope) -> torch.Tensor:
    """Return the result of deconv_down without values."""
    return channels_last(big.new_empty(big.shape[0], weight.shape[0], big.shape[2] // 2, big.shape[3] // 2))


def fake_weight(small, big) -> torch.Tensor:
    """Return the result of deconv_weight without values."""
    return channels_last(small.new_empty(small.shape[1], big.shape[1], 4, 4))


def register_in_torch() -> None:
    """Register the library's operators with the compiler; called once, after the library loaded."""
    for name, fake in (("up", fake_up), ("down", fake_down), ("weight", fake_weight)):
        torch.library.register_fake(f"fastgan::deconv_{name}", fake)
