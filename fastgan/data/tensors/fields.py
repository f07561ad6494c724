"""Opening of data of several fields, for a step of one's own: everything by name, with its dtype."""
from __future__ import annotations

from pathlib import Path

import torch

from fastgan.data.feeds.feed import Batch
from fastgan.data.feeds.fields import FieldsFeed
from fastgan.data.feeds.live import LiveFeed
from fastgan.data.feeds.order import check_batch_size
from fastgan.data.feeds.ring import MAX_STEPS
from fastgan.data.image_set import ImageSet, spread
from fastgan.data.source import Source
from fastgan.data.sources.opening import open_source
from fastgan.data.tensors.items import Fields, fields_in_memory, is_map_style, read_items
from fastgan.data.tensors.live import as_loader, is_read_ahead, iteration_said
from fastgan.data.tensors.loader import EndlessLoader
from fastgan.data.tensors.opening import cached, is_live, read_once_said
from fastgan.errors import UserError


def open_fields(
    data: object,
    batch_size: int,
    device: str | torch.device = "cpu",
    seed: int = 0,
    *,
    max_steps: int = MAX_STEPS,
    cache: bool = False,
    skip_bad: bool = False,
    progress: bool = False,
) -> FieldsFeed | LiveFeed:
    """Return a feed whose batches have `fields`: name -> [batch_size, ...], of the data's own dtypes.

    data: a dict or tuple of arrays and tensors (a tuple's are img, c, field2, ...); one of them, as
    img; a map-style Dataset of such items, read once; a DataLoader or an IterableDataset, iterated as
    it is unless `cache`, up to `max_steps` batches ahead; a name, path or source of images or an
    ImageSet, as img and, where there are labels, c. uint8 images with channels last become
    [num, C, H, W]; nothing else is changed.

    The feed also has num_items (None where an epoch's length is unknown), items (some of the data,
    by field, on the CPU) and notes for the log. Raises UserError for other data.
    """
    if is_live(data) and not cache:
        return _open_loader(as_loader(data, batch_size), batch_size, device, seed, max_steps)
    data = cached(data) if is_live(data) else data
    fields, skipped = _in_memory(data, skip_bad, progress)
    tensors = {name: _channels_first(torch.as_tensor(value)) for name, value in fields.values.items()}
    check_batch_size(batch_size, fields.num_items)
    feed = FieldsFeed(tensors, batch_size, seed, device)
    shown = spread(fields.num_items, 64)
    feed.num_items, feed.items = fields.num_items, {name: value[shown].cpu() for name, value in tensors.items()}
    feed.notes = (*read_once_said(data), *skipped)
    return feed


def _in_memory(data: object, skip_bad: bool, progress: bool) -> tuple[Fields, tuple[str, ...]]:
    if isinstance(data, str | Path | Source):
        source = data if isinstance(data, Source) else open_source(data)
        data = source.read(source.native_resolution, source.native_channels, skip_bad, progress)
    if isinstance(data, ImageSet):
        labels = {} if data.labels is None else {"c": data.labels}
        images = data.images.permute(0, 3, 1, 2)
        return Fields({"img": images} | labels, data.name, True, data.class_names), data.skipped
    fields = fields_in_memory(data)
    if fields is not None:
        return fields, ()
    if not is_map_style(data) or not len(data):
        raise UserError(
            f"data is a {type(data).__name__}: give a dict of arrays or tensors, a Dataset, a DataLoader, or a name or "
            "path of images"
        )
    return read_items(data, skip_bad, progress)


def _open_loader(
    loader: torch.utils.data.DataLoader, batch_size: int, device: str | torch.device, seed: int, max_steps: int
) -> LiveFeed:
    if loader.batch_size is None and loader.batch_sampler is None:
        raise UserError("the DataLoader gives single items: give it a batch_size")
    stream = EndlessLoader(loader, seed)
    first = stream.peek()
    like = {name: field[0] for name, field in _by_field(first[0]).items()}
    stream.convert = _Fields(like, stream.origin)
    feed = LiveFeed(stream, Batch(None, fields=like), batch_size, device, max_steps, is_read_ahead(loader))
    items = [stream.convert(fields).fields for fields in first]
    feed.num_items, feed.items = stream.num_items, {name: torch.cat([each[name] for each in items]) for name in like}
    left_out = (f"{stream.origin} gives no numbers as {', '.join(stream.left_out)}",) if stream.left_out else ()
    feed.notes = (iteration_said(loader, stream.origin, batch_size), *left_out)
    return feed


class _Fields:
    """Batches of a loader as batches of fields, all like the first."""

    def __init__(self, like: dict[str, torch.Tensor], origin: str):
        self._like = {name: (item.dtype, item.shape) for name, item in like.items()}
        self._origin = origin

    def __call__(self, fields: dict[str, torch.Tensor]) -> Batch:
        fields = _by_field(fields)
        found = {name: (field.dtype, field.shape[1:]) for name, field in fields.items()}
        if found != self._like:
            raise UserError(
                f"{self._origin} gives fields {_in_words(found)}, and its first ones are {_in_words(self._like)}: give "
                "every batch the same"
            )
        lengths = {name: len(field) for name, field in fields.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"{self._origin} gives fields of different lengths, {lengths}: give one row an item")
        return Batch(None, fields=fields)


def _by_field(fields: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: _channels_first(field) for name, field in fields.items()}


def _in_words(kinds: dict[str, tuple[torch.dtype, torch.Size]]) -> str:
    return ", ".join(f"{name} {str(dtype).removeprefix('torch.')} {list(shape)}"
                     for name, (dtype, shape) in kinds.items())  # fmt: skip


def _channels_first(field: torch.Tensor) -> torch.Tensor:
    """Return uint8 images [num, H, W, C] as [num, C, H, W], anything else as it is."""
    is_last = field.dtype == torch.uint8 and field.dim() == 4 and field.shape[3] in (1, 3, 4) and field.shape[1] > 4
    return field.permute(0, 3, 1, 2) if is_last else field
