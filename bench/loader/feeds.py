"""What steps take their batches from: the backends of fastgan, the DataLoader of the tutorials, and one batch that is always there."""
from collections.abc import Iterator

import torch

from fastgan.data import Feed, ResidentFeed

BESIDE_NOTHING = ("resident",)  # backends that do all of their work within the step; the others fetch ahead beside it


def open_feeds(images: torch.Tensor, batch_size: int, device: torch.device) -> dict[str, Feed]:
    """Every backend of fastgan on a set, by name. images: uint8 [num_images, H, W, C] in host memory."""
    return {"resident": ResidentFeed(images, batch_size, 0, device)}


class ConstantFeed(Feed):
    """One batch, again and again: a step that never waits for data. batch: [batch_size, C, H, W] on the device."""

    def __init__(self, batch: torch.Tensor):
        super().__init__(len(batch))
        self._batch = batch

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def seek(self, nimg: int) -> None:
        self.nimg = nimg

    def reserve(self, num_steps: int) -> None:
        pass

    def read(self) -> torch.Tensor:
        return self._batch


class LoaderFeed(Feed):
    """The float batches of a DataLoader in the place of a feed. batches: an endless iterator, such as bench.peers.dataloader makes."""

    traceable = False  # the host hands every batch over

    def __init__(self, batches: Iterator[torch.Tensor], batch_size: int):
        super().__init__(batch_size)
        self._batches = batches
        next(batches)  # the workers start now

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def seek(self, nimg: int) -> None:
        self.nimg = nimg  # a DataLoader has no position to go to

    def reserve(self, num_steps: int) -> None:
        pass

    def read(self) -> torch.Tensor:
        return next(self._batches)

    def close(self) -> None:
        self._batches.close()
