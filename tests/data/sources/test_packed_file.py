"""The format of packed files: the data that go in come out, and any alteration is noticed."""
import json
import os
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.data import open_source
from fastgan.data.sources import packed_file
from fastgan.data.sources.packed_file import IMAGES_AT, MAGIC, Contents, PackedSource, seal
from fastgan.errors import UserError

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)


def write(path, images, labels=None, class_names=None, name="set", skipped=(), sizes=None):
    """Write a packed file of these images, uint8 [num_images, H, W, C].

    They lie in blocks of these sizes (default: two images, then one).
    """
    sizes = sizes or [2, len(images) - 2] if len(images) > 2 else [len(images)]
    stops = np.cumsum(sizes)
    blocks = tuple(
        (int(size), zlib.crc32(images[stop - size : stop].tobytes())) for size, stop in zip(sizes, stops, strict=True)
    )
    with open(path, "wb", buffering=0) as file:
        file.seek(IMAGES_AT)
        file.write(images.tobytes())
        seal(file, Contents(images.shape, labels, class_names, name, tuple(skipped), blocks))
    return path


def pictures(num_images=5, height=6, width=6, channels=3):
    return np.random.default_rng(num_images).integers(0, 256, (num_images, height, width, channels), np.uint8)


def read_whole(path):
    """Read everything in a packed file that training may read."""
    source = open_source(path)
    return source.read(source.native_resolution, source.native_channels)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_what_goes_in_comes_out(tmp_path_factory, data):
    shape = [data.draw(st.integers(*bounds)) for bounds in ((2, 6), (1, 9), (1, 9))] + [
        data.draw(st.sampled_from([1, 3]))
    ]
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    labels = data.draw(st.none() | st.lists(st.integers(0, 2**62), min_size=shape[0], max_size=shape[0]))
    class_names = data.draw(st.none() | st.lists(TEXT, max_size=3).map(tuple))
    name, skipped = data.draw(TEXT), tuple(data.draw(st.lists(TEXT, max_size=3)))
    path = write(
        tmp_path_factory.mktemp("packed") / "a",
        images,
        None if labels is None else np.array(labels),
        class_names,
        name,
        skipped,
    )
    source = open_source(path)
    assert (source.name, source.num_images, source.class_names, source.skipped) == (
        name,
        shape[0],
        class_names,
        skipped,
    )
    assert (source.native_resolution, source.native_channels) == (min(shape[1:3]), shape[3])
    image_set = source.read(source.native_resolution, shape[3])
    assert (image_set.name, image_set.class_names, image_set.skipped) == (name, class_names, skipped)
    assert labels is None if image_set.labels is None else image_set.labels.tolist() == labels
    np.testing.assert_array_equal(
        image_set.images.numpy(), open_source(images).read(min(shape[1:3]), shape[3]).images.numpy()
    )


def test_numpy_reads_one_as_the_docstring_says(tmp_path):
    path = write(tmp_path / "faces.fgp", pictures(), np.arange(5))
    with open(path, "rb") as file:
        shape = json.loads(file.read(4096)[16:])["shape"]
    np.testing.assert_array_equal(np.memmap(path, np.uint8, "r", 4096, tuple(shape)), pictures())
    np.testing.assert_array_equal(np.fromfile(path, "<i8", 5, offset=4096 + pictures().nbytes), np.arange(5))


def test_reading_at_the_own_size_maps_the_file_and_never_alters_it(tmp_path):
    path = write(tmp_path / "a", pictures())
    before = path.read_bytes()
    image_set = PackedSource(path).read(6, 3)
    assert image_set.images.is_contiguous()
    with open(path, "rb+") as file:  # to see that it is the file's own memory, which is otherwise not to be written to
        file.seek(IMAGES_AT)
        file.write(b"\x07\x08")
    assert image_set.images.view(-1)[:2].tolist() == [7, 8]
    image_set.images.fill_(1)
    assert path.read_bytes() == before[:IMAGES_AT] + b"\x07\x08" + before[IMAGES_AT + 2:]


def test_a_file_far_larger_than_the_memory_is_mapped(tmp_path):
    with open(tmp_path / "a", "wb+", buffering=0) as file:
        try:
            file.truncate(1 << 40)
        except OSError:
            pytest.skip("this file system takes no file of a tebibyte")
        assert packed_file._mapped(file).shape == (1 << 40,)


@pytest.mark.parametrize(("img_resolution", "img_channels"), [(4, 3), (6, 1), (8, 3), (3, 1)])
def test_another_size_is_decoded_as_from_any_array(tmp_path, img_resolution, img_channels):
    images = pictures(7)
    path = write(tmp_path / "a", images, np.arange(7), ("a", "b"), skipped=("x.png: is bad",))
    resized = PackedSource(path).read(img_resolution, img_channels, progress=True)
    np.testing.assert_array_equal(
        resized.images.numpy(), open_source(images).read(img_resolution, img_channels).images.numpy()
    )
    assert resized.labels.tolist() == list(range(7))
    assert (resized.class_names, resized.skipped) == (("a", "b"), ("x.png: is bad",))


