import gzip
import struct
import zipfile

import numpy as np
import pytest

from fastgan.data import open_source
from fastgan.errors import UserError

GREY = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9], np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def images_of(path) -> np.ndarray:
    return open_source(path).read(8, 1).images[..., 0].numpy()


def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    np.testing.assert_array_equal(images_of(tmp_path / "a.npy"), GREY)


def test_the_kind_is_told_by_the_content(tmp_path):
    with open(tmp_path / "misnamed.png", "wb") as file:
        np.savez_compressed(file, GREY)
    np.testing.assert_array_equal(images_of(tmp_path / "misnamed.png"), GREY)


@pytest.mark.parametrize("image_key", ["images", "x_train", "x", "arr_0", "data", "anything"])
@pytest.mark.parametrize("label_key", ["labels", "y_train", "y"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_keys(tmp_path, image_key, label_key, save):
    save(tmp_path / "a.npz", **{image_key: GREY, label_key: LABELS, "weights": np.ones(3)})
    image_set = open_source(tmp_path / "a.npz").read(8, 1)
    np.testing.assert_array_equal(image_set.images[..., 0].numpy(), GREY)
    assert image_set.labels.tolist() == LABELS.tolist()


def test_npz_in_fortran_order_and_big_endian_floats(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.asfortranarray(GREY))
    np.testing.assert_array_equal(images_of(tmp_path / "a.npz"), GREY)
    np.savez(tmp_path / "b.npz", images=(GREY / 255).astype(">f4"))
    np.testing.assert_array_equal(images_of(tmp_path / "b.npz"), GREY)


def test_an_npz_whose_images_are_unclear_names_its_keys(tmp_path):
    np.savez(tmp_path / "a.npz", left=GREY, right=GREY)
    with pytest.raises(UserError, match=r"a\.npz holds the arrays left, right, and which are the images is unclear"):
        open_source(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.zeros((6, 64)), pictures=GREY)
    np.testing.assert_array_equal(images_of(tmp_path / "b.npz"), GREY)


class Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_pickled_objects_are_never_read(tmp_path, name):
    trap = np.array([Trap(), Trap()], object)
    if name.endswith("npz"):
        np.savez(tmp_path / name, images=trap)
    else:
        np.save(tmp_path / name, trap, allow_pickle=True)
    with pytest.raises(UserError, match=name):
        open_source(tmp_path / name).read(8, 1)
    np.savez(tmp_path / "labels.npz", images=GREY[:2], labels=trap)
    with pytest.raises(UserError, match="'labels' cannot be read"):
        open_source(tmp_path / "labels.npz").read(8, 1)
    assert not Trap.sprung


@pytest.mark.parametrize(
    "labels", [LABELS[:-1], LABELS / 2, np.full(6, np.nan), np.zeros((6, 10), int), np.array(list("abcdef"))]
)
def test_labels_that_do_not_fit_are_refused(tmp_path, labels):
    np.savez(tmp_path / "a.npz", images=GREY, labels=labels)
    with pytest.raises(UserError, match="one integer an image"):
        open_source(tmp_path / "a.npz").read(8, 1)


def test_negative_labels_are_refused_and_columns_are_taken(tmp_path):
    np.savez(tmp_path / "a.npz", images=GREY, labels=LABELS[:, None])
    assert open_source(tmp_path / "a.npz").read(8, 1).labels.tolist() == LABELS.tolist()
    np.savez(tmp_path / "a.npz", images=GREY, labels=np.array([0, 1, -1, 0, 1, 1]))
    with pytest.raises(UserError, match="negative"):
        open_source(tmp_path / "a.npz").read(8, 1)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("with_labels", [True, False])
def test_idx_with_the_labels_beside_it(tmp_path, suffix, with_labels):
    pack = gzip.compress if suffix else bytes
    (tmp_path / f"train-images-idx3-ubyte{suffix}").write_bytes(pack(idx(GREY)))
    if with_labels:
        (tmp_path / f"train-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(LABELS)))
    source = open_source(tmp_path / f"train-images-idx3-ubyte{suffix}")
    assert (source.num_images, source.native_resolution, source.native_channels) == (6, 8, 1)
    image_set = source.read(8, 1)
    np.testing.assert_array_equal(image_set.images[..., 0].numpy(), GREY)
    assert (image_set.labels.tolist() == LABELS.tolist()) if with_labels else image_set.labels is None


@pytest.mark.parametrize("content", [
    idx(GREY)[:-1], idx(GREY)[:9], gzip.compress(idx(GREY)[:-1], mtime=0), gzip.compress(idx(GREY), mtime=0)[:-20],
    gzip.compress(b"text", mtime=0), b"\x1f\x8b",
])
def test_damaged_idx_files_are_named(tmp_path, content):
    (tmp_path / "a.idx").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.idx"):
        open_source(tmp_path / "a.idx").read(8, 1)


def test_damaged_numpy_files_are_named(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    np.savez(tmp_path / "b.npz", images=GREY)
    for name, cut in (("a.npy", 50), ("a.npy", 330), ("b.npz", 50)):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-cut])
        with pytest.raises(UserError, match=name):
            open_source(tmp_path / name)


def test_an_npz_that_promises_more_than_it_holds_is_cut_short(tmp_path):
    header = {"descr": "|u1", "fortran_order": False, "shape": (1000, 8, 8)}
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("images.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
        member.write(GREY.tobytes())
    with pytest.raises(UserError, match=r"a\.npz is cut short"):
        open_source(tmp_path / "a.npz").read(8, 1)
