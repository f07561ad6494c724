"""Shapes and strides of what the kernels of deconv return, for the compiler."""
import torch

from fastgan.ops.memory_formats import channels_last


def fake_up(small, weight, bias, height, width, act, slope) -> torch.Tensor:
    """Like deconv_up, without values."""
    return channels_last(small.new_empty(small.shape[0], weight.shape[1], height, width))


def fake_down(big, weight, bias, act, slope) -> torch.Tensor:
    """Like deconv_down, without values."""
    return channels_last(big.new_empty(big.shape[0], weight.shape[0], big.shape[2] // 2, big.shape[3] // 2))


def fake_weight(small, big) -> torch.Tensor:
    """Like deconv_weight, without values."""
    return channels_last(small.new_empty(small.shape[1], big.shape[1], 4, 4))


def register_in_torch() -> None:
    """Tells the compiler about the library's operators; called once, when the library has defined
    them.
    """
    for name, fake in (("up", fake_up), ("down", fake_down), ("weight", fake_weight)):
        torch.library.register_fake(f"fastgan::deconv_{name}", fake)
