"""Images from a generator: the noise, and G run on it."""
import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn


def draw_z(num: int, z_shape: tuple[int, ...], distribution: str, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """float32 [num, *z_shape]: normal N(0,1), uniform U(-1,1) or unit_uniform U(0,1)."""
    if distribution == "normal":
        return torch.randn(num, *z_shape, generator=generator, device=device)
    z = torch.rand(num, *z_shape, generator=generator, device=device)
    return z * 2 - 1 if distribution == "uniform" else z


@torch.no_grad()
def generate_chunks(G: nn.Module, z: torch.Tensor, autocast: Callable[[], contextlib.AbstractContextManager], chunk: int = 64) -> torch.Tensor:
    """G(z) as float32 [num, ...], in evaluation mode, at most `chunk` at a time so that a grid never needs more memory than a step."""
    with evaluating(G), autocast():
        return torch.cat([G(part).float() for part in z.split(chunk)])


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode back afterwards: frozen parts of a user's network stay frozen."""
    flags = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
