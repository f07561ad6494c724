"""Batches as floats in [-1, 1] on the device.

They come from the backends of fastgan and from the DataLoader of the tutorials.
"""
import itertools
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from fastgan.augment.basic import scale_images
from fastgan.bench import machine, timing
from fastgan.bench.loader.feeds import open_feeds
from fastgan.bench.loader.files import embedded_images, write_folder
from fastgan.bench.loader.loader_plan import Plan, columns
from fastgan.bench.peers.dataloader import NUM_WORKERS, ImageFiles, endless_batches
from fastgan.bench.tables import significant
from fastgan.bench.timing import quartiles
from fastgan.data import Feed

SIZE = (64, 3, 64)  # (resolution, channels, batch size)
# Batches that are taken before a round begins: the ring of a feed has this number ready, two
# workers of a DataLoader have 4
AHEAD = 16
DATALOADER = "DataLoader"


def measure_feeds(
    folder: Path, device: torch.device, compile: bool, plan: Plan, say: Callable[[str], None]
) -> list[dict]:
    """Return columns of every feed and of every DataLoader, on the same set."""
    resolution, channels, batch_size = SIZE
    note = machine.busy_note()
    images = embedded_images(plan.num_images, resolution, channels)
    folders = {kind: write_folder(images, folder / kind, kind.lower()) for kind in ("PNG", "JPEG")}
    feeds = open_feeds(images, folders, batch_size, device)
    loaders = {
        f"{DATALOADER} {kind} {num_workers} workers": endless_batches(
            ImageFiles(folders[kind], channels), batch_size, num_workers, device
        )
        for kind, num_workers in itertools.product(folders, NUM_WORKERS)
    }
    calls = {(name, ""): partial(next, batches) for name, batches in loaders.items()}
    for rung in ("eager", "compiled") if compile else ("eager",):
        calls |= {(name, rung): normalised(feed, rung == "compiled") for name, feed in feeds.items()}
    call_s, _ = timing.interleave(calls, plan.rounds, round_s=plan.round_s, before=lambda key: _empty_queue(calls[key]))
    for closable in (*feeds.values(), *loaders.values()):
        closable.close()
    return _all_columns(call_s, plan, note, say)


def normalised(feed: Feed, compile: bool) -> Callable[[], torch.Tensor]:
    """Return a function that gives a feed's next batch as floats in [-1, 1].

    float32 [batch_size, C, H, W], in channels_last memory. compile: as one graph, where it can be.
    """

    def read() -> torch.Tensor:
        return scale_images(feed.read().img, -1.0)

    read = torch.compile(read, dynamic=False) if compile and feed.traceable else read

    def next_batch() -> torch.Tensor:
        feed.reserve(1)
        batch = read()
        feed.launched(1)
        return batch

    return next_batch


def _empty_queue(call: Callable[[], object]) -> None:
    """Take the queued batches: those fetched during other rounds must not count in this one."""
    for _ in range(AHEAD):
        call()


def _all_columns(
    call_s: dict[tuple[str, str], list[float]], plan: Plan, note: str, say: Callable[[str], None]
) -> list[dict]:
    fastest = min(
        (seconds for (name, _), seconds in call_s.items() if name.startswith(DATALOADER)), key=statistics.median
    )
    rows = []
    for (name, rung), seconds in call_s.items():
        q1, ratio, q3 = quartiles([theirs / ours for theirs, ours in zip(fastest, seconds, strict=True)])
        ratios = {"ratio_to_dataloader": ratio, "ratio_to_dataloader_quartiles": (q1, q3)}
        rows.append(columns("feed", name, SIZE, plan.num_images, seconds, SIZE[2], note) | {"rung": rung} | ratios)
        say(
            f"feed {name} {rung}: {significant(rows[-1]['imgs_per_sec'])} images/s, {significant(ratio)} times the "
            f"fastest DataLoader"
        )
    return rows
