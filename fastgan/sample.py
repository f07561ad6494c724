"""Images from a generator: the noise, and G run on it."""
import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

GRID_ROWS, GRID_COLUMNS = 16, 8  # of a grid with a class a row


def draw_z(num: int, z_shape: tuple[int, ...], distribution: str, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """float32 [num, *z_shape]: normal N(0,1), uniform U(-1,1) or unit_uniform U(0,1)."""
    if distribution == "normal":
        return torch.randn(num, *z_shape, generator=generator, device=device)
    z = torch.rand(num, *z_shape, generator=generator, device=device)
    return z * 2 - 1 if distribution == "uniform" else z


def draw_classes(num: int, c_dim: int, labels: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
    """int64 [num], as often as they come in `labels`, or equally often where there are none. labels: int64 [num_images] of a real set, below c_dim.

    generator: on the CPU, as the labels are.
    """
    if labels is None:
        return torch.randint(c_dim, (num,), generator=generator)
    return labels[torch.randint(len(labels), (num,), generator=generator)]


def labels_for_grid(num: int, c_dim: int) -> tuple[torch.Tensor | None, int | None]:
    """(labels int64 [rows * columns], columns) of a grid of about `num` images with a class a row; (None, None) without classes.

    As many rows as there are classes, at most GRID_ROWS; at least GRID_COLUMNS in a row.
    """
    if not c_dim:
        return None, None
    rows = min(c_dim, GRID_ROWS)
    columns = max(GRID_COLUMNS, num // rows)
    return torch.arange(rows).repeat_interleave(columns), columns


@torch.no_grad()
def generate_chunks(
    G: nn.Module,
    z: torch.Tensor,
    autocast: Callable[[], contextlib.AbstractContextManager],
    chunk: int = 64,
    condition: tuple[torch.Tensor, ...] = (),
) -> torch.Tensor:
    """G(z, *condition) as float32 [num, ...], in evaluation mode, at most `chunk` at a time so that a grid never needs more memory than a step."""
    with evaluating(G), autocast():
        return torch.cat([G(*parts).float() for parts in zip(*(each.split(chunk) for each in (z, *condition)), strict=True)])


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
