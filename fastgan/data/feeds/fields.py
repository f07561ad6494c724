"""Batches of several fields of one data set: images with conditions, pairs of images, anything.

All fields of an item are gathered by one index, inside the step.
"""
from collections.abc import Mapping

import torch

from fastgan.data.feeds.feed import Batch
from fastgan.data.feeds.resident import ResidentFeed
from fastgan.errors import UserError


class FieldsFeed(ResidentFeed):
    """Batches of fields that stay on the device, in the order of the epochs.

    fields: name -> [num_items, ...], of any dtype and shape; `read` gives them under the same names
    with the same dtypes. Raises UserError where they are not of one length.
    """

    def __init__(
        self, fields: Mapping[str, torch.Tensor], batch_size: int, seed: int, device: str | torch.device = "cpu"
    ):
        lengths = {name: len(field) for name, field in fields.items()}
        if len(set(lengths.values())) != 1:
            raise UserError(f"the fields have different numbers of items: {lengths}; give one row an item in each")
        num = next(iter(lengths.values()))
        super().__init__(torch.arange(num)[:, None], batch_size, seed, device)
        self._fields = {name: field.to(device).contiguous() for name, field in fields.items()}

    def read(self) -> Batch:
        return self._gathered(super().read())

    def reread(self) -> Batch:
        return self._gathered(super().reread())

    def _gathered(self, rows: Batch) -> Batch:
        index = rows.img[:, 0]
        return Batch(rows.img, fields={name: field.index_select(0, index) for name, field in self._fields.items()})
