"""Image quality of fastgan and of the tutorials' loop after the same number of images."""
import time
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from fastgan.bench.peers.plain import PlainLoop
from fastgan.bench.quality.meters import make_meter
from fastgan.bench.quality.quality_rows import COMPARE, Curve, QualityRow, changed, stamped
from fastgan.bench.quality.train import subject, train
from fastgan.bench.quality.training_cases import TrainingCase
from fastgan.data import open_source
from fastgan.models import sizes
from fastgan.run.feeds import fit_to_data


def compare(case: TrainingCase, note: str = "") -> Iterator[QualityRow]:
    """Return rows of fastgan and of the plain loop, seed by seed in turns.

    Both have the same preset, data, number of images, and metric.
    """
    for seed in range(case.seeds):
        yield train(case, seed, note, again=command(case))
        yield train_plain(case, seed, note)


def command(case: TrainingCase) -> str:
    """Return the command that repeats the comparison."""
    return f"fastgan bench quality {COMPARE} --kimg {case.kimg:g} --seeds {case.seeds}{changed(case)}"


def train_plain(case: TrainingCase, seed: int, note: str = "") -> QualityRow:
    """Train by the plain loop: fp32, eager, no moving average of G.

    It is measured as fastgan is, in evaluation mode, and its data lie ready as floats.
    """
    config = case.config(seed)
    source = open_source(config.data.source)
    config = fit_to_data(config, source, sizes(config.model))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    real_set = source.read(config.model.img_resolution, config.model.img_channels)
    torch.manual_seed(seed)
    loop, meter = PlainLoop(config, device), make_meter(config, real_set, device)
    G, curve, train_s = _TakesVectors(loop.G), Curve(), 0.0
    curve.add(0, 0.0, meter.measure(G))
    batches = _batches(
        real_set.images.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous().to(device), config.run.batch_size
    )
    for nimg in _points(case, config.run.batch_size):
        started = time.perf_counter()
        for _ in range((nimg - curve.nimg[-1]) // config.run.batch_size):
            loop.step(next(batches))  # ends in .item(): the time is that of the work
        train_s += time.perf_counter() - started
        curve.add(nimg, train_s, meter.measure(G))
    return QualityRow(
        **subject(config, real_set.name), seed=seed, implementation="plain", dtype="fp32", rung="",
        changes=list(case.changes), build_s=0.0, **curve.columns(), metric=next(iter(curve.numbers)),
        note="; ".join(filter(None, (meter.note, note))), command=command(case), **stamped(),
    )  # fmt: skip


def p_better(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the probability of ranks as good as these or better, were both alike.

    It is the one-sided exact test of Mann and Whitney that `ours` are lower.
    """
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(ours, theirs, alternative="less", method="exact").pvalue)


class _TakesVectors(nn.Module):
    """The plain G, which takes z [N, z_dim, 1, 1], for z [N, z_dim]."""

    def __init__(self, G: nn.Module):
        super().__init__()
        self.G = G

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.G(z[:, :, None, None])


def _points(case: TrainingCase, batch_size: int) -> list[int]:
    """Return the numbers of images, whole batches, at which the curve is measured.

    They are those of a Trainer's ticks.
    """
    tick_nimg = round(1000 * case.kimg / case.points)
    return [
        -(-min(number * tick_nimg, round(1000 * case.kimg)) // batch_size) * batch_size
        for number in range(1, case.points + 1)
    ]


def _batches(images: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
    """Yield the batches of shuffled epochs.

    Less than a batch at the end of an epoch is left out, as drop_last does.
    """
    while True:
        for rows in torch.randperm(len(images), device=images.device).split(batch_size):
            if len(rows) == batch_size:
                yield images[rows]
