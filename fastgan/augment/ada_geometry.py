"""The geometric transforms of ADA (Karras et al., 2020, arXiv 2006.06676, appendix B).

Written from the paper: one map an image.
"""
import math

import torch

from fastgan.augment.affine import AffineMap
from fastgan.augment.draws import between, integers, normals

NUM_BLIT = 7  # random numbers an image: for each transform one decides if it is applied
NUM_GEOMETRY = 11


def blitted(affine: AffineMap, uniform: torch.Tensor, p: torch.Tensor, height: int, width: int) -> AffineMap:
    """Append mirroring, quarter turns and moves by whole pixels, each with probability p [].

    Moves are up to 1/8 of the size. uniform: float32 [N, NUM_BLIT], U(0,1). Images that are not
    square are turned by halves only.
    """
    mirror, mirror_u, turn, turn_u, move, right_u, down_u = uniform.unbind(1)
    affine = affine.scaled(torch.where((mirror < p) & (mirror_u < 0.5), -1.0, 1.0), torch.ones_like(mirror))
    quarters = integers(turn_u, 4) if height == width else 2 * integers(turn_u, 2)
    quarters = torch.where(turn < p, quarters, 0)
    # Exact cosines and sines keep the pixels' values.
    affine = affine.turned(
        (quarters == 0).float() - (quarters == 2).float(), (quarters == 1).float() - (quarters == 3).float()
    )
    right, down = (between(u, -0.125, 0.125) * size for u, size in ((right_u, width), (down_u, height)))
    return affine.moved(torch.where(move < p, right.round(), 0), torch.where(move < p, down.round(), 0))


def deformed(affine: AffineMap, uniform: torch.Tensor, p: torch.Tensor, height: int, width: int) -> AffineMap:
    """Append a scaling, turn, stretch, second turn and move by parts of pixels.

    Each has probability p [] (the two turns together). uniform: float32 [N, NUM_GEOMETRY], U(0,1).
    Magnitudes: log-normal with 0.2 ln 2 for both scalings, any angle, N(0, 1/8 of the size).
    """
    scale, scale_n, turn, turn_u, stretch, stretch_n, turn_again, turn_again_u, move, right_n, down_n = uniform.unbind(
        1
    )
    p_turn = 1 - (1 - p).sqrt()  # so that p is the probability of any turn at all
    factor = torch.where(scale < p, torch.exp2(0.2 * normals(scale_n)), 1)
    affine = _turned(affine.scaled(factor, factor), turn < p_turn, turn_u)
    factor = torch.where(stretch < p, torch.exp2(0.2 * normals(stretch_n)), 1)
    affine = _turned(affine.scaled(factor, 1 / factor), turn_again < p_turn, turn_again_u)
    right, down = 0.125 * width * normals(right_n), 0.125 * height * normals(down_n)
    return affine.moved(torch.where(move < p, right, 0), torch.where(move < p, down, 0))


def _turned(affine: AffineMap, whether: torch.Tensor, uniform: torch.Tensor) -> AffineMap:
    angle = torch.where(whether, between(uniform, -math.pi, math.pi), 0)
    return affine.turned(angle.cos(), angle.sin())
