"""Adaptive discriminator augmentation, ADA (Karras et al., 2020, arXiv 2006.06676).

This module has its transforms (appendix B), and the adaptation of their probability (section 3).
Every transform is applied to an image with probability p, independently. Left out are the paper's
filtering in four bands and its noise, which it found of little use. Beyond the edges lie mirror
images; resample.py describes the antialiasing.
"""
import torch

from fastgan.augment.ada_colour import NUM_COLOUR, change_colours
from fastgan.augment.ada_geometry import NUM_BLIT, NUM_GEOMETRY, blitted, deformed
from fastgan.augment.affine import identity_map
from fastgan.augment.pixels import cut_out
from fastgan.augment.resample import pick_pixels, resample
from fastgan.errors import UserError

NUM_CUTOUT = 3
# Name -> number of random numbers an image, in the order in which the groups apply.
GROUPS = {"blit": NUM_BLIT, "geometry": NUM_GEOMETRY, "colour": NUM_COLOUR, "cutout": NUM_CUTOUT}


def num_uniforms(groups: tuple[str, ...]) -> int:
    """Return the number of random numbers an image takes: K of `ada_augment`.

    Raises UserError for a group that is not in GROUPS.
    """
    return sum(GROUPS[name] for name in _chosen(groups))


def ada_augment(img: torch.Tensor, uniform: torch.Tensor, p: torch.Tensor, groups: tuple[str, ...]) -> torch.Tensor:
    """Transform each image of img [N, C, H, W], floating point in [-1, 1], at random.

    Returns the same shape, dtype and memory format. uniform: float32 [N, num_uniforms(groups)],
    U(0,1). p: float32 [] on the device, the probability of each transform, 0 to 1. groups: names of
    GROUPS, which apply in the paper's order whatever their order here: blit (mirror, quarter turn,
    whole pixels), geometry (scale, turn, stretch, parts of pixels), colour (brightness, contrast,
    luma flip, hue, saturation), cutout. Values may leave [-1, 1], as in the paper. One order of
    gradient with respect to img (colour and cutout alone: any). Raises UserError for an unknown
    group.
    """
    chosen = _chosen(groups)
    columns = dict(zip(chosen, uniform.split([GROUPS[name] for name in chosen], dim=1), strict=True))
    if "blit" in columns or "geometry" in columns:
        img = _moved(img, columns, p)
    if "colour" in columns:
        img = change_colours(img, columns["colour"], p)
    return _cutout(img, columns["cutout"], p) if "cutout" in columns else img


def _moved(img: torch.Tensor, columns: dict[str, torch.Tensor], p: torch.Tensor) -> torch.Tensor:
    """Apply the groups blit and geometry with one sampling. Blit alone copies pixels."""
    height, width = img.shape[2:]
    affine = identity_map(len(img), img.device)
    if "blit" in columns:
        affine = blitted(affine, columns["blit"], p, height, width)
    if "geometry" not in columns:
        return pick_pixels(img, affine)
    return resample(img, deformed(affine, columns["geometry"], p, height, width))


def _cutout(img: torch.Tensor, uniform: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Set a rectangle of half the height and width, centred anywhere in the image, to zero."""
    whether, row, column = uniform.unbind(1)
    (top, bottom), (left, right) = (
        _half_around(centre, size) for centre, size in ((row, img.shape[2]), (column, img.shape[3]))
    )
    bottom = torch.where(whether < p, bottom, top)
    return cut_out(img, top, bottom, left, right)


def _half_around(centre: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return begin and end [N], in pixels, of a piece of half the size.

    centre: a part of the size.
    """
    return ((centre - 0.25) * size).round(), ((centre + 0.25) * size).round()


def _chosen(groups: tuple[str, ...]) -> list[str]:
    unknown = [name for name in groups if name not in GROUPS]
    if unknown:
        raise UserError(f"ADA has no group {unknown[0]!r}; choose from {', '.join(GROUPS)}.")
    return [name for name in GROUPS if name in groups]


EVERY = 4  # updates between two moves of p


class AdaController:
    """The control of p, the probability of a transform, by D's overfitting.

    The measure of overfitting is the mean sign of D's logits for real images, which p steers
    towards `target`. Everything lives on the device, no host waits for it, and all of it changes in
    place: p, sign_sum and num, float32 []. p starts at 0 and stays in [0, 1]; it takes ada_kimg
    thousands of images from one to the other. It moves every `every` updates.
    """

    def __init__(self, device: torch.device | str, target: float = 0.6, ada_kimg: float = 500.0, every: int = EVERY):
        self.p = torch.zeros((), device=device)
        # Over the images since p moved; an image of several logits counts their mean sign
        self.sign_sum = torch.zeros((), device=device)
        self.num = torch.zeros((), device=device)  # of these images
        self.target, self.speed, self.every = target, 1 / (1000 * ada_kimg), every

    @torch.no_grad()
    def update(self, real_logits: torch.Tensor) -> None:
        """Take in D's logits for real images, float [N] or [N, ...], and move p when it is due.

        N is the same in every update.
        """
        self.sign_sum.add_(real_logits.float().sign().mean() * len(real_logits))
        self.num.add_(len(real_logits))
        due = self.num >= self.every * len(real_logits)
        moved = self.p + (self.sign_sum / self.num - self.target).sign() * self.num * self.speed
        self.p.copy_(torch.where(due, moved.clamp(0, 1), self.p))
        for count in (self.sign_sum, self.num):
            count.copy_(torch.where(due, 0, count))

    def state(self) -> dict[str, torch.Tensor]:
        """Return every tensor that an update changes, by name.

        It serves checkpoints and restoring in place.
        """
        return {"p": self.p, "sign_sum": self.sign_sum, "num": self.num}