# --- damage ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write(
        tmp_path_factory.mktemp("small") / "a.fgp",
        pictures(3, 4, 4),
        np.array([1, 0, 1]),
        ("cat", "dog"),
        skipped=("b.png: is cut short",),
    )


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_altered_byte_is_found(small, data):
    content = bytearray(small.read_bytes())
    # Half of the places anywhere, half outside of the padding, most of a small file.
    places = st.one_of(st.integers(0, len(content) - 1), st.integers(0, 200), st.integers(IMAGES_AT, len(content) - 1))
    content[data.draw(places)] ^= data.draw(st.integers(1, 255))
    damaged = small.with_name("damaged.fgp")
    damaged.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):  # the name of the file, in any sentence
        read_whole(damaged)
    with pytest.raises(UserError, match=r"damaged\.fgp is damaged \("):
        PackedSource(damaged).verify()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_missing_or_additional_end_is_found(small, data):
    content = small.read_bytes()
    length = data.draw(st.integers(0, len(content) + 3).filter(lambda length: length != len(content)))
    cut = small.with_name("cut.fgp")
    cut.write_bytes((content + b"\0\0\0")[:length])
    with pytest.raises(UserError, match=r"cut\.fgp"):
        open_source(cut)
    with pytest.raises(UserError, match=r"cut\.fgp is damaged \(it "):
        PackedSource(cut)


def test_an_altered_image_is_found_when_it_is_resized_and_skip_bad_does_not_hide_it(small):
    content = bytearray(small.read_bytes())
    content[IMAGES_AT + 100] ^= 1
    damaged = small.with_name("resized.fgp")
    damaged.write_bytes(content)
    with pytest.raises(UserError, match=r"resized\.fgp is damaged \(images 2 to 2 were altered\): copy it again"):
        open_source(damaged).read(2, 1, skip_bad=True)


def forged(small, **changes):
    """Return the file with other values in its header or details, and checksums that match them."""
    content = small.read_bytes()
    header = json.loads(content[16:IMAGES_AT])
    details = json.loads(content[-header["details_bytes"]:])
    middle = content[IMAGES_AT:-header["details_bytes"]]
    details |= {key: value for key, value in changes.items() if key in details}
    encoded = json.dumps(details).encode()
    header |= {"details_bytes": len(encoded), "details_crc32": zlib.crc32(encoded)}
    header |= {key: value for key, value in changes.items() if key in header}
    head = json.dumps(header).encode().ljust(IMAGES_AT - 16)
    path = small.with_name("forged.fgp")
    path.write_bytes(MAGIC + b"%08x" % zlib.crc32(head) + head + middle + encoded)
    return path


def test_an_unchanged_forgery_is_read(small):
    assert read_whole(forged(small)).labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("changes", [
    {"version": 2}, {"version": None}, {"shape": [3, 4, 4]}, {"shape": [3, 4, 4, 4]}, {"shape": [3, 4, 4, 2]},
    {"shape": [3, 4, 4, True]}, {"shape": [-3, -4, 4, 3]}, {"shape": [3.0, 4, 4, 3]}, {"shape": "3443"},
    {"shape": [0, 4, 4, 3]},
    {"shape": [2, 4, 4, 3]}, {"shape": [2**62, 2**62, 2**62, 3]}, {"shape": [10**1200, 10**1200, 10**1200, 3]},
    {"shape": [10**9, 10**9, 10**9, 3]},
    {"labels": 1}, {"labels": False}, {"labels": None}, {"details_bytes": -1}, {"details_bytes": 10**15},
    {"details_bytes": "9"},
    {"details_crc32": 1.5}, {"name": 3}, {"class_names": "ab"}, {"class_names": [1]}, {"skipped": None},
    {"skipped": [None]},
    {"labels_crc32": 0}, {"labels_crc32": None}, {"blocks": []}, {"blocks": None}, {"blocks": [[3, 0, 0]]},
    {"blocks": [[0, 0], [3, 0]]},
    {"blocks": [[-1, 0], [4, 0]]}, {"blocks": [[2, 0]]}, {"blocks": [["3", 0]]}, {"blocks": [[3, None]]},
    {"blocks": [[3, 0]]}, {"blocks": [3, 0]},
])  # fmt: skip
def test_a_header_that_lies_is_refused(small, changes):
    with pytest.raises(UserError, match=r"forged\.fgp"):
        read_whole(forged(small, **changes))


@pytest.mark.parametrize(
    "text", [b"[1]", b"null", b"{", b"[" * 4000, b"\xff\xfe", b'{"shape": ' + b"9" * 4000 + b"}", b""]
)
def test_a_header_that_is_no_json_object_is_refused(tmp_path, text):
    head = text.ljust(IMAGES_AT - 16)
    (tmp_path / "odd.fgp").write_bytes(MAGIC + b"%08x" % zlib.crc32(head) + head)
    with pytest.raises(UserError, match=r"odd\.fgp is "):
        open_source(tmp_path / "odd.fgp")


def test_negative_labels_are_refused(tmp_path):
    with pytest.raises(UserError, match="its labels hold impossible values"):
        open_source(write(tmp_path / "a", pictures(3), np.array([0, -1, 2])))


def test_images_beyond_what_is_safe_are_refused(tmp_path):
    path = tmp_path / "a"
    with open(path, "wb", buffering=0) as file:  # a hole: nothing of it is read
        seal(file, Contents((1, 10000, 10000, 1), None, None, "a", (), ((1, 0),)))
    with pytest.raises(UserError, match="claims 10000x10000 pixels"):
        open_source(path)


def test_a_set_of_one_image_and_a_file_that_nobody_may_read(tmp_path):
    with pytest.raises(UserError, match="the number of images is 1"):
        open_source(write(tmp_path / "a", pictures(1)))
    path = write(tmp_path / "b", pictures(3))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("nothing is forbidden to this user")
    with pytest.raises(UserError, match="cannot be read"):
        open_source(path)


def test_images_with_labels_are_tensors_that_torch_can_index(tmp_path):
    image_set = PackedSource(write(tmp_path / "a", pictures(), np.arange(5))).read(6, 3)
    assert image_set.labels.dtype == torch.int64
    torch.testing.assert_close(image_set.images[image_set.labels.flip(0)], torch.from_numpy(pictures()[::-1].copy()))
