"""A snapshot turned back into a generator, and into pictures."""
import contextlib
from pathlib import Path

import torch

from fastgan import checkpoint, models, plots
from fastgan.config import Config, from_dict
from fastgan.errors import UserError
from fastgan.sample import draw_z, generate_chunks


def load_generator(path: Path) -> tuple[torch.nn.Module, Config]:
    """(G in evaluation mode, its configuration) from a snapshot or the newest one of a run folder: the moving average where there is one.

    Raises UserError for a file that is no snapshot of a preset's networks.
    """
    path = _newest(path)
    tensors, header = checkpoint.load_tensors(path, "snapshot")
    try:
        config = from_dict(header.get("config"))
    except UserError as error:
        raise UserError(f"{path} does not say which networks it holds ({error}); give a snapshot that fastgan train wrote") from error
    if config.model.architecture == "custom":
        raise UserError(f"{path} holds weights of your own networks: load it in Python, fastgan.checkpoint.load_into(G, tensors, 'G.', path)")
    G, _ = models.build(config.model)
    prefix = "G_ema." if config.optim.ema_kimg is not None else "G."
    checkpoint.load_into(G, tensors, prefix, path)
    return G.eval(), config


def write_samples(snapshot: Path, out: Path, num: int, seed: int) -> str:
    """Write a grid of `num` images (for a 1-D density: a histogram) to `out`, and say so in a sentence."""
    G, config = load_generator(snapshot)
    model = config.model
    z = draw_z(num, (model.z_dim,), model.z_distribution, torch.Generator().manual_seed(seed), torch.device("cpu"))
    images = generate_chunks(G, z, contextlib.nullcontext)
    if model.architecture == "samples":
        plots.save_histogram(images, config.data.mean, config.data.std, out)
        return f"wrote a histogram of {num} samples to {out}"
    plots.save_grid(plots.to_uint8(images, model.img_low, 1.0), out)
    return f"wrote {num} images to {out}"


def _newest(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = max(path.glob("network-snapshot-*.safetensors"), default=None)
    if found is None:
        raise UserError(f"{path} holds no network-snapshot-*.safetensors; give a snapshot, or the folder of a run that saved one")
    return found
