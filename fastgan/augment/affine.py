"""Affine maps, one an image, composed of mirroring, turns, scalings and translations.

A map goes from a place in the result to the place in the image that it comes from. The transform
that is applied last to the image is therefore the first one that a place goes through.
"""
from typing import NamedTuple

import torch


class AffineMap(NamedTuple):
    """The map (x, y) -> (xx * x + xy * y + x0, yx * x + yy * y + y0) of each image.

    x and y are pixels from the centre, y downwards. All float32 [N]. Single numbers instead of
    matrices: there is no product that autocast or TF32 would round, and all of it fuses to one
    small kernel.
    """

    xx: torch.Tensor
    xy: torch.Tensor
    yx: torch.Tensor
    yy: torch.Tensor
    x0: torch.Tensor
    y0: torch.Tensor

    def scaled(self, x: torch.Tensor, y: torch.Tensor) -> "AffineMap":
        """Append a scaling: the image becomes x times as wide and y times as high [N]."""
        return AffineMap(self.xx / x, self.xy / y, self.yx / x, self.yy / y, self.x0, self.y0)

    def turned(self, cos: torch.Tensor, sin: torch.Tensor) -> "AffineMap":
        """Append a clockwise turn of the image by the angle [N] of this cosine and sine."""
        xx, xy = self.xx * cos - self.xy * sin, self.xx * sin + self.xy * cos
        yx, yy = self.yx * cos - self.yy * sin, self.yx * sin + self.yy * cos
        return AffineMap(xx, xy, yx, yy, self.x0, self.y0)

    def moved(self, x: torch.Tensor, y: torch.Tensor) -> "AffineMap":
        """Append a translation of the image by x pixels to the right and y pixels down [N]."""
        return self._replace(x0=self.x0 - self.xx * x - self.xy * y, y0=self.y0 - self.yx * x - self.yy * y)


def identity_map(num: int, device: torch.device) -> AffineMap:
    """Return the map that leaves each of `num` images as it is."""
    one, zero = torch.ones(num, device=device), torch.zeros(num, device=device)
    return AffineMap(one, zero, zero, one, zero, zero)
