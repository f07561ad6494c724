import os
from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image

from fastgan.data import open_source
from fastgan.data.sources.folder import class_labels
from fastgan.errors import UserError


def save(path, value, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def values(image_set) -> list[int]:
    return image_set.images[:, 0, 0, 0].tolist()


def test_files_come_in_sorted_order_without_labels(tmp_path):
    for name, value in (("b.png", 2), ("c.JPG", 3), ("a.bmp", 1)):
        save(tmp_path / name, value)
    (tmp_path / "notes.txt").write_text("not an image")
    save(tmp_path / ".hidden.png", 9)
    source = open_source(str(tmp_path))
    assert (source.name, source.num_images, source.native_resolution, source.native_channels) == (
        tmp_path.name,
        3,
        8,
        1,
    )
    image_set = source.read(8, 1)
    assert values(image_set) == [1, 2, 3]
    assert image_set.labels is None
    assert image_set.class_names is None
    assert image_set.images.is_contiguous()


def test_class_folders_give_labels_and_names(tmp_path):
    save(tmp_path / "dog" / "1.png", 10)
    save(tmp_path / "cat" / "2.png", 20)
    save(tmp_path / "cat" / "old" / "1.png", 30)
    image_set = open_source(tmp_path).read(8, 3)
    assert image_set.class_names == ("cat", "dog")
    assert values(image_set) == [20, 30, 10]
    assert image_set.labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize(("members", "class_names"), [
    (["a/1.png", "b/1.png"], ("a", "b")),
    (["set/a/1.png", "set/b/1.png"], ("a", "b")),
    (["set/a/1.png", "set/a/2.png"], None),
    (["1.png", "a/1.png", "b/1.png"], None),
    (["1.png", "2.png"], None),
])
def test_what_counts_as_class_folders(members, class_names):
    labels, names = class_labels([PurePosixPath(member) for member in members])
    assert names == class_names
    assert (labels is None) == (class_names is None)


def test_many_files_keep_their_order_through_the_threads(tmp_path):
    for value in range(100):
        save(tmp_path / f"{value:03}.png", value, (8 + 40 * (value % 3), 8))
    assert values(open_source(tmp_path).read(8, 1)) == list(range(100))


def test_a_bad_file_is_named_or_skipped(tmp_path):
    for value in range(4):
        save(tmp_path / str(value % 2) / f"{value}.png", value)
    (tmp_path / "0" / "0.png").write_bytes(b"not a picture")
    broken = (tmp_path / "1" / "1.png").read_bytes()
    (tmp_path / "1" / "1.png").write_bytes(broken[:len(broken) // 2])
    save(tmp_path / "1" / "4.png", 4)
    source = open_source(tmp_path)
    assert source.native_resolution == 8
    with pytest.raises(UserError, match=r"0.png: is not an image of a known kind; mend or remove it, or .* skip_bad"):
        source.read(8, 1)
    image_set = source.read(8, 1, skip_bad=True)
    assert values(image_set) == [2, 3, 4]
    assert image_set.labels.tolist() == [0, 1, 1]
    assert [entry.partition(": ")[0] for entry in image_set.skipped] == [
        str(tmp_path / "0" / "0.png"),
        str(tmp_path / "1" / "1.png"),
    ]


def test_too_few_good_files_is_an_error_that_names_the_first_bad_one(tmp_path):
    save(tmp_path / "a.png", 1)
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"only 1 of 2 images .*b\.png"):
        open_source(tmp_path).read(8, 1, skip_bad=True)


def test_too_small_an_image_is_named_with_its_size(tmp_path):
    save(tmp_path / "a.png", 1, (32, 32))
    save(tmp_path / "b.png", 1, (20, 32))
    with pytest.raises(
        UserError, match=r"b\.png: is 20 pixels .* img_resolution 32: the largest that would work is 26"
    ):
        open_source(tmp_path).read(32, 1)


def test_nothing_usable(tmp_path):
    with pytest.raises(UserError, match="no images in"):
        open_source(tmp_path)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(UserError, match="the number of images is 1"):
        open_source(tmp_path)
    (tmp_path / "b.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"none of the 2 files .*a\.png"):
        _ = open_source(tmp_path).native_resolution


def test_links_are_followed_once_and_loops_end(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    save(elsewhere / "x.png", 7)
    folder = tmp_path / "folder"
    save(folder / "a.png", 1)
    os.symlink(elsewhere, folder / "linked", target_is_directory=True)
    os.symlink(folder, elsewhere / "back", target_is_directory=True)
    os.symlink(folder, folder / "self", target_is_directory=True)
    assert values(open_source(folder).read(8, 1)) == [1, 7]


def test_a_broken_link_and_a_pipe_are_bad_files(tmp_path):
    save(tmp_path / "a.png", 1)
    save(tmp_path / "b.png", 2)
    os.symlink(tmp_path / "gone", tmp_path / "c.png")
    os.mkfifo(tmp_path / "d.png")
    image_set = open_source(tmp_path).read(8, 1, skip_bad=True)
    assert values(image_set) == [1, 2]
    assert len(image_set.skipped) == 2


def test_the_images_survive_the_source(tmp_path):
    save(tmp_path / "a.png", 1)
    save(tmp_path / "b.png", 2)
    image_set = open_source(tmp_path).read(8, 3, progress=True)
    np.testing.assert_array_equal(image_set.images.numpy().reshape(2, -1), np.repeat([[1], [2]], 192, 1))


def test_a_set_beyond_the_memory_is_refused_with_both_sizes(tmp_path, monkeypatch):
    for name in "ab":
        save(tmp_path / f"{name}.png", 1)
    monkeypatch.setattr("fastgan.data.source._available_memory", lambda: 127)
    source = open_source(str(tmp_path))
    with pytest.raises(
        UserError, match=r"at \(8, 8, 1\) needs 1.28e-07 GB of memory, and 1.27e-07 GB are free: pack it"
    ):
        source.read(8, 1)
    monkeypatch.setattr("fastgan.data.source._available_memory", lambda: 128)
    assert values(source.read(8, 1)) == [1, 1]
    monkeypatch.undo()
    with pytest.raises(UserError, match="GB are free"):
        source.read(2**31, 3)
