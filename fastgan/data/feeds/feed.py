"""The interface of all feeds of real images.

A step reads its images from the memory of the device, at a position that lives there too. The host
never hands a batch to a step. The host calls `reserve` before it launches steps and `launched`
after it; in between, each step calls `read`, which is made of device operations alone and may be
compiled, or be part of a CUDA graph that is replayed.
"""
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch

from fastgan.errors import UserError


class Batch(NamedTuple):
    """The result of one `read`.

    img: [batch_size, C, H, W] in channels_last memory, uint8 or float32, or samples of another shape
    [batch_size, ...]. labels: int64 [batch_size], the classes of these images, or float32
    [batch_size, width], on the same device; None where the feed has none. fields: of a feed of
    several fields, name -> [batch_size, ...].
    """

    img: torch.Tensor
    labels: torch.Tensor | None = None
    fields: dict[str, torch.Tensor] | None = None

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        """Return a batch of function(tensor) for each tensor that is there."""
        img, labels = (None if each is None else function(each) for each in (self.img, self.labels))
        fields = None if self.fields is None else {name: function(each) for name, each in self.fields.items()}
        return Batch(img, labels, fields)

    def rows(self, start: int, stop: int) -> "Batch":
        """Return the items from `start` to `stop`, in the same memory."""
        return self.map(lambda each: each[start:stop])

    def tensors(self) -> list[torch.Tensor]:
        """Return the tensors that are there."""
        return [each for each in (self.img, self.labels, *(self.fields or {}).values()) if each is not None]


class Feed(ABC):
    """Batches in the order of the epochs (fastgan/data/feeds/order.py).

    All feeds of one set, seed and position give the same images.
    """

    traceable = True  # whether `read` may be called inside a compiled step
    # Of data of several fields (fastgan.data.open_fields): items of an epoch, some of them, notes.
    num_items: int | None = None
    items: dict[str, torch.Tensor] = {}
    notes: tuple[str, ...] = ()

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self.nimg = 0  # images that launched steps have read, or will

    @property
    def max_steps(self) -> int | None:
        """The most steps that can be reserved at once; None = any number."""
        return None

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors on the device that `read` changes, by name.

        Copying their values back gives the same batches again.
        """

    @abstractmethod
    def seek(self, nimg: int) -> None:
        """Go to where `nimg` images have been given, on host and device."""

    def position(self) -> dict:
        """Return what `resume` needs beside the number of images, as JSON can hold it."""
        return {}

    def resume(self, nimg: int, position: dict) -> str | None:
        """Go to where `nimg` images have been given, as `position` was then.

        Returns a sentence where another process does not give the same batches from there on.
        """
        self.seek(nimg)
        return None

    @abstractmethod
    def reserve(self, num_steps: int) -> None:
        """Make the next `num_steps` batches ready.

        They are ready for work launched on the current stream from now on. Idempotent.
        """

    @abstractmethod
    def read(self) -> Batch:
        """Return the next batch, and move the position on the device.

        Only device operations on memory that stays where it is: no host synchronisation, nothing
        that depends on the host's position.
        """

    @abstractmethod
    def reread(self) -> Batch:
        """Return the batch of the last `read` again, by device operations alone; move nothing.

        Call it in the launch of that `read`: later the batch may be gone. Undefined before the
        first read().
        """

    def launched(self, num_steps: int) -> None:
        """Record that `num_steps` steps that read were launched on the current stream."""
        self.nimg += num_steps * self.batch_size

    def close(self) -> None:  # noqa: B027  a feed without threads has nothing to end
        """End threads and free memory; the feed is not used afterwards."""

    def next_batch(self) -> Batch:
        """Return the next batch, outside of a step.

        Samples of a density overwrite those of the batch before.
        """
        self.reserve(1)
        batch = self.read()
        self.launched(1)
        return batch


class Window:
    """Rows in the memory of the device, and the position at which a step reads the next ones.

    rows: images [num_rows, H, W, C], or samples of another shape [num_rows, ...]; stays where it is,
    its content may be replaced row by row. order: int64 [length] row numbers; position p means the
    row order[p % length]. labels: [num_rows] or [num_rows, width], those of each row, in memory
    alike; None = read gives none. fields: name -> [num_rows, ...], alike.
    """

    def __init__(
        self,
        rows: torch.Tensor,
        order: torch.Tensor,
        batch_size: int,
        labels: torch.Tensor | None = None,
        fields: dict[str, torch.Tensor] | None = None,
    ):
        self.rows, self.order, self.labels, self.fields = rows, order, labels, fields
        # The same memory; torch gathers flat rows twice as fast: 25 us instead of 52 us for 64
        # images of 64x64x3
        self._flat = rows.flatten(1)
        self.position = torch.zeros((), dtype=torch.int64, device=rows.device)
        self._offsets = torch.arange(batch_size, device=rows.device)

    def read(self) -> Batch:
        """Return the next batch (see Feed.read)."""
        batch = self._at(self.position)
        self.position.add_(len(self._offsets))
        return batch

    def reread(self) -> Batch:
        """Return the last batch again (see Feed.reread)."""
        return self._at(self.position - len(self._offsets))

    def _at(self, position: torch.Tensor) -> Batch:
        chosen = self.order.index_select(0, torch.remainder(self._offsets + position, len(self.order)))
        img = self._flat.index_select(0, chosen).view(-1, *self.rows.shape[1:])
        labels = None if self.labels is None else self.labels.index_select(0, chosen)
        fields = self.fields and {name: each.index_select(0, chosen) for name, each in self.fields.items()}
        return Batch(img.permute(0, 3, 1, 2) if img.dim() == 4 else img, labels, fields)


def check_labels(labels: torch.Tensor | None, num_images: int) -> None:
    """Raise UserError unless there is one class number an image, int64 [num_images].

    Vectors, float32 [num_images, width], are accepted too, and None, for a set without labels.
    """
    if labels is None or (labels.dtype == torch.float32 and labels.dim() == 2 and len(labels) == num_images):
        return
    if labels.dtype != torch.int64 or labels.shape != (num_images,):
        raise UserError(
            f"the labels are {labels.dtype} {list(labels.shape)}, but one class number an image is needed: give int64 "
            f"[{num_images}]"
        )
