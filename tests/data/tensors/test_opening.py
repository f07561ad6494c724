"""Data in memory as the samples of G: what is kept exactly, and what is fitted as images."""
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from fastgan.data import open_source
from fastgan.data.tensors.opening import (
    Target,
    as_pair,
    cached,
    is_live,
    labels_of,
    open_tensors,
    read_once_said,
)
from fastgan.errors import UserError


def pictures(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, *shape)).astype(dtype)


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(pictures(4, 4))


@pytest.mark.parametrize(
    ("data", "img_shape", "dtype"),
    [
        (pictures(4, 12, 3), (3, 4, 12), torch.uint8),
        (pictures(8, 8, 4), (4, 8, 8), torch.uint8),
        (pictures(5, 8, 8, dtype="float32"), (5, 8, 8), torch.float32),
        (pictures(8, 8, 1, dtype="uint16") * 16, (1, 8, 8), torch.float32),
        (pictures(2, 4, 4, 4, dtype="float64"), (2, 4, 4, 4), torch.float32),
        (pictures(1, 32, dtype="float32"), (1, 32), torch.float32),
        (pictures(24, 1, dtype="float32"), (24, 1), torch.float32),
        (torch.rand(6, 1, 8, 8), (1, 8, 8), torch.float32),
        (torch.rand(6, 1, 8, 8), (64,), torch.float32),
        (TensorDataset(torch.rand(6, 3, 8, 8), torch.zeros(6)), (3, 8, 8), torch.float32),
        (Items([{"image": torch.rand(1, 8, 8), "label": 1}] * 6), (1, 8, 8), torch.float32),
        ({"img": pictures(4, 12, 3), "c": [0] * 6}, (3, 4, 12), torch.uint8),
    ],
)
def test_samples_of_the_shape_that_g_makes_are_kept(data, img_shape, dtype):
    tensor_set, _ = open_tensors(data, Target(img_shape))
    assert tensor_set.num_images == 6
    assert tensor_set.rows.dtype == dtype
    if dtype == torch.float32:
        assert tensor_set.rows.min() >= -1
        assert tensor_set.rows.max() <= 1


@pytest.mark.parametrize(
    "data",
    [
        pictures(8, 8, 1), torch.from_numpy(pictures(3, 8, 8)), pictures(40, 30, 3),
        torch.rand(6, 1, 9, 9), Items([torch.zeros(1, 8, 8, dtype=torch.uint8)] * 6), "mnist", None,
    ],
)  # fmt: skip
def test_images_that_are_fitted_to_square_ones_are_left_to_the_sources(data):
    assert open_tensors(data, Target((1, 8, 8))) is None


@pytest.mark.parametrize("data", [pictures(8, 8, 1), torch.rand(6, 2, 9), Items([torch.rand(5, 8, 8)] * 6)])
def test_samples_of_another_shape_are_refused(data):
    with pytest.raises(UserError, match=r"samples of shape \[.*\], and G makes \[5, 8, 9\]"):
        open_tensors(data, Target((5, 8, 9)))


def test_labels_are_class_numbers_or_vectors_and_other_fields_are_named():
    data = {"img": torch.rand(6, 1, 8, 8), "label": torch.tensor([0.0, 1] * 3), "mask": torch.zeros(6, 2)}
    tensor_set, notes = open_tensors(data, Target((1, 8, 8), c_dim=2))
    assert tensor_set.labels.tolist() == [0, 1] * 3
    assert any("mask is not used" in note for note in notes)
    vectors = torch.rand(6, 4)
    assert torch.equal(labels_of(vectors, 4, "it"), vectors)
    assert labels_of(vectors, 0, "it") is None
    with pytest.raises(UserError, match="one integer an image"):
        labels_of(vectors, 3, "it")


def test_dicts_are_given_to_sources_as_pairs():
    images, labels = pictures(8, 8), np.arange(6)
    assert as_pair({"img": images, "c": labels, "mask": labels}, 0) == (images, labels)
    assert as_pair({"pixel_values": images}, 0) is images
    assert as_pair({"x": images, "y": np.zeros((6, 4))}, 0) is images
    assert as_pair((images, labels), 0) == (images, labels)
    assert as_pair(images, 0) is images
    assert as_pair("mnist", 0) == "mnist"


def test_reading_once_is_said_of_data_sets_with_code_of_their_own():
    (note,) = read_once_said(Items([1, 2]))
    assert note.startswith("Items is read once into memory")
    assert "DataLoader" in note
    assert read_once_said(TensorDataset(torch.zeros(3, 1))) == read_once_said("mnist") == read_once_said([1, 2]) == ()
    assert read_once_said(open_source(pictures(8, 8))) == ()


def test_loaders_and_streams_are_live_unless_they_are_cached():
    dataset = Items([1, 2])
    assert is_live(DataLoader(dataset))
    assert is_live(Stream())
    assert not is_live(dataset)
    assert cached(DataLoader(dataset)) is dataset
    for stream in (Stream(), DataLoader(Stream())):
        with pytest.raises(UserError, match="Stream has none: leave it out"):
            cached(stream)
