"""Feeds of training steps.

They are the backends of fastgan, the DataLoader of the tutorials, and one batch that is always
there.
"""
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import torch

from fastgan.data import Batch, Feed, ResidentFeed, open_source
from fastgan.data.dali.feed import DaliFeed
from fastgan.data.feeds.stream import StreamFeed


def open_feeds(
    images: torch.Tensor, folders: dict[str, Path], batch_size: int, device: torch.device
) -> dict[str, Feed]:
    """Open every backend of fastgan on a set, by name; DALI's only where it is installed.

    images: uint8 [num_images, H, W, C] in host memory. folders: of the same images in files, by
    their kind.
    """
    feeds: dict[str, Feed] = {
        "resident": ResidentFeed(images, batch_size, 0, device),
        "stream": StreamFeed(images, batch_size, 0, device),
    }
    if has_dali():
        for kind, folder in folders.items():
            feeds[f"dali {kind}"] = DaliFeed(open_source(folder), *images.shape[2:], batch_size, 0, device)
    return feeds


def has_dali() -> bool:
    """Return True where DALI is installed."""
    return importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None


def works_beside(name: str, device: torch.device) -> bool:
    """Return True for the name of a feed that fetches ahead while steps run.

    The others do all of their work between two steps, or within them.
    """
    return name != "resident" and not (name == "stream" and device.type == "cpu")


class ConstantFeed(Feed):
    """A feed of one batch, again and again: a step that never waits for data.

    img: [batch_size, C, H, W] on the device.
    """

    def __init__(self, img: torch.Tensor):
        super().__init__(len(img))
        self._batch = Batch(img)

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def seek(self, nimg: int) -> None:
        self.nimg = nimg

    def reserve(self, num_steps: int) -> None:
        pass

    def read(self) -> Batch:
        return self._batch

    def reread(self) -> Batch:
        return self._batch


class LoaderFeed(Feed):
    """The float batches of a DataLoader in the place of a feed.

    The next batch is copied to where the step reads it.

    batches: an endless iterator, such as fastgan.bench.peers.dataloader makes.
    """

    def __init__(self, batches: Iterator[torch.Tensor], batch_size: int):
        super().__init__(batch_size)
        self._batches = batches
        self._batch = Batch(next(batches).clone())  # the workers start now
        self._is_ready = True

    @property
    def max_steps(self) -> int:
        return 1

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def seek(self, nimg: int) -> None:
        self.nimg = nimg  # a DataLoader has no position to go to

    def reserve(self, num_steps: int) -> None:
        if not self._is_ready:
            self._batch.img.copy_(next(self._batches), non_blocking=True)
            self._is_ready = True

    def read(self) -> Batch:
        return self._batch

    def reread(self) -> Batch:
        return self._batch

    def launched(self, num_steps: int) -> None:
        super().launched(num_steps)
        self._is_ready = False

    def close(self) -> None:
        self._batches.close()
