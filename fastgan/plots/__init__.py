"""Pictures of a run.

They are grids of images, the animation of progress, curves over kimg, and densities compared with
their target.
"""
from fastgan.plots.curves import MOMENTS, moments, save_histogram, save_losses, save_metrics, save_moments, save_points
from fastgan.plots.grids import as_pictures, grid_size, save_grid, save_progress, to_uint8

__all__ = [
    "MOMENTS", "as_pictures", "grid_size", "moments", "save_grid", "save_histogram", "save_losses", "save_metrics",
    "save_moments", "save_points", "save_progress", "to_uint8",
]  # fmt: skip
