import gzip
import hashlib
import io
import struct
import tarfile

import numpy as np
import pytest

from fastgan.data import open_source
from fastgan.data.sources import builtin
from fastgan.data.sources.download import RemoteFile
from fastgan.data.sources.known_sets import KNOWN_SETS, KnownSet
from fastgan.errors import UserError

SEEDED = np.random.default_rng(0)


def placed(folder, name: str, content: bytes) -> RemoteFile:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return RemoteFile(f"http://127.0.0.1:9/{name}", hashlib.md5(content).hexdigest())


def idx(array: np.ndarray) -> bytes:
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


def test_the_embedded_set_has_a_thousand_images_of_each_class():
    source = open_source("fashion-mnist-10k")
    assert (source.name, source.num_images, source.native_resolution, source.native_channels) == (
        "fashion-mnist-10k",
        10000,
        28,
        1,
    )
    image_set = source.read(32, 1)
    assert image_set.images.shape == (10000, 32, 32, 1)
    assert image_set.labels.bincount().tolist() == [1000] * 10
    assert len(image_set.class_names) == 10
    assert image_set.checksum == hashlib.sha256(image_set.images.numpy().tobytes()).hexdigest()
    assert image_set.checksum != source.read(28, 1).checksum


@pytest.mark.parametrize(
    ("name", "resolution", "channels"), [("mnist", 28, 1), ("fashion-mnist", 28, 1), ("cifar10", 32, 3)]
)
def test_opening_a_known_set_needs_no_network(name, resolution, channels, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    source = open_source(name)
    assert (source.name, source.native_resolution, source.native_channels) == (name, resolution, channels)
    assert len(source.class_names) == 10
    assert not list(tmp_path.iterdir())


def test_files_put_in_place_by_hand_are_read_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    images, labels = SEEDED.integers(0, 256, (6, 8, 8), np.uint8), np.arange(6, dtype=np.uint8)
    folder = tmp_path / "data" / "tiny"
    files = (
        placed(folder, "train-images-idx3-ubyte.gz", idx(images)),
        placed(folder, "train-labels-idx1-ubyte.gz", idx(labels)),
    )
    monkeypatch.setitem(KNOWN_SETS, "tiny", KnownSet((6, 8, 8), tuple("abcdef"), files))
    image_set = open_source("tiny").read(8, 1)
    np.testing.assert_array_equal(image_set.images[..., 0].numpy(), images)
    assert image_set.labels.tolist() == labels.tolist()
    assert image_set.class_names == tuple("abcdef")


def test_the_binary_cifar10_archive_is_read_in_planes(tmp_path):
    rows = SEEDED.integers(0, 256, (4, 3073), np.uint8)
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
        for name, content in (
            ("x/data_batch_1.bin", rows[:3]),
            ("x/test_batch.bin", rows),
            ("x/data_batch_2.bin", rows[3:]),
        ):
            member = tarfile.TarInfo(name)
            member.size = content.size
            archive.addfile(member, io.BytesIO(content.tobytes()))
    blocks = list(builtin.cifar10_blocks(tmp_path / "cifar.tar.gz"))
    np.testing.assert_array_equal(np.concatenate([images for images, _ in blocks]), rows[:, 1:].reshape(4, 3, 32, 32))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in blocks]), rows[:, 0])


def test_without_a_network_the_error_says_where_the_files_go(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    remote = RemoteFile("http://127.0.0.1:9/train-images-idx3-ubyte.gz", "0" * 32)
    monkeypatch.setitem(KNOWN_SETS, "tiny", KnownSet((6, 8, 8), (), (remote,)))
    with pytest.raises(UserError, match=r"cannot download http.*train-images.*by hand") as error:
        open_source("tiny").read(8, 1)
    assert str(tmp_path / "data" / "tiny") in str(error.value)
    assert "fashion-mnist-10k needs no network" in str(error.value)
