"""Opening of a DataLoader or an IterableDataset that is iterated as it is."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from fastgan.data.feeds.feed import Batch
from fastgan.data.feeds.live import LiveFeed
from fastgan.data.feeds.ring import MAX_STEPS
from fastgan.data.field_names import img_and_label, others_said
from fastgan.data.images import BadImage
from fastgan.data.tensors.loader import EndlessLoader
from fastgan.data.tensors.opening import Target, labels_of
from fastgan.data.tensors.rows import Layout
from fastgan.data.tensors.scaling import Scaling, in_words
from fastgan.data.tensors.tensor_set import TensorSet
from fastgan.data.value_range import BYTES, ValueRange, bounds, range_of
from fastgan.errors import UserError

_ROUNDING = 1e-3  # how far below its range a float may lie


class ImageBatches:
    """Batches of a loader by field, as rows for G and D. Its values are judged by the first batches.

    first: these, as EndlessLoader.peek gives them.
    """

    def __init__(self, first: list[dict[str, torch.Tensor]], target: Target, origin: str):
        self._target, self._origin = target, origin
        self.img_name, self.label_name = img_and_label(first[0], origin)
        images = first[0][self.img_name]
        self._layout = self._layout_of(tuple(images.shape))
        self._values = self._values_of([fields[self.img_name] for fields in first])
        self.scaling, self.notes = self._scaling()

    def __call__(self, fields: Mapping[str, torch.Tensor]) -> Batch:
        images = self._of(fields, self.img_name)
        if tuple(images.shape[1:]) != self._item:
            raise UserError(f"{self._origin} gives images of shape {list(images.shape[1:])}, and its first ones are "
                            f"{list(self._item)}: give all of them one shape")  # fmt: skip
        rows = self._rows(images.numpy())
        if not self._target.c_dim:
            return Batch(rows)
        return Batch(rows, self._labels(self._of(fields, self.label_name)))

    def _of(self, fields: Mapping[str, torch.Tensor], name: str | None) -> torch.Tensor:
        if name not in fields:
            what = f"no field {name!r}" if name else "no labels, which conditional training needs"
            raise UserError(f"{self._origin} gives {what}: give every batch the same fields")
        return fields[name] if self._is_batched else fields[name][None]

    def _layout_of(self, shape: tuple[int, ...]) -> Layout:
        for is_batched in (True, False):  # a loader without batches of its own gives single items
            self._is_batched, self._item = is_batched, shape[1:] if is_batched else shape
            layout = Layout(self._item, self._target.img_shape, torch_order=True)
            if self._item and layout.fits:
                return layout
        fitted = ", or give cache=True, which fits images once" if self._target.has_plain_images else ""
        raise UserError(
            f"{self._origin} gives batches of shape {list(shape)}, and G makes {list(self._target.img_shape)}: let its "
            f"transforms give that shape{fitted}"
        )

    def _values_of(self, images: list[torch.Tensor]) -> ValueRange | None:
        """Return the range that the first images use, None for bytes."""
        if images[0].dtype == torch.uint8:
            return None
        try:
            found = [bounds(_as_numbers(each.numpy())) for each in images]
        except BadImage as reason:
            raise UserError(f"{self._origin}: {reason}") from reason
        return range_of(found, images[0].is_floating_point() or images[0].dtype == torch.bool)

    def _scaling(self) -> tuple[Scaling | None, tuple[str, ...]]:
        """Return the rule for values, and a note on it. The range of a stream is not known."""
        found, asked, low = self._values, self._target.value_range, self._target.low
        if found is None:
            return None, ()
        if asked is None and len(self._item) == len(self._target.img_shape) == 1:  # samples of a density
            return Scaling(ValueRange(low, 1.0), low), ()
        if asked is not None:
            scaling = Scaling(ValueRange(*asked), low, clips=True)
        elif found in ((0.0, 1.0), (-1.0, 1.0), BYTES):
            scaling = Scaling(found, low)
        else:
            scaling = Scaling(ValueRange(low, 1.0), low)
            note = (
                f"the first values of {self._origin} lie {in_words(found)} and are taken as they are: give "
                "range=(LOW, HIGH) to scale them"
            )
            return scaling, (note,)
        return scaling, (scaling.describe(self._origin),)

    def _rows(self, images: np.ndarray) -> torch.Tensor:
        rows = self._layout(images)
        if self.scaling is None:
            return torch.from_numpy(rows)
        is_by_first = self._target.value_range is None and not self.scaling.is_identity
        found = (float(rows.min()), float(rows.max())) if is_by_first and rows.size else None
        if found and not self._is_inside(*found):
            outside = found[0] if found[0] < self.scaling.values.low - _ROUNDING else found[1]
            raise UserError(
                f"{self._origin} gives the value {outside:g}, and its first values lie "
                f"{in_words(self.scaling.values)}: give range=(LOW, HIGH)"
            )
        return self.scaling.apply(_as_numbers(rows))

    def _is_inside(self, low: float, high: float) -> bool:
        values = self.scaling.values
        margin = _ROUNDING * max(1.0, abs(values.high - values.low))
        return low >= values.low - margin and high <= values.high + margin

    def _labels(self, labels: torch.Tensor) -> torch.Tensor:
        found, c_dim = labels_of(labels, self._target.c_dim, self._origin), self._target.c_dim
        if found.dim() == 1 and len(found) and not 0 <= int(found.min()) <= int(found.max()) < c_dim:
            raise UserError(
                f"{self._origin} gives the labels {int(found.min())} to {int(found.max())}, and the networks take "
                f"{c_dim} classes, numbered from 0"
            )
        return found


def open_live(
    data: DataLoader | IterableDataset,
    target: Target,
    batch_size: int,
    seed: int,
    device: str | torch.device,
    max_steps: int = MAX_STEPS,
) -> tuple[LiveFeed, TensorSet, tuple[str, ...]]:
    """Return (the feed, its first samples as a set, notes) of a loader that is iterated as it is."""
    loader = as_loader(data, batch_size)
    stream = EndlessLoader(loader, seed)
    first = stream.peek()
    stream.convert = convert = ImageBatches(first, target, stream.origin)
    batches = [convert(fields) for fields in first]
    rows = torch.cat([batch.img for batch in batches])
    like = Batch(rows[0], None if batches[0].labels is None else batches[0].labels[0])
    feed = LiveFeed(stream, like, batch_size, device, max_steps, is_read_ahead(loader))
    used = (convert.img_name, convert.label_name if target.c_dim or convert.label_name in first[0] else None)
    others = [name for name in (*first[0], *stream.left_out) if name not in used]
    classes = getattr(loader.dataset, "classes", None)
    names = None if classes is None else tuple(map(str, classes))
    has_vectors = like.labels is not None and like.labels.dim() > 0
    vectors = torch.cat([batch.labels for batch in batches]) if has_vectors else None
    live_set = TensorSet(rows, vectors, stream.origin, stream.num_items, convert.scaling, names)
    return feed, live_set, (iteration_said(loader, stream.origin, batch_size), *convert.notes,
                            *others_said(others, stream.origin))  # fmt: skip


def as_loader(data: DataLoader | IterableDataset, batch_size: int) -> DataLoader:
    """Return the loader itself, or one that gathers the items of an IterableDataset."""
    return data if isinstance(data, DataLoader) else DataLoader(data, batch_size)


def is_read_ahead(loader: DataLoader) -> bool | None:
    """Return True where a thread is to read: where workers do the work. None: as RingFeed decides.

    Without workers a thread would take the interpreter from the step, and items with random
    transforms would draw from torch's generator at any moment of it.
    """
    return True if getattr(loader, "num_workers", 0) else None


def iteration_said(loader: DataLoader, origin: str, batch_size: int) -> str:
    """Return a sentence on how a loader is used."""
    workers = getattr(loader, "num_workers", 0)
    by = f"by its {workers} workers" if workers else "in the process of the training"
    cut = "" if loader.batch_size == batch_size else f", and its batches are cut to {batch_size}"
    return f"{origin} is iterated as it is {by}, epoch after epoch{cut}"


def _as_numbers(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) if values.dtype == np.bool_ else values
