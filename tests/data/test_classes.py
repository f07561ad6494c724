"""The number of classes is known before decoding; classes that cannot be learnt are reported."""
import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from fastgan.data import classes_of, open_source
from fastgan.data.classes import check_classes
from fastgan.data.image_set import ImageSet
from fastgan.data.images import BadImage
from fastgan.data.packing.pack import pack
from fastgan.errors import UserError

GREY = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
LABELS = np.array([2, 0, 1, 1, 4, 4])


class Named(Dataset):
    classes = ("cat", "dog")

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.from_numpy(GREY[index]), index % 2


def class_folders(folder):
    for index, name in enumerate(("zebra", "ant", "ant", "bee")):
        (folder / name).mkdir(exist_ok=True)
        Image.fromarray(GREY[index]).save(folder / name / f"{index}.png")
    return folder


def npz(folder):
    np.savez(folder / "a.npz", x_train=GREY, y_train=LABELS)
    return folder / "a.npz"


def packed(folder):
    pack(open_source(Named()), folder / "a.fgp")
    return folder / "a.fgp"


def idx(folder):
    for name, array in (("train-images-idx3-ubyte.gz", GREY), ("train-labels-idx1-ubyte.gz", LABELS.astype(np.uint8))):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / name).write_bytes(gzip.compress(header + array.tobytes()))
    return folder / "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (class_folders, (3, ("ant", "bee", "zebra"))),
        (packed, (2, ("cat", "dog"))),
        (lambda _: Named(), (2, ("cat", "dog"))),
        (npz, (5, None)),
        (idx, (5, None)),
        (lambda _: (GREY, LABELS), (5, None)),
        (lambda _: TensorDataset(torch.from_numpy(GREY), torch.from_numpy(LABELS)), (5, None)),
    ],
)
def test_a_source_says_what_its_set_says(tmp_path, make, expected):
    source = open_source(make(tmp_path))
    image_set = source.read(8, 1)
    assert classes_of(source) == classes_of(image_set) == expected
    assert source.labels.dtype == np.int64
    assert source.labels.tolist() == image_set.labels.tolist()


@pytest.mark.parametrize("name", ["fashion-mnist-10k", "mnist", "cifar10"])
def test_known_sets_need_no_network(name, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    num_classes, class_names = classes_of(open_source(name))
    assert num_classes == len(class_names) == 10


def test_nothing_is_decoded(tmp_path, monkeypatch):
    for index in range(4):
        (tmp_path / str(index)).mkdir()
        (tmp_path / str(index) / "a.png").write_bytes(b"no image")
    assert classes_of(open_source(tmp_path)) == (4, ("0", "1", "2", "3"))
    monkeypatch.setattr("fastgan.data.sources.arrays.to_uint8", lambda *_: pytest.fail(BadImage("decoded")))
    assert classes_of(open_source((GREY, LABELS))) == (5, None)


@pytest.mark.parametrize("opened", [open_source, lambda data: open_source(data).read(8, 1)])
def test_a_set_without_labels_is_told_which_have_some(opened):
    with pytest.raises(
        UserError, match="^array has no labels, .* a folder for each class, an npz with labels, .* known by name$"
    ):
        classes_of(opened(GREY))


def test_labels_that_number_no_classes():
    assert classes_of(open_source((GREY, np.array([5, 0, 0, 0, 0, 0])))) == (6, None)
    with pytest.raises(
        UserError, match="the labels of array go up to 6, and it has 6 images: number its classes from 0 on"
    ):
        classes_of(open_source((GREY, np.array([6, 0, 0, 0, 0, 0]))))


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_classes_of_few_images_are_noted(kind):
    assert check_classes(kind([0, 1, 1, 0]), None, "a", 2) == ()
    assert check_classes(kind([0, 1, 1]), None, "a", 2) == ("the class 0 has a single image",)
    assert check_classes(kind([0, 1, 1, 0]), ("cat", "dog", "eel"), "a", 3) == (
        "the class eel has no image: what is generated of it is not learnt",)
    assert check_classes(kind([9, 9, 1, 3]), None, "a", 10) == (
        "each of the classes 0, 2, 4, 5, 6 and 2 more has no image: what is generated of it is not learnt",
        "each of the classes 1, 3 has a single image",
    )


@pytest.mark.parametrize(("class_names", "shown"), [(None, 12), (tuple("abcdefghijklmn"), 14)])
def test_labels_beyond_those_that_the_network_knows(class_names, shown):
    labels = np.array([0, 11, 11])
    assert len(check_classes(labels, class_names, "a", 12)) == 2
    with pytest.raises(
        UserError, match=f"the set a has {shown} classes, the network 10: give it {shown}, or a set of fewer classes"
    ):
        check_classes(labels, class_names, "a", 10)


def test_labels_that_are_missing_are_named():
    with pytest.raises(UserError, match="^a has no labels"):
        check_classes(None, ("cat", "dog"), "a", 2)


def test_names_do_not_stand_for_labels():
    images = torch.zeros(2, 8, 8, 1, dtype=torch.uint8)
    assert classes_of(ImageSet(images, torch.tensor([0, 0]), ("cat", "dog", "eel"), "a")) == (3, ("cat", "dog", "eel"))
