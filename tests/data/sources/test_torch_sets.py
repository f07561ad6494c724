import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from fastgan.data import open_source
from fastgan.errors import UserError

PLANES = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Items(Dataset):
    def __init__(self, items, classes=None):
        self.items = items
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def read(items, img_channels=3, **options):
    return open_source(Items(items)).read(8, img_channels, **options)


@pytest.mark.parametrize("convert", [
    lambda planes: planes,
    lambda planes: planes / 255,
    lambda planes: planes / 127.5 - 1,
    lambda planes: planes.permute(1, 2, 0).numpy(),
    lambda planes: planes.permute(1, 2, 0).numpy() / np.float32(255),
    lambda planes: Image.fromarray(planes.permute(1, 2, 0).numpy()),
])
@pytest.mark.parametrize("labelled", [True, False])
def test_every_kind_of_item_gives_the_same_images(convert, labelled):
    items = [(convert(planes), index % 3) if labelled else convert(planes) for index, planes in enumerate(PLANES)]
    source = open_source(Items(items, ["a", "b", "c"]))
    assert (source.name, source.num_images, source.native_resolution, source.native_channels) == ("Items", 5, 8, 3)
    image_set = source.read(8, 3)
    assert torch.equal(image_set.images, PLANES.permute(0, 2, 3, 1))
    assert image_set.class_names == ("a", "b", "c")
    assert (image_set.labels.tolist() == [0, 1, 2, 0, 1]) if labelled else image_set.labels is None


def test_tensor_datasets_subsets_and_loaders():
    dataset = TensorDataset(PLANES, torch.arange(5))
    image_set = open_source(DataLoader(Subset(dataset, [3, 1]), batch_size=2, shuffle=True)).read(8, 3)
    assert torch.equal(image_set.images, PLANES[[3, 1]].permute(0, 2, 3, 1))
    assert image_set.labels.tolist() == [3, 1]
    assert open_source(TensorDataset(PLANES)).read(8, 3).labels is None


def test_items_may_be_dicts():
    items = [{"mask": planes[:1], "image": planes, "label": index % 3} for index, planes in enumerate(PLANES)]
    image_set = open_source(Items(items)).read(8, 3)
    assert torch.equal(image_set.images, PLANES.permute(0, 2, 3, 1))
    assert image_set.labels.tolist() == [0, 1, 2, 0, 1]


def test_labels_may_be_whole_floats():
    source = open_source(TensorDataset(PLANES, torch.tensor([0.0, 1, 2, 0, 1])))
    assert source.labels.tolist() == source.read(8, 3).labels.tolist() == [0, 1, 2, 0, 1]


def test_one_negative_item_among_the_first_makes_the_range_signed():
    items = [torch.ones(1, 8, 8), torch.zeros(1, 8, 8), -torch.ones(1, 8, 8)]
    assert read(items, 1).images[:, 0, 0, 0].tolist() == [255, 128, 0]


def test_items_of_many_sizes_are_fitted():
    items = [torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(8, 20, dtype=torch.uint8), Image.new("RGBA", (9, 30))]
    assert read(items).images.shape == (3, 8, 8, 3)


def test_bad_items_are_named_or_skipped():
    items = [
        torch.zeros(1, 8, 8),
        torch.full((1, 8, 8), torch.nan),
        torch.zeros(1, 3, 3),
        torch.ones(1, 8, 8),
        torch.zeros(8, 8, dtype=torch.int32),
    ]
    with pytest.raises(UserError, match="item 1 of the dataset Items: there are NaN"):
        read(items, 1)
    image_set = read(items, 1, skip_bad=True)
    assert image_set.images[:, 0, 0, 0].tolist() == [0, 255]
    assert [entry.split(" of ")[0] for entry in image_set.skipped] == ["item 1", "item 2", "item 4"]


def test_a_late_change_of_range_is_an_error():
    items = [torch.ones(1, 8, 8)] * 70 + [-torch.ones(1, 8, 8)]
    with pytest.raises(UserError, match="item 70 .* the first 64 items"):
        read(items, 1)


@pytest.mark.parametrize(("item", "message"), [
    ({"image": 1}, "is a int"), ({"left": 1}, "has the fields left"),
    ((PLANES[0], 1, 2), "is a tuple"), ((PLANES[0], "cat"), "has a str for a label"),
    ((PLANES[0], 0.5), "has a float for a label"), ((PLANES[0], torch.zeros(10).long()), "has a Tensor for a label"),
])
def test_items_of_other_kinds_are_refused(item, message):
    with pytest.raises(UserError, match=f"item 0 of the dataset Items {message}"):
        read([item, item])


def test_labels_for_some_only_are_refused():
    with pytest.raises(UserError, match="some have none"):
        read([(PLANES[0], 1), PLANES[1]])


def test_iterable_datasets_and_strangers_are_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(PLANES)

    class Endless(Dataset):
        def __getitem__(self, index):
            return PLANES[0]

    for data, message in (
        (Stream(), "IterableDataset"),
        (DataLoader(Stream()), "IterableDataset"),
        (Endless(), "no length"),
        (3, "data is a int"),
        (b"bytes", "data is a bytes"),
        (None, "data is a NoneType"),
    ):
        with pytest.raises(UserError, match=message):
            open_source(data)
