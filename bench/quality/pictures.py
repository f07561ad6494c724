"""Small pictures of a trained generator: grids, densities, mixed styles and truncation."""
from pathlib import Path

import torch

from fastgan import plots
from fastgan.bench.quality.quality_rows import QualityRow
from fastgan.run.feeds import centres_of
from fastgan.run.sampler import evaluating, generate_chunks
from fastgan.run.snapshots import Truncated
from fastgan.trainer import Trainer

MOST_BYTES = 60_000  # of a file
PSIS = (0.0, 0.25, 0.5, 0.75, 1.0)  # rows of a sweep of truncation
COARSE, FINE = 5, 8  # styles that are mixed: rows and columns
COLUMNS = 8
NUM_POINTS = 2_000  # of a picture of samples in the plane
SEED = 7  # of the z of what is not the trainer's own grid


def stem(row: dict) -> str:
    """Return the name of the pictures of a row, without suffix.

    Examples: `ring8`, `cgan-tiny-mnist`, `sngan-tiny-stacked-mnist`.
    """
    return row["preset"] if row["resolution"] is None else f"{row['preset']}-{row['data'].replace(':', '-')}"


def write_pictures(trainer: Trainer, row: QualityRow, folder: Path) -> None:
    """Write STEM.png and the further pictures of a generator.

    STEM-moments.png for the 1-D density; STEM-mixing.png and STEM-truncation.png for generators
    that have styles or truncation.
    """
    name = stem(vars(row))
    if trainer.is_density:
        _write_density(trainer, row, folder, name)
        return
    _save(trainer, trainer.sampler.grid(), folder / f"{name}.png", trainer.sampler.columns)
    G = trainer.state.G_ema
    if hasattr(G, "mapping") and not trainer.config.model.c_dim:
        _save(trainer, mixed_styles(trainer), folder / f"{name}-mixing.png", FINE + 1)
        _save(trainer, truncated_styles(trainer), folder / f"{name}-truncation.png", COLUMNS)
    elif trainer.config.model.architecture == "biggan":
        _save(trainer, truncated_normal(trainer), folder / f"{name}-truncation.png", COLUMNS)


@torch.no_grad()
def mixed_styles(trainer: Trainer) -> torch.Tensor:
    """Return a grid of mixed styles, float32 [(COARSE + 1) * (FINE + 1), C, R, R].

    The first half of the layers takes the styles of the image at the left, the others those of the
    image above. The first cell is black.
    """
    G, z = trainer.state.G_ema, _draw_z(trainer, COARSE + FINE)
    with evaluating(G):
        ws = G.mapping(z)
        coarse, fine = ws[:COARSE], ws[COARSE:]
        is_coarse = (torch.arange(ws.shape[1], device=ws.device) < ws.shape[1] // 2)[:, None]
        mixed = torch.where(is_coarse, coarse[:, None], fine[None])  # [COARSE, FINE, num_ws, w_dim]
        top, rows = G.synthesis(fine), G.synthesis(torch.cat([coarse[:, None], mixed], 1).flatten(0, 1))
    return torch.cat([torch.full_like(top[:1], trainer.config.model.img_low), top, rows]).float()


def truncated_styles(trainer: Trainer) -> torch.Tensor:
    """Return a grid of truncated styles, float32 [len(PSIS) * COLUMNS, C, R, R].

    The same z in every row, styles from their average (first row) to as they are.
    """
    G, z = trainer.state.G_ema, _draw_z(trainer, COLUMNS)
    return torch.cat([generate_chunks(Truncated(G, psi), z, trainer.precision.autocast) for psi in PSIS])


def truncated_normal(trainer: Trainer) -> torch.Tensor:
    """Return a grid of truncated noise, float32 [len(PSIS) * COLUMNS, C, R, R], a class a column.

    z is from a normal distribution that is cut off at 2 psi: 0 in the first row.
    """
    G, z_dim = trainer.state.G_ema, trainer.config.model.z_dim
    classes = torch.arange(COLUMNS, device=trainer.device) % trainer.config.model.c_dim
    noise = (cut_normal(COLUMNS, z_dim, 2 * psi).to(trainer.device) for psi in PSIS)
    return torch.cat([generate_chunks(G, z, trainer.precision.autocast, condition=(classes,)) for z in noise])


def cut_normal(num: int, z_dim: int, limit: float) -> torch.Tensor:
    """Draw float32 [num, z_dim] from N(0, 1) without the numbers beyond the limit.

    The same numbers, the nearer together the smaller the limit is.
    """
    quantiles = torch.rand(num, z_dim, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    beyond = torch.special.ndtr(torch.tensor(-limit, dtype=torch.float64))  # the part of N(0, 1) below -limit
    return torch.special.ndtri(beyond + quantiles * (1 - 2 * beyond)).float()


def shrink(path: Path) -> None:
    """Reduce a picture to few colours where the file is larger than MOST_BYTES.

    Figures bear that well.
    """
    from PIL import Image

    if path.stat().st_size > MOST_BYTES:
        with Image.open(path) as image:
            few = image.convert("RGB").quantize(64, dither=Image.Dither.NONE)
        few.save(path, optimize=True)


def _draw_z(trainer: Trainer, num: int) -> torch.Tensor:
    return torch.randn(num, trainer.config.model.z_dim, generator=torch.Generator().manual_seed(SEED)).to(
        trainer.device
    )


def _write_density(trainer: Trainer, row: QualityRow, folder: Path, name: str) -> None:
    path, data = folder / f"{name}.png", trainer.config.data
    if data.source == "gaussian":
        plots.save_histogram(trainer.sampler.grid(), data.mean, data.std, path)
        shown = [
            {"kimg": nimg / 1000, **{f"sample_{key}": row.numbers[key][at] for key in plots.MOMENTS}}
            for at, nimg in enumerate(row.nimg)
        ]
        plots.save_moments(shown, data.mean, data.std, folder / f"{name}-moments.png")
        shrink(folder / f"{name}-moments.png")
    else:
        plots.save_points(trainer.sampler.samples(NUM_POINTS, SEED), centres_of(data.source)[0], path)
    shrink(path)


def _save(trainer: Trainer, images: torch.Tensor, path: Path, columns: int | None) -> None:
    plots.save_grid(plots.to_uint8(images, trainer.config.model.img_low, 1.0), path, columns)
    shrink(path)
