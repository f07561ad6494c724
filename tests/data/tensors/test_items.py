"""Data in memory by name: arrays, dicts, tuples, and data sets read item by item."""
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from fastgan.data.tensors.items import fields_in_memory, first_item, is_map_style, read_items
from fastgan.errors import UserError

IMG, CLASSES, COND = torch.rand(6, 1, 4, 4), torch.arange(6) % 3, np.float32([[1, 2]] * 6)


class Items(Dataset):
    def __init__(self, items):
        self.items, self.asked = items, []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.asked.append(index)
        if isinstance(self.items[index], Exception):
            raise self.items[index]
        return self.items[index]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (IMG, "img"),
        (IMG.numpy(), "img"),
        ((IMG, CLASSES), "img c"),
        ((IMG.numpy(), [0, 1, 2] * 2), "img c"),
        ((IMG, CLASSES, COND), "img c field2"),
        ((IMG, IMG), "img c"),
        ({"img": IMG, "c": CLASSES, "cond": COND}, "img c cond"),
        (TensorDataset(IMG, CLASSES), "img c"),
    ],
)
def test_fields_of_data_in_memory_keep_their_dtypes(data, names):
    fields = fields_in_memory(data)
    assert list(fields.values) == names.split()
    assert fields.num_items == 6
    assert str(fields.values["img"].dtype).endswith("float32")
    if "c" in fields.values and fields.values["c"] is not IMG:
        assert str(fields.values["c"].dtype).endswith("int64")


@pytest.mark.parametrize("data", ["a name", Items([IMG[0]]), (IMG[0, 0], IMG[1, 0]), [IMG[0], IMG[1]], {}, None])
def test_other_data_are_not_in_memory(data):
    assert fields_in_memory(data) is None


def test_fields_that_do_not_belong_together_are_refused():
    with pytest.raises(UserError, match="different numbers of items, {'img': 6, 'c': 5}"):
        fields_in_memory({"img": IMG, "c": CLASSES[:5]})
    with pytest.raises(UserError, match="the field 'name' is a list: give an array or a tensor of numbers"):
        fields_in_memory({"img": IMG, "name": ["a"] * 6})


def test_what_has_items_by_number_is_map_style():
    class Stream(IterableDataset):
        def __len__(self):
            return 3

        def __iter__(self):
            return iter(IMG)

    assert is_map_style(Items([1]))
    assert is_map_style([1, 2])
    assert not any(is_map_style(other) for other in (Stream(), IMG, COND, "text", (1, 2), {"a": 1}, 3))


def test_a_data_set_is_read_once_into_fields():
    dataset = Items([{"image": IMG[i], "label": i, "cond": COND[i], "path": f"{i}.png"} for i in range(6)])
    fields, skipped = read_items(dataset)
    assert dataset.asked == list(range(6))
    assert skipped == ()
    assert list(fields.values) == ["image", "label", "cond"]
    assert torch.equal(fields.values["image"], IMG)
    assert fields.values["label"].dtype == torch.int64
    assert torch.equal(fields.values["cond"], torch.from_numpy(COND))


def test_pillow_images_become_channels_first_tensors():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    assert torch.equal(first_item(Items([Image.fromarray(pixels)]))["img"], torch.from_numpy(pixels).permute(2, 0, 1))
    assert first_item(Items([Image.fromarray(pixels[..., 0])]))["img"].shape == (1, 4, 6)


def test_bad_items_are_named_or_left_out():
    items = [IMG[0], IMG[1, :, :3], ValueError("no such file"), IMG[3]]
    with pytest.raises(UserError, match=r"item 1 of the dataset Items has the shape \[1, 3, 4\] as 'img'"):
        read_items(Items(items))
    with pytest.raises(UserError, match=r"item 1 of the dataset Items cannot be read \(ValueError: no such file\)"):
        read_items(Items([items[0], items[2]]))
    fields, skipped = read_items(Items(items), skip_bad=True)
    assert torch.equal(fields.values["img"], IMG[[0, 3]])
    assert [text.split(" of ")[0] for text in skipped] == ["item 1", "item 2"]
