"""Resizing of images to the input size of a feature network.

Distances change with the method, so each network has its own.
"""
import torch


def to_rgb(images: torch.Tensor) -> torch.Tensor:
    """Return uint8 [N, 1 or 3, H, W] as float32 [N, 3, H, W] from 0 to 255, in channels_last.

    Grey is repeated.
    """
    return images.expand(-1, 3, -1, -1).float().contiguous(memory_format=torch.channels_last)


def resize_as_tensorflow1(images: torch.Tensor, side: int) -> torch.Tensor:
    """Resize float [N, C, H, W] to [N, C, side, side] as TensorFlow 1 does.

    The method is tf.image.resize_bilinear of TensorFlow 1, with which FID was defined. Pixel i of
    the result lies at i * H / side of the image, not at (i + 1/2) * H / side - 1/2; beyond the last
    pixel that pixel is repeated; and nothing is smoothed before an image is made smaller.
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
