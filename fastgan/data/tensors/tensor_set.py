"""A set of samples of any shape that lies in memory as the feeds take it."""
from __future__ import annotations

from dataclasses import dataclass

import torch

from fastgan.data.image_set import ImageSet, spread
from fastgan.data.tensors.scaling import Scaling
from fastgan.errors import UserError


@dataclass(frozen=True, eq=False)
class TensorSet:
    """A RealSet of samples of any shape.

    rows: images [num, H, W, C], or samples of another shape [num, ...]; uint8, or float32 in the
    range of the networks. labels: int64 [num], or float32 [num, width], or None. scaling: of values
    that are no bytes. num_images: None where it is unknown, or another number than that of the rows,
    where these are the first ones of a stream.
    """

    rows: torch.Tensor
    labels: torch.Tensor | None
    name: str
    num_images: int | None
    scaling: Scaling | None = None
    class_names: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()

    @property
    def img_shape(self) -> tuple[int, ...]:
        """(H, W, C) of images, or the shape of other samples."""
        return tuple(self.rows.shape[1:])

    @property
    def is_whole(self) -> bool:
        return self.num_images == len(self.rows)

    def sample(self, num: int) -> torch.Tensor:
        """Return `num` rows spread over the set, or all of a smaller set."""
        return self.rows[spread(len(self.rows), num)]

    def image_set(self) -> ImageSet:
        """Return the images as bytes, for metrics. Raises UserError where they are no images."""
        if not self.is_whole:
            raise UserError(f"metrics need all real images in memory, and {self.name} is iterated: give cache=True")
        if len(self.img_shape) != 3 or self.img_shape[2] not in (1, 3):
            raise UserError(f"metrics need images of 1 or 3 channels, and those of {self.name} are {self.img_shape}")
        rows = self.rows
        if rows.dtype != torch.uint8:
            low = self.scaling.low
            rows = ((rows - low) * (255 / (1 - low))).round_().clamp_(0, 255).to(torch.uint8)
        return ImageSet(rows.contiguous(), self.labels, self.class_names, self.name, self.skipped)
