"""The time that a training step waits for its data.

The step with a feed runs beside the same step on one batch that is always there.
"""
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from fastgan import models
from fastgan.bench import exclusive, machine, timing
from fastgan.bench.implementations import rung_config
from fastgan.bench.loader.feeds import ConstantFeed, LoaderFeed, open_feeds, works_beside
from fastgan.bench.loader.files import embedded_images, write_folder
from fastgan.bench.loader.loader_plan import Plan, columns
from fastgan.bench.peers.dataloader import NUM_WORKERS, ImageFiles, endless_batches
from fastgan.bench.step_cases import Case, make_case, with_autotune
from fastgan.bench.tables import significant
from fastgan.bench.timing import quartiles
from fastgan.config import replace as with_option
from fastgan.data import Feed
from fastgan.engine.engine import Engine
from fastgan.engine.parity import PARITY_STEPS
from fastgan.run.build import build_training

# Share of the time that a CPU takes: steps are a hundred times shorter on a GPU, and their number
# is what counts
GPU_SHARE = 0.3
CONSTANT, ALONE = "constant", "alone "


def measure_stepping(
    preset: str, folder: Path, compile: bool, plan: Plan, say: Callable[[str], None]
) -> list[dict]:
    """Return the columns of the step of a preset with every feed and with DataLoaders of PNG files.

    The step has its size in `fastgan bench step`.
    """
    case, note = make_case(preset), machine.busy_note()
    case = with_autotune(case) if plan.autotune else case
    if case.device.type == "cuda":
        plan = replace(plan, step_s=GPU_SHARE * plan.step_s, busy_round_s=GPU_SHARE * plan.busy_round_s)
    model, batch_size = case.config.model, case.config.run.batch_size
    images = embedded_images(plan.num_images, model.img_resolution, model.img_channels)
    folders = {"PNG": write_folder(images, folder, "png")}
    feeds = open_feeds(images, folders, batch_size, case.device)
    steps = FedSteps(case, compile)
    rows = []
    for beside in (False, True):
        group = {name: feed for name, feed in feeds.items() if works_beside(name, case.device) == beside}
        rows += steps.columns(group, plan, note, say, beside) if group else []
    loaders = _loaders(ImageFiles(folders["PNG"], model.img_channels), case)
    rows += steps.columns(loaders, plan, note, say, beside=True)
    for feed in (*feeds.values(), *loaders.values()):
        feed.close()
    return rows


def _loaders(files: ImageFiles, case: Case) -> dict[str, Feed]:
    batch_size = case.config.run.batch_size
    batches = {num: endless_batches(files, batch_size, num, case.device) for num in NUM_WORKERS}
    return {f"DataLoader PNG {num} workers": LoaderFeed(each, batch_size) for num, each in batches.items()}


class FedSteps:
    """fastgan's training step of a case, in bf16 where the chip has it, on any feed.

    All feeds share the networks, so that two steps differ in the feed and in nothing else. compile:
    climb the engine's ladder, else stay eager.
    """

    def __init__(self, case: Case, compile: bool):
        config = rung_config(case.config, True, "captured" if compile else "eager")
        self._config = with_option(config, "run.device", str(case.device))
        self._training = build_training(*models.build(config.model), self._config, config.model.z_dim)
        self._reasons: list[str] = []

    def engine_on(self, feed: Feed) -> Engine:
        """Return the engine of the steps that take their images from this feed, ready to run."""
        feed.reserve(feed.max_steps or PARITY_STEPS)
        engine = self._training.engine_on(feed, self._reasons.append)
        exclusive.guard_timings()
        engine.prepare()
        return engine

    def columns(
        self, feeds: dict[str, Feed], plan: Plan, note: str, say: Callable[[str], None], beside: bool = False
    ) -> list[dict]:
        """Return the columns of the step with each feed.

        beside: True where the feeds work beside the step; the others are timed alone as well.
        """
        img = next(iter(feeds.values())).next_batch().img
        constant = ConstantFeed(
            torch.empty_strided(img.shape, img.stride(), dtype=img.dtype, device=img.device).copy_(img)
        )
        engines = {name: self.engine_on(feed) for name, feed in {CONSTANT: constant, **feeds}.items()}
        calls = {name: launching(engines[name], feed) for name, feed in {CONSTANT: constant, **feeds}.items()}
        if not beside:
            calls |= {ALONE + name: feed.next_batch for name, feed in feeds.items()}
        round_s, seconds = (plan.busy_round_s, 0.0) if beside else (plan.step_round_s, plan.step_s)
        call_s, _ = timing.interleave(calls, plan.rounds, seconds, round_s)
        steps = {name: engine.rung.steps_per_launch for name, engine in engines.items()}
        step_s = {name: [each / steps.get(name, 1) for each in call_s[name]] for name in call_s}
        note = "; ".join(filter(None, (*self._reasons, note)))
        rows = [self._columns(name, engines[name].rung.name, step_s, plan, note) for name in feeds]
        for row in rows:
            say(f"step {row['preset']} with {row['name']}: stall {significant(row['stall_percent'])} %")
        return rows

    def _columns(self, name: str, rung: str, step_s: dict[str, list[float]], plan: Plan, note: str) -> dict:
        config = self._config
        size = (config.model.img_resolution, config.model.img_channels, config.run.batch_size)
        q1, stall, q3 = quartiles(
            [100 * (1 - without / fed) for fed, without in zip(step_s[name], step_s[CONSTANT], strict=True)]
        )
        alone = quartiles(step_s[ALONE + name])[1] if ALONE + name in step_s else None
        return columns("step", name, size, plan.num_images, step_s[name], size[2], note) | {
            "rung": rung,
            "preset": config.preset,
            "dtype": self._training.state.precision.name,
            "stall_percent": stall,
            "stall_percent_quartiles": (q1, q3),
            "alone_percent": alone and 100 * alone / quartiles(step_s[name])[1],
        }


def launching(engine: Engine, feed: Feed) -> Callable[[], None]:
    """Return a function that makes the steps of one launch, as the trainer does."""

    def launch() -> None:
        num = engine.rung.steps_per_launch
        feed.reserve(num)
        engine.run(feed.nimg // feed.batch_size, num)
        feed.launched(num)

    return launch
