"""Bringing images to the size that a feature network takes.

Distances change with the method, so each network has its own.
"""
import torch


def to_rgb(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 1 or 3, H, W] as float32 [N, 3, H, W] from 0 to 255, in channels_last: grey is
    repeated.
    """
    return images.expand(-1, 3, -1, -1).float().contiguous(memory_format=torch.channels_last)


def resize_as_tensorflow1(images: torch.Tensor, side: int) -> torch.Tensor:
    """float [N, C, H, W] as [N, C, side, side], as tf.image.resize_bilinear of TensorFlow 1 does
    it, with which FID was defined.

    Pixel i of the result lies at i * H / side of the image, not at (i + 1/2) * H / side - 1/2;
    beyond the last pixel there is that pixel again; and nothing is smoothed before an image is made
    smaller.
    """
    if images.shape[2:] == (side, side):
        return images
    return _resize_axis(_resize_axis(images, 2, side), 3, side)


def _resize_axis(images: torch.Tensor, axis: int, side: int) -> torch.Tensor:
    size = images.shape[axis]
    place = torch.arange(side, device=images.device, dtype=torch.float32) * (size / side)
    before = place.long().clamp(max=size - 1)
    after = (before + 1).clamp(max=size - 1)
    weight = (place - before).view(-1, *[1] * (3 - axis))
    return torch.lerp(images.index_select(axis, before), images.index_select(axis, after), weight)
