"""What is done to images before D sees them."""
import torch


def instance_noise(img: torch.Tensor, noise: torch.Tensor, std: torch.Tensor | float) -> torch.Tensor:
    """img + std * noise (Arjovsky and Bottou, 2017, arXiv 1701.04862, section 3): noise like img,
    std a number or float32 [].
    """
    return img + std * noise


def scale_images(img: torch.Tensor, low: float) -> torch.Tensor:
    """uint8 0..255 -> float32 [low, 1] in the same memory format; floating-point samples pass
    through.
    """
    if img.dtype != torch.uint8:
        return img
    # in place: 136 us instead of 269 us for 64 images of 64x64x3 in eager code
    return img.float().mul_((1.0 - low) / 255.0).add_(low)


def mirror(img: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """img [N, C, H, W], left to right reversed where uniform [N, 1, 1, 1] is below 1/2; same dtype
    and memory format.
    """
    return torch.where(uniform < 0.5, img.flip(3), img)
