"""The colour transforms of ADA (Karras et al., 2020, arXiv 2006.06676, appendix B).

Written from the paper, which multiplies 4x4 matrices. All five transforms, though, keep the grey
axis (1, 1, 1) and the plane across it apart: they change a pixel's grey by one factor and one
summand, and its colour by one factor and one turn. That takes no matrices, and is one pass over the
image.
"""
import math

import torch

from fastgan.augment.draws import between, normals, per_image
from fastgan.augment.pixels import in_format_of

NUM_COLOUR = 10  # random numbers an image: two for each transform, one of which decides if it is applied


def change_colours(img: torch.Tensor, uniform: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Change brightness, contrast, luma flip, hue and saturation, each with probability p.

    img: [N, C, H, W]; the result has its dtype and memory format. uniform: float32 [N, NUM_COLOUR],
    U(0,1). p: float32 []. Grey images stay grey, and hue does not change unless there are three
    channels. Differentiable to any order with respect to img.
    """
    whether, how = uniform.unflatten(1, (5, 2)).unbind(2)
    brightness, contrast, flip, hue, saturation = (whether < p).unbind(1)
    brightness_n, contrast_n, flip_u, hue_u, saturation_n = how.unbind(1)

    # The magnitudes of the paper: N(0, 0.2), log-normal with 0.5 ln 2 and ln 2, a reflection of the
    # grey axis, any angle.
    shift = torch.where(brightness, 0.2 * normals(brightness_n), 0)
    contrast = torch.where(contrast, torch.exp2(0.5 * normals(contrast_n)), 1)
    sign = torch.where(flip & (flip_u < 0.5), -1, 1)
    angle = torch.where(hue, between(hue_u, -math.pi, math.pi), 0)
    saturation = torch.where(saturation, torch.exp2(normals(saturation_n)), 1)

    exact = img.to(torch.promote_types(img.dtype, torch.float32))
    grey = exact.mean(1, keepdim=True)
    changed = per_image(sign * contrast) * (grey + per_image(shift))
    if img.shape[1] > 1:
        changed = changed + per_image(saturation * contrast) * _turned(exact - grey, per_image(angle))
    return in_format_of(img, changed.to(img.dtype))


def _turned(colour: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Turn colour [N, 3, H, W] by angle [N, 1, 1, 1] around the grey axis.

    colour has mean 0 over the channels. It is returned unchanged unless it has three channels.
    """
    if colour.shape[1] != 3:
        return colour
    across = (colour.roll(1, 1) - colour.roll(-1, 1)) / math.sqrt(3)  # the cross product of the axis and the colour
    return angle.cos() * colour + angle.sin() * across
