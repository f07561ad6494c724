"""Grids of images, and the animation of a run's grids."""
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fastgan.errors import UserError
from fastgan.files import write_beside_and_rename

if TYPE_CHECKING:
    from PIL import Image

_MIN_TILE = 32  # px
_MAX_GRID = 2048  # px: grids are not enlarged beyond this
_MAX_FRAME, _MAX_FRAMES, _LAST_FRAME_MS = 1024, 100, 1500
_PILLOW_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def grid_size(num_images: int) -> tuple[int, int]:
    """Return (rows, columns) of the grid with the fewest empty cells.

    It is at most about four times as wide as high; of several, the squarest is taken.
    """
    if num_images < 1:
        raise ValueError(f"a grid needs at least one image, not {num_images}")
    candidates = range(math.ceil(math.sqrt(num_images)), math.floor(2 * math.sqrt(num_images)) + 1)
    columns = min(candidates, key=lambda columns: (-num_images % columns, columns))
    return math.ceil(num_images / columns), columns


def to_uint8(img: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Convert float images of range [low, high] to uint8 of the same shape.

    The values are clamped and rounded; NaN, of a diverged G, becomes black.
    """
    levels = (img.float() - low) * (255 / (high - low))
    return levels.nan_to_num(nan=0.0).clamp(0, 255).round().to(torch.uint8)


def as_pictures(images: torch.Tensor) -> torch.Tensor | None:
    """Return images of 1, 3 or 4 channels that show `images`, or None for series and numbers.

    Of volumes [num, C, D, H, W] the middle slice is shown; of 2 channels the first, of 5 and more
    the first three.
    """
    images = images[:, :, images.shape[2] // 2] if images.dim() == 5 else images
    if images.dim() != 4:
        return None
    channels = images.shape[1]
    return images if channels in _PILLOW_MODES else images[:, :1 if channels == 2 else 3]


def save_grid(images: torch.Tensor, path: str | os.PathLike, columns: int | None = None) -> None:
    """Write uint8 images [num, C, H, W] as one PNG, row by row, without gutters.

    C = 1 (grey), 3 (RGB) or 4 (RGBA). Small images are enlarged by a whole factor (nearest), to 32
    px or more where the grid then stays within 2048 px; empty cells are black. `columns`: None for
    a grid about as wide as high. Raises UserError for other images or another suffix, DiskError.
    """
    _check_grid(images, path)
    rows, columns = grid_size(len(images)) if columns is None else (math.ceil(len(images) / columns), columns)
    num, channels, height, width = images.shape
    cells = images.new_zeros(rows * columns, channels, height, width)
    cells[:num] = images
    factor = _enlargement(rows * height, columns * width, min(height, width))
    cells = cells.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    grid = cells.view(rows, columns, channels, height * factor, width * factor).permute(0, 3, 1, 4, 2)
    _save_png(grid.reshape(rows * height * factor, columns * width * factor, channels), path)


def save_progress(frame_paths: Sequence[str | os.PathLike], path: str | os.PathLike, seconds: float = 6.0) -> int:
    """Animate grids of one run as a looping .webp; return the number of frames used.

    It takes about `seconds`, and the last frame is held longer. Frames of another size than the
    last one are left out; of more than 100 the first, the last and evenly spread ones between are
    kept; frames above 1024 px are reduced by a whole factor. Raises UserError when a frame cannot
    be read, DiskError.
    """
    frames = _evenly_thinned(_frames_of_last_size([Path(frame_path) for frame_path in frame_paths]), _MAX_FRAMES)
    first, *others = map(_read_frame, frames)
    durations = [max(1, round(1000 * seconds / len(frames)))] * len(frames)
    durations[-1] += _LAST_FRAME_MS
    write_beside_and_rename(path, lambda beside: first.save(
        beside, format="WEBP", save_all=True, append_images=others, duration=durations, loop=0, quality=80, method=2))
    return len(frames)


def _check_grid(images: torch.Tensor, path: str | os.PathLike) -> None:
    if Path(path).suffix.lower() != ".png":
        raise UserError(f"grids are written as PNG: give {path} the suffix .png")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.numel() == 0:
        raise UserError(
            f"a grid needs uint8 images [num, C, H, W], not {images.dtype} {list(images.shape)}; to_uint8 makes them"
        )
    if images.shape[1] not in _PILLOW_MODES:
        raise UserError(
            f"{path} cannot show images of {images.shape[1]} channels; give 1 (grey), 3 (RGB) or 4 (RGBA) of them"
        )


def _enlargement(grid_height: int, grid_width: int, tile: int) -> int:
    wanted, allowed = math.ceil(_MIN_TILE / tile), _MAX_GRID // max(grid_height, grid_width)
    return max(1, min(wanted, allowed))


def _save_png(pixels: torch.Tensor, path: str | os.PathLike) -> None:
    from PIL import Image
    height, width, channels = pixels.shape
    image = Image.frombytes(_PILLOW_MODES[channels], (width, height), pixels.cpu().numpy().tobytes())
    # A third of the time of 6
    write_beside_and_rename(path, lambda beside: image.save(beside, format="PNG", compress_level=3))


@contextmanager
def _open_frame(path: Path) -> Iterator["Image.Image"]:
    from PIL import Image
    try:
        with Image.open(path) as image:
            yield image
    except OSError as error:
        raise UserError(f"cannot read the frame {path} ({error}); remove it") from error


def _frames_of_last_size(frame_paths: list[Path]) -> list[Path]:
    if not frame_paths:
        raise UserError("an animation needs at least one frame; keep the fakes*.png of the run")
    sizes = [_image_size(frame_path) for frame_path in frame_paths]
    return [frame_path for frame_path, size in zip(frame_paths, sizes, strict=True) if size == sizes[-1]]


def _image_size(path: Path) -> tuple[int, int]:
    with _open_frame(path) as image:
        return image.size


def _evenly_thinned(frames: list[Path], most: int) -> list[Path]:
    if len(frames) <= most:
        return frames
    return [frames[round(index * (len(frames) - 1) / (most - 1))] for index in range(most)]


def _read_frame(path: Path) -> "Image.Image":
    with _open_frame(path) as image:
        return image.convert("RGB").reduce(math.ceil(max(image.size) / _MAX_FRAME))
