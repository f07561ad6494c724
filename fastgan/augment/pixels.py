"""Translation and erasure of pixels, drawn for each image: the parts that augmentations share."""
import torch

from fastgan.augment.draws import per_image


def translate(img: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Move img [N, C, H, W] by down and right [N] (int64, whole pixels); zeros come in.

    Differentiable to any order. Same dtype and memory format. The gradient is the translation back,
    a gather: autograd's own would be a scatter with atomic additions.
    """
    return in_format_of(img, _translate(img, down, right))


class _Translate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, img, down, right):
        ctx.save_for_backward(down, right)
        return _moved(img, down, right)

    @staticmethod
    def backward(ctx, dy):
        down, right = ctx.saved_tensors
        return _translate(dy, -down, -right), None, None


# Dynamo itself cannot trace an autograd.Function whose gradient is differentiated in the same graph
@torch.compiler.allow_in_graph
def _translate(img: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return _Translate.apply(img, down, right)


def _moved(img: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    N, C, H, W = img.shape
    image, channel = _along(0, N, img), _along(1, C, img)
    row, column = _along(2, H, img) - per_image(down), _along(3, W, img) - per_image(right)
    inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
    return torch.where(inside, img[image, channel, row.clamp(0, H - 1), column.clamp(0, W - 1)], 0)


def cut_out(
    img: torch.Tensor, top: torch.Tensor, bottom: torch.Tensor, left: torch.Tensor, right: torch.Tensor
) -> torch.Tensor:
    """Set img [N, C, H, W] to zero where top <= row < bottom and left <= column < right.

    The bounds are [N] each. Same dtype and memory format.
    """
    row, column = _along(2, img.shape[2], img), _along(3, img.shape[3], img)
    in_rows = (row >= per_image(top)) & (row < per_image(bottom))
    in_columns = (column >= per_image(left)) & (column < per_image(right))
    return torch.where(in_rows & in_columns, 0, img)


def in_format_of(img: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return `other` in the memory format of img, both [N, C, H, W]; other's sizes may differ."""
    channels_last = img.is_contiguous(memory_format=torch.channels_last) and not img.is_contiguous()
    return other.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _along(dim: int, size: int, img: torch.Tensor) -> torch.Tensor:
    """Return 0 to size - 1 along one of four dimensions, on the device of img."""
    return torch.arange(size, device=img.device).view([-1 if d == dim else 1 for d in range(4)])
