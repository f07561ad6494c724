"""Training of a preset by fastgan from one seed, with measurements on the way."""
from pathlib import Path

import torch

from fastgan.bench.quality.meters import Meter, make_meter
from fastgan.bench.quality.pictures import write_pictures
from fastgan.bench.quality.quality_rows import Curve, QualityRow, command, stamped
from fastgan.bench.quality.training_cases import TrainingCase, data_name
from fastgan.config import Config
from fastgan.errors import DivergedError
from fastgan.trainer import Trainer


def train(
    case: TrainingCase, seed: int, note: str = "", pictures: Path | None = None, again: str | None = None
) -> QualityRow:
    """Train and measure.

    note: on the machine, for the row. pictures: the folder for pictures of G's images at the end,
    None = none. again: the command that repeats the training, None = the one that trains this case.

    Metrics are taken between the ticks, outside of the time of training. A training that diverges
    gives a row that ends there and reports it. Raises UserError as Trainer does, DiskError.
    """
    torch._dynamo.reset()  # graphs of earlier trainings in this process would count as recompilations of this one
    trainer = Trainer.from_config(case.config(seed), progress=False)
    meter = make_meter(trainer.config, trainer.real_set, trainer.device)
    curve, diverged = Curve(), ""
    curve.add(0, 0.0, meter.measure(trainer.state.G_ema))
    try:
        _follow(trainer, meter, curve)
    except DivergedError as error:
        diverged = f"diverged: {error}"
    data = name_of_data(trainer, case)
    row = QualityRow(
        **subject(trainer.config, data), seed=seed, implementation="fastgan", dtype=trainer.precision.name,
        rung=trainer.engine.rung.name,
        changes=list(case.changes), build_s=round(trainer.engine.rung.build_s, 1), **curve.columns(),
        metric=next(iter(curve.numbers)), note="; ".join(filter(None, (diverged, meter.note, note))),
        command=again or command(case, data), **stamped(),
    )  # fmt: skip
    if pictures is not None:
        write_pictures(trainer, row, pictures)
    return row


def name_of_data(trainer: Trainer, case: TrainingCase) -> str:
    """Return the name of a trainer's data in rows."""
    return data_name(trainer.real_set.name if trainer.real_set is not None else case.source)


def _follow(trainer: Trainer, meter: Meter, curve: Curve) -> None:
    """Add a point to the curve at every tick."""
    train_s, nimg = 0.0, 0
    for statistics in trainer.ticks():
        train_s += (statistics["nimg"] - nimg) / statistics["imgs_per_sec"]
        nimg = statistics["nimg"]
        curve.add(nimg, train_s, meter.measure(trainer.state.G_ema))


def subject(config: Config, data: str) -> dict:
    """Return the columns of the subject: preset, data, size, channels and batch size."""
    model = config.model
    return {"preset": config.preset, "data": data, "resolution": model.img_resolution, "channels": model.img_channels,
            "batch_size": config.run.batch_size}  # fmt: skip

