"""What a training step waits for its data: the step with a feed beside the same step on one batch that is always there."""
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import machine, timing
from bench.cases import Case, make_case, without_autotune
from bench.fastgan_loop import FastganLoop
from bench.implementations import rung_config
from bench.loader.feeds import ConstantFeed, LoaderFeed, SwitchedFeed, open_feeds, works_beside
from bench.loader.files import embedded_images, write_folder
from bench.loader.plan import Plan, columns
from bench.peers.dataloader import NUM_WORKERS, ImageFiles, endless_batches
from bench.results import significant
from bench.timing import quartiles
from fastgan.data import Feed
from fastgan.parity import PARITY_STEPS

CONSTANT, ALONE = "constant", "alone "


def measure(preset: str, folder: Path, compile: bool, autotune: bool, plan: Plan, say: Callable[[str], None]) -> list[dict]:
    """Columns of the step of a preset, at its size in `python -m bench step`, with every feed and with DataLoaders of PNG files."""
    case, note = make_case(preset), machine.busy_note()
    case = case if autotune else without_autotune(case)
    model, batch_size = case.config.model, case.config.run.batch_size
    images = embedded_images(plan.num_images, model.img_resolution, model.img_channels)
    folders = {"PNG": write_folder(images, folder, "png")}
    feeds = open_feeds(images, folders, batch_size, case.device)
    steps = FedSteps(case, compile, feeds["resident"])
    rows = []
    for beside in (False, True):
        group = {name: feed for name, feed in feeds.items() if works_beside(name, case.device) == beside}
        rows += steps.columns(group, plan, note, say, beside) if group else []
    loaders = _loaders(ImageFiles(folders["PNG"], model.img_channels), case)
    rows += FedSteps(case, compile, next(iter(loaders.values()))).columns(loaders, plan, note, say, beside=True)
    for feed in (*feeds.values(), *loaders.values()):
        feed.close()
    return rows


def _loaders(files: ImageFiles, case: Case) -> dict[str, Feed]:
    batch_size = case.config.run.batch_size
    batches = {num: endless_batches(files, batch_size, num, case.device) for num in NUM_WORKERS}
    return {f"DataLoader PNG {num} workers": LoaderFeed(each, batch_size) for num, each in batches.items()}


class FedSteps:
    """fastgan's training step of a case, in bf16 where the chip has it, on feeds that give batches of one kind (uint8 or float).

    compile: climb the engine's ladder, else stay eager. first: one of the feeds, or another of that kind.
    On a CPU the feeds share the networks, so that two steps differ in the feed and in nothing else. On CUDA the step reads its images itself, so
    every feed has networks of its own.
    """

    def __init__(self, case: Case, compile: bool, first: Feed):
        self._case, self._compile, self._first = case, compile, first
        self._switch = SwitchedFeed(first)
        self._loop = self._loop_on(self._switch if case.device.type == "cpu" else first)

    def on(self, feed: Feed) -> tuple[Callable[[], object], int]:
        """(what makes steps on the feed's next batches, how many)."""
        if self._case.device.type == "cpu":
            return partial(self._switched, feed), 1
        loop = self._loop if feed is self._first else self._loop_on(feed)
        return loop.run, loop.steps_per_call

    def _switched(self, feed: Feed) -> None:
        self._switch.current = feed
        self._loop.run()

    def _loop_on(self, feed: Feed) -> FastganLoop:
        """A loop that has climbed; a graph cannot hold batches that the host hands over."""
        config = rung_config(self._case.config, True, "captured" if self._compile and feed.traceable else "compiled" if self._compile else "eager")
        loop = FastganLoop(config, self._case.device, feed)
        feed.reserve(feed.max_steps or PARITY_STEPS)
        loop.prepare()
        return loop

    def columns(self, feeds: dict[str, Feed], plan: Plan, note: str, say: Callable[[str], None], beside: bool = False) -> list[dict]:
        """Columns of the step with each feed. beside: whether the feeds work beside the step; those that do not are timed alone as well."""
        steps = {name: self.on(feed) for name, feed in {CONSTANT: ConstantFeed(self._first.next_batch()), **feeds}.items()}
        calls = {name: call for name, (call, _) in steps.items()}
        if not beside:
            calls |= {ALONE + name: feed.next_batch for name, feed in feeds.items()}
        round_s, seconds = (plan.busy_round_s, 0.0) if beside else (plan.step_round_s, plan.step_s)
        step_s, _ = timing.interleave(calls, plan.rounds, seconds, round_s)
        step_s |= {name: [each / num for each in step_s[name]] for name, (_, num) in steps.items()}
        note = "; ".join(filter(None, (*self._loop.reasons, note)))
        rows = [self._columns(name, step_s, plan, note) for name in feeds]
        for row in rows:
            say(f"step {row['preset']} with {row['name']}: stall {significant(row['stall_percent'])} %")
        return rows

    def _columns(self, name: str, step_s: dict[str, list[float]], plan: Plan, note: str) -> dict:
        config = self._case.config
        size = (config.model.img_resolution, config.model.img_channels, config.run.batch_size)
        q1, stall, q3 = quartiles([100 * (1 - without / fed) for fed, without in zip(step_s[name], step_s[CONSTANT], strict=True)])
        alone = quartiles(step_s[ALONE + name])[1] if ALONE + name in step_s else None
        return columns("step", name, size, plan.num_images, step_s[name], size[2], note) | {
            "rung": self._loop.engine.rung.name,
            "preset": config.preset,
            "dtype": self._loop.precision.name,
            "stall_percent": stall,
            "stall_percent_quartiles": (q1, q3),
            "alone_percent": alone and 100 * alone / quartiles(step_s[name])[1],
        }
