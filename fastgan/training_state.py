"""The state that a resumed run continues from: networks, optimisers, moving average, random numbers and position in the data.

To the bit on a CPU, and on CUDA where the run is deterministic (determinism.py); else up to the roundings of algorithms
that are chosen by their speed.
"""
from pathlib import Path

import torch

from fastgan import checkpoint
from fastgan.networks import Networks


def state_tensors(networks: Networks, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Every tensor that the next step depends on. The position in the data is `nimg`, which the header keeps."""
    tensors = {f"{group}/{name}": tensor for group, named in networks.state().items() for name, tensor in named.items()}
    tensors |= {"random/run": generator.get_state(), "random/torch": torch.get_rng_state()}
    if generator.device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(generator.device)
    return tensors


def load_state(folder: Path, networks: Networks, generator: torch.Generator) -> tuple[dict, list[str]]:
    """Put the newest complete state of a run folder back in place. Returns (header, what should be said about it)."""
    path, notes = checkpoint.latest_state(folder)
    tensors, header = checkpoint.load_tensors(path, "state")
    for group, named in networks.state().items():
        checkpoint.load_into(named, tensors, f"{group}/", path)
    generator.set_state(tensors["random/run"])
    torch.set_rng_state(tensors["random/torch"])
    if generator.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random/cuda"], generator.device)
    return header, [*notes, f"resuming from {path} at {header['nimg'] / 1000:g} kimg"]


def weight_tensors(networks: Networks) -> dict[str, torch.Tensor]:
    """The weights and buffers of G, D and, where there is one, G_ema: what a snapshot holds."""
    named = {"G": networks.G, "D": networks.D}
    if networks.average is not None:
        named["G_ema"] = networks.G_ema
    return {f"{prefix}.{name}": tensor for prefix, network in named.items() for name, tensor in network.state_dict().items()}
