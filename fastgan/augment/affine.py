"""Affine maps, one an image, put together from mirroring, turns, scalings and translations.

A map goes from a place in the result to the place in the image that it comes from, so the transform
that comes last is the first that a place meets.
"""
from typing import NamedTuple

import torch


class AffineMap(NamedTuple):
    """(x, y) -> (xx * x + xy * y + x0, yx * x + yy * y + y0) for each image, in pixels from the
    centre, y downwards. All float32 [N].

    Single numbers instead of matrices: no product that autocast or TF32 would round, and all of it
    fuses to one small kernel.
    """

    xx: torch.Tensor
    xy: torch.Tensor
    yx: torch.Tensor
    yy: torch.Tensor
    x0: torch.Tensor
    y0: torch.Tensor

    def scaled(self, x: torch.Tensor, y: torch.Tensor) -> "AffineMap":
        """The image then made x times as wide and y times as high [N]."""
        return AffineMap(self.xx / x, self.xy / y, self.yx / x, self.yy / y, self.x0, self.y0)

    def turned(self, cos: torch.Tensor, sin: torch.Tensor) -> "AffineMap":
        """The image then turned clockwise by the angle [N] of this cosine and sine."""
        xx, xy = self.xx * cos - self.xy * sin, self.xx * sin + self.xy * cos
        yx, yy = self.yx * cos - self.yy * sin, self.yx * sin + self.yy * cos
        return AffineMap(xx, xy, yx, yy, self.x0, self.y0)

    def moved(self, x: torch.Tensor, y: torch.Tensor) -> "AffineMap":
        """The image then moved right by x and down by y pixels [N]."""
        return self._replace(x0=self.x0 - self.xx * x - self.xy * y, y0=self.y0 - self.yx * x - self.yy * y)


def identity_map(num: int, device: torch.device) -> AffineMap:
    """The map that leaves each of `num` images as it is."""
    one, zero = torch.ones(num, device=device), torch.zeros(num, device=device)
    return AffineMap(one, zero, zero, one, zero, zero)
