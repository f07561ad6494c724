"""Memory formats of images and weights that are ambiguous for torch or its compiler."""
import torch


def settled(image: torch.Tensor) -> torch.Tensor:
    """Return an image of one channel, which lies in both formats, with channels_last strides.

    Torch guesses the format of a result from strides that mean nothing there, and its compiler,
    which does not keep them, guesses otherwise.
    """
    if image.shape[1] == 1 and image.is_contiguous():
        return image.squeeze(1).unsqueeze(3).permute(0, 3, 1, 2)
    return image


def format_of(x: torch.Tensor) -> torch.memory_format:
    """Return channels_last for such a tensor and for an image of one channel, else contiguous.

    Another tensor that is in both formats (one pixel) counts as contiguous.
    """
    is_channels_last = x.is_contiguous(memory_format=torch.channels_last) and (not x.is_contiguous() or x.shape[1] == 1)
    return torch.channels_last if is_channels_last else torch.contiguous_format


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """Return x [N, C, H, W] in channels_last, a copy where it is not."""
    return x.contiguous(memory_format=torch.channels_last)


def in_format(x: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    """Return x [N, C, H, W] in a memory format, of one channel with the strides that torch gives it."""
    x = x.contiguous(memory_format=memory_format)
    if x.shape[1] != 1 or x.stride() == _strides(x.shape, memory_format):
        return x
    return settled(x) if memory_format == torch.channels_last else x.squeeze(1).unsqueeze(1)


def uninitialised(
    shape: tuple[int, int, int, int], memory_format: torch.memory_format, like: torch.Tensor
) -> torch.Tensor:
    """Return torch.empty of this shape and memory format, like `like` in dtype and device.

    memory_format: contiguous or channels_last, given by strides. Inductor lowers torch.empty with a
    memory format to a kernel that fills memory that nobody reads, and empty_strided to the
    allocation.
    """
    return torch.empty_strided(shape, _strides(shape, memory_format), dtype=like.dtype, device=like.device)


def _strides(shape: tuple[int, int, int, int], memory_format: torch.memory_format) -> tuple[int, int, int, int]:
    _, channels, height, width = shape
    if memory_format == torch.channels_last:
        return channels * height * width, 1, channels * width, channels
    return channels * height * width, height * width, width, 1
