"""Inputs of a step: real images, labels, and every random number."""
from typing import NamedTuple

import torch


class StepInputs(NamedTuple):
    """The inputs of one phase, which it reads and does not change; None: the phase needs none.

    Random numbers are inputs, so that every rung sees the same ones.
    """

    # uint8 [N, C, H, W], or float32 [N, features]; None where the step is to read them itself
    real_img: torch.Tensor | None = None
    z: torch.Tensor | None = None  # float32 [N, *z_shape]
    fresh_z: torch.Tensor | None = None  # float32 [N, *z_shape]: the G step's own, where fakes are not reused
    # float32 [2, N, 1], U(0,1): the label is flipped where it is below flip_labels: real, fake
    flips: torch.Tensor | None = None
    noise: torch.Tensor | None = None  # float32 [3, N, C, H, W], N(0,1): real, fake, fake of the G step
    mirror: torch.Tensor | None = None  # float32 [N, 1, 1, 1], U(0,1): a real image is mirrored where it is below 1/2
    # int64 [N]: the classes of the real images and of the fakes of the batch
    labels: torch.Tensor | None = None
    g_real_img: torch.Tensor | None = None  # like real_img: real images for a relativistic G step
    g_labels: torch.Tensor | None = None  # int64 [N]: the classes of these
    # float32 [3, N, K], U(0,1), for the augmentation: real, fake, fake of the G step
    augment: torch.Tensor | None = None
    # float32 [N, 1, 1, 1], U(0,1): the points between real and fake for the gradient penalty
    between: torch.Tensor | None = None
    margin: torch.Tensor | None = None  # float32 [2, N, 1], U(0,1): of the hinge: real, fake
    path_noise: torch.Tensor | None = None  # float32 [n, C, H, W], N(0,1): the direction of path lengths

    def part(self, index: int, num_parts: int) -> "StepInputs":
        """Return one of num_parts equal parts of the batch."""
        return StepInputs(*(None if each is None else each.chunk(num_parts, dim=int(name in _STACKED))[index]
                            for name, each in zip(self._fields, self, strict=True)))  # fmt: skip


_STACKED = ("flips", "noise", "augment", "margin")  # their images are in dimension 1
