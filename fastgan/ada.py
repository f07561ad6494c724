"""The transforms of adaptive discriminator augmentation (Karras et al., 2020, arXiv 2006.06676, appendix B), written from the paper.

Every transform happens to an image with probability p, independently. Left out are the paper's filtering in four bands and its noise, which it
found of little use. Beyond the edges lie mirror images; transforms/resample.py says what is done against aliasing.
"""
import torch

from fastgan.errors import UserError
from fastgan.transforms.ada_colour import NUM_COLOUR, change_colours
from fastgan.transforms.ada_geometry import NUM_BLIT, NUM_GEOMETRY, blitted, deformed
from fastgan.transforms.affine import identity_map
from fastgan.transforms.pixels import cut_out
from fastgan.transforms.resample import pick_pixels, resample

NUM_CUTOUT = 3
# What each takes of an image's random numbers, in the order in which they apply.
GROUPS = {"blit": NUM_BLIT, "geometry": NUM_GEOMETRY, "colour": NUM_COLOUR, "cutout": NUM_CUTOUT}


def num_uniforms(groups: tuple[str, ...]) -> int:
    """How many random numbers an image takes: K of `ada_augment`. Raises UserError for a group that is none of GROUPS."""
    return sum(GROUPS[name] for name in _chosen(groups))


def ada_augment(img: torch.Tensor, uniform: torch.Tensor, p: torch.Tensor, groups: tuple[str, ...]) -> torch.Tensor:
    """img [N, C, H, W], floating point in [-1, 1], transformed another way for each image; same shape, dtype and memory format.

    uniform: float32 [N, num_uniforms(groups)], U(0,1). p: float32 [] on the device, the probability of each transform, 0 to 1.
    groups: names of GROUPS, which apply in the paper's order whatever their order here: blit (mirror, quarter turn, whole pixels), geometry (scale,
    turn, stretch, parts of pixels), colour (brightness, contrast, luma flip, hue, saturation), cutout. Values may leave [-1, 1], as in the paper.
    One order of gradient with respect to img (colour and cutout alone: any). Raises UserError for an unknown group.
    """
    chosen = _chosen(groups)
    columns = dict(zip(chosen, uniform.split([GROUPS[name] for name in chosen], dim=1), strict=True))
    if "blit" in columns or "geometry" in columns:
        img = _moved(img, columns, p)
    if "colour" in columns:
        img = change_colours(img, columns["colour"], p)
    return _cutout(img, columns["cutout"], p) if "cutout" in columns else img


def _moved(img: torch.Tensor, columns: dict[str, torch.Tensor], p: torch.Tensor) -> torch.Tensor:
    """The groups blit and geometry, sampled once. Blit alone copies pixels."""
    height, width = img.shape[2:]
    affine = identity_map(len(img), img.device)
    if "blit" in columns:
        affine = blitted(affine, columns["blit"], p, height, width)
    if "geometry" not in columns:
        return pick_pixels(img, affine)
    return resample(img, deformed(affine, columns["geometry"], p, height, width))


def _cutout(img: torch.Tensor, uniform: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Zeros in a rectangle of half the height and width around any place of the image."""
    whether, row, column = uniform.unbind(1)
    (top, bottom), (left, right) = (_half_around(centre, size) for centre, size in ((row, img.shape[2]), (column, img.shape[3])))
    bottom = torch.where(whether < p, bottom, top)
    return cut_out(img, top, bottom, left, right)


def _half_around(centre: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Begin and end [N], in pixels, of a piece of half the size around a centre given as a part of the size."""
    return ((centre - 0.25) * size).round(), ((centre + 0.25) * size).round()


def _chosen(groups: tuple[str, ...]) -> list[str]:
    unknown = [name for name in groups if name not in GROUPS]
    if unknown:
        raise UserError(f"ADA has no group {unknown[0]!r}; choose from {', '.join(GROUPS)}.")
    return [name for name in GROUPS if name in groups]
