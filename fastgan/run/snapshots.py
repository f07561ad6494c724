"""Snapshots turned back into a generator, and into pictures."""
import contextlib
from pathlib import Path

import torch

from fastgan import models, plots
from fastgan.config import DENSITIES, Config, ModelConfig, from_dict
from fastgan.errors import UserError
from fastgan.run import checkpoint
from fastgan.run.feeds import centres_of
from fastgan.run.sampler import draw_z, generate_chunks, labels_for_grid


def load_generator(path: Path) -> tuple[torch.nn.Module, Config]:
    """Return (G in evaluation mode, its configuration) from a snapshot.

    path: a snapshot, or a run folder, of which the newest is taken. G is the moving average where
    there is one. Raises UserError for a file that is no snapshot of a preset's networks.
    """
    path = _newest(path)
    tensors, header = checkpoint.load_tensors(path, "snapshot")
    try:
        config = from_dict(header.get("config"))
    except UserError as error:
        raise UserError(
            f"{path} does not name its networks ({error}); give a snapshot that fastgan train wrote"
        ) from error
    if config.model.architecture == "custom":
        raise UserError(
            f"{path} holds weights of your own networks: load it in Python, fastgan.run.checkpoint.load_into(G, "
            "tensors, 'G.', path)"
        )
    G, _ = models.build(config.model)
    prefix = "G_ema." if config.optim.ema_kimg is not None else "G."
    checkpoint.load_into(G, tensors, prefix, path)
    return G.eval(), config


def write_samples(
    snapshot: Path, out: Path, num: int, seed: int, class_name: str | None = None, truncation: float | None = None
) -> str:
    """Write a grid of `num` images (for a density: its picture) to `out`; return a sentence on it.

    class_name: of a conditional G, the number or the name of the one class to draw; None = a class
    a row. truncation: 0 to 1, 1 = none: styles that much nearer to their average, where G has
    styles; otherwise z from a normal distribution cut off at 2 * truncation (arXiv 1809.11096,
    sec. 3.1).
    """
    psi = 1.0 if truncation is None else truncation
    if not 0 <= psi <= 1:
        raise UserError(f"--truncation is {truncation}; it must lie between 0 and 1")
    G, config = load_generator(snapshot)
    labels, columns = _labels(snapshot, config.model, num, class_name)
    num = num if labels is None else len(labels)
    images = _draw(G, config.model, num, labels, psi, torch.Generator().manual_seed(seed))
    if config.data.source in DENSITIES:
        return _write_density(images, config, out)
    plots.save_grid(plots.to_uint8(images, config.model.img_low, 1.0), out, columns)
    return f"wrote {num} images to {out}"


def _draw(
    G: torch.nn.Module,
    model: ModelConfig,
    num: int,
    labels: torch.Tensor | None,
    psi: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return G's output for `num` fresh z, float32 [num, ...]."""
    has_styles = hasattr(G, "truncated")
    if psi < 1 and not has_styles:
        z = _truncated_normal(num, model, psi, generator)
    else:
        z = draw_z(num, (model.z_dim,), model.z_distribution, generator, torch.device("cpu"))
    draw = Truncated(G, psi) if psi < 1 and has_styles else G
    return generate_chunks(draw, z, contextlib.nullcontext, condition=() if labels is None else (labels,))


class Truncated(torch.nn.Module):
    """A generator with styles, drawn nearer to their average.

    psi is from 1 (unchanged) to 0 (all images alike).
    """

    def __init__(self, G: torch.nn.Module, psi: float):
        super().__init__()
        self.G, self.psi = G, psi

    def forward(self, z: torch.Tensor, *condition: torch.Tensor) -> torch.Tensor:
        return self.G.synthesis(self.G.truncated(self.G.mapping(z, *condition), self.psi))


def _truncated_normal(num: int, model: ModelConfig, psi: float, generator: torch.Generator) -> torch.Tensor:
    if model.z_distribution != "normal":
        raise UserError(
            "--truncation cuts off the tails of a normal distribution, and this G's z is "
            f"{model.z_distribution}; leave it out"
        )
    limit = max(2 * psi, 1e-3)
    return torch.nn.init.trunc_normal_(torch.empty(num, model.z_dim), a=-limit, b=limit, generator=generator)


def _labels(
    snapshot: Path, model: ModelConfig, num: int, class_name: str | None
) -> tuple[torch.Tensor | None, int | None]:
    """Return (classes of the images in a grid, its columns), or None for both without classes."""
    if not model.c_dim:
        if class_name is not None:
            raise UserError(f"--class {class_name}: {snapshot} was trained without classes; leave --class out")
        return None, None
    if class_name is None:
        return labels_for_grid(num, model.c_dim)
    names = checkpoint.read_header(_newest(snapshot), "snapshot").get("class_names") or []
    number = names.index(class_name) if class_name in names else int(class_name) if class_name.isdecimal() else -1
    if not 0 <= number < model.c_dim:
        known = f"0 to {model.c_dim - 1}" + (f", or {', '.join(names)}" if names else "")
        raise UserError(f"--class {class_name} is none of the classes of {snapshot}: {known}")
    return torch.full((num,), number), None


def _write_density(samples: torch.Tensor, config: Config, out: Path) -> str:
    if config.data.source == "gaussian":
        plots.save_histogram(samples, config.data.mean, config.data.std, out)
        return f"wrote a histogram of {len(samples)} samples to {out}"
    plots.save_points(samples, centres_of(config.data.source)[0], out)
    return f"wrote {len(samples)} samples to {out}"


def _newest(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = checkpoint.newest_snapshot(path)
    if found is None:
        raise UserError(
            f"{path} holds no network-snapshot-*.safetensors; give a snapshot, or the folder of a run that saved one"
        )
    return found
