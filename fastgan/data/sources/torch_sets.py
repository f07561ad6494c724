"""A torch Dataset as a source of images."""
from collections.abc import Iterator, Mapping
from functools import cached_property, partial

import numpy as np
import torch
from PIL import Image

from fastgan.data.field_names import img_and_label
from fastgan.data.images import BadImage, native_size
from fastgan.data.source import Piece, Source
from fastgan.data.sources.arrays import as_numpy, check_dtype, lower_bound, nhwc_shape, to_uint8
from fastgan.data.value_range import ValueRange
from fastgan.errors import UserError

_NUM_PEEKED = 64


class DatasetSource(Source):
    """The items of a map-style Dataset: img, (img, label), or a dict of them and of other fields.

    They are read one after another, since a dataset need not be thread-safe.

    img: a Pillow image; or a tensor [C, H, W] or [H, W]; or an array [H, W, C] or [H, W]; uint8, or
    floats in [0, 1] or [-1, 1]: a negative value in the first 64 items means [-1, 1] for all.
    label: an integer, or a float that is one.
    """

    remedy = "; mend the dataset, or leave such items out with skip_bad"

    def __init__(self, dataset: torch.utils.data.Dataset):
        self._dataset = dataset
        self.name = type(dataset).__name__
        self.origin = f"the dataset {self.name}"
        self.num_images = self._length()
        classes = getattr(dataset, "classes", None)  # torchvision's name for them
        self.class_names = None if classes is None else tuple(str(class_name) for class_name in classes)

    @property
    def native_resolution(self) -> int:
        return self._native_size[0]

    @property
    def native_channels(self) -> int:
        return self._native_size[1]

    def pieces(self) -> Iterator[Piece]:
        lowest = self._lowest()
        for index in range(self.num_images):
            img, label = self._item(index)
            yield Piece(self._where(index), partial(_load, img, lowest), None if label is None else np.array([label]))

    def _length(self) -> int:
        try:
            return len(self._dataset)
        except (TypeError, NotImplementedError) as error:
            raise UserError(
                f"{self.origin} has no length: give a map-style dataset, with __len__ and __getitem__"
            ) from error

    def _where(self, index: int) -> str:
        return f"item {index} of {self.origin}"

    def _item(self, index: int) -> tuple[Image.Image | torch.Tensor | np.ndarray, int | None]:
        item = self._dataset[index]
        if isinstance(item, Mapping):
            img, label = img_and_label(item, self._where(index))
            item = (item[img],) if label is None else (item[img], item[label])
        img, label = (*item, None)[:2] if isinstance(item, tuple | list) and len(item) in (1, 2) else (item, None)
        if not isinstance(img, Image.Image | torch.Tensor | np.ndarray):
            raise UserError(
                f"{self._where(index)} is a {type(img).__name__}: items must be img, (img, label) or a dict of them, "
                "img a Pillow image, tensor or array"
            )
        return img, self._class_number(label, index)

    def _class_number(self, label: object, index: int) -> int | None:
        if label is None:
            return None
        number = np.asarray(label)
        if number.size != 1 or not (
            number.dtype.kind in "iu" or (number.dtype.kind == "f" and float(number.item()).is_integer())
        ):
            raise UserError(
                f"{self._where(index)} has a {type(label).__name__} for a label: make the items img or (img, class "
                "number)"
            )
        return int(number.item())

    def _lowest(self) -> float:
        return min(self._lower_bound(index) for index in range(min(_NUM_PEEKED, self.num_images)))

    def _lower_bound(self, index: int) -> float:
        img, _ = self._item(index)
        try:
            return 0.0 if isinstance(img, Image.Image) else _checked_bound(_block_of_one(img))
        except BadImage:  # reported, or skipped, when its turn comes
            return 0.0

    @cached_property
    def _native_size(self) -> tuple[int, int]:
        img, _ = self._item(0)
        if isinstance(img, Image.Image):
            return native_size(img)
        try:
            _, height, width, channels = nhwc_shape((1, *img.shape), isinstance(img, torch.Tensor))
        except BadImage as reason:
            raise UserError(f"{self._where(0)}: {reason}") from reason
        return min(height, width), 1 if channels <= 2 else 3


def _load(img: Image.Image | torch.Tensor | np.ndarray, lowest: float) -> Image.Image | np.ndarray:
    if isinstance(img, Image.Image):
        return img
    block = _block_of_one(img)
    if _checked_bound(block) < lowest:
        raise BadImage(
            f"has negative values, but the first {_NUM_PEEKED} items lie in [0, 1]: give all items the same range"
        )
    return to_uint8(block, ValueRange(lowest, 1.0), isinstance(img, torch.Tensor))


def _block_of_one(img: torch.Tensor | np.ndarray) -> np.ndarray:
    block = (as_numpy(img) if isinstance(img, torch.Tensor) else img)[None]
    check_dtype(block.dtype)
    nhwc_shape(block.shape, isinstance(img, torch.Tensor))
    return block


def _checked_bound(block: np.ndarray) -> float:
    return 0.0 if block.dtype == np.uint8 else lower_bound(block)
