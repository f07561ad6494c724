"""Tars of images and WebDataset's shards."""
import contextlib
import io
import json
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded, picture
from PIL import Image

from fastgan.data import open_source
from fastgan.data.packing.decoders import in_processes
from fastgan.data.packing.pack import pack
from fastgan.data.sources.records import tar
from fastgan.errors import UserError


def grey(value: int) -> bytes:
    return encoded(Image.new("L", (8, 8), value))


def write(path, files: dict[str, bytes], mode: str = "w", kind: int = tarfile.PAX_FORMAT):
    with tarfile.open(path, mode, format=kind) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def values(source) -> list[int]:
    return source.read(8, 1).images[:, 0, 0, 0].tolist()


def samples(numbers, **label) -> dict[str, bytes]:
    """Return the files of samples that are grey images of `numbers`, with these other files."""
    files = {}
    for number in numbers:
        files[f"{number:04}.png"] = grey(number)
        files |= {f"{number:04}.{suffix}": make(number) for suffix, make in label.items()}
    return files


def cls(number: int) -> bytes:
    return f"{number % 3}\n".encode()


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_classes_of_a_web_dataset(tmp_path, kind):
    source = open_source(write(tmp_path / "a.tar", samples(range(5), cls=cls), kind=kind))
    assert (source.name, source.num_images, source.native_resolution, source.native_channels) == ("a.tar", 5, 8, 1)
    assert values(source) == [0, 1, 2, 3, 4]
    assert source.labels.tolist() == [0, 1, 2, 0, 1]
    assert source.notes(1) == ()


@pytest.mark.parametrize("key", ["label", "cls", "class"])
def test_labels_in_json_and_names_for_classes(tmp_path, key):
    names = json.dumps({key: "cat"}).encode(), json.dumps({key: "ant", "caption": "an ant"}).encode()
    path = write(tmp_path / "a.tar", samples(range(4), json=lambda number: names[number % 2], txt=lambda _: b"words"))
    source = open_source(path)
    assert source.labels.tolist() == [1, 0, 1, 0]
    assert source.class_names == ("ant", "cat")
    assert source.notes(1) == ("4 files in a.tar not read as images: 4 .txt",)


def test_a_label_in_cls_comes_before_one_in_json(tmp_path):
    files = samples(range(3), json=lambda number: b'{"label": 9}', cls=cls)
    assert open_source(write(tmp_path / "a.tar", files)).labels.tolist() == [0, 1, 2]


def test_shards_with_the_same_names_are_read_one_after_the_other(tmp_path):
    for shard in (1, 0):
        files = {f"{number:04}.{suffix}": content for number in range(3)
                 for suffix, content in (("png", grey(10 * shard + number)), ("cls", cls(number + shard)))}
        write(tmp_path / f"train-{shard}.tar", files)
    (tmp_path / "README.md").write_text("shards")
    source = open_source(tmp_path)
    assert values(source) == [0, 1, 2, 10, 11, 12]
    assert source.labels.tolist() == [0, 1, 2, 1, 2, 0]
    assert source.class_names is None
    assert source.notes(1) == (f"1 file in {tmp_path.name} not read as images: 1 .md",)


@pytest.mark.parametrize("num_shards", [1, 2])
def test_tars_without_labels_have_those_of_class_folders(tmp_path, num_shards):
    for shard in range(num_shards):
        write(tmp_path / f"{shard}.tar", {f"./{name}/{shard}.png": grey(shard) for name in ("ant", "cat")})
    source = open_source(tmp_path)
    assert source.class_names == ("ant", "cat")
    assert source.labels.tolist() == [0, 1] * num_shards
    unlabelled = open_source(write(tmp_path / "flat.tar", samples(range(3))))
    assert unlabelled.labels is None


def test_a_sample_without_a_label_leaves_the_set_without(tmp_path):
    files = samples(range(3), cls=cls)
    del files["0001.cls"]
    source = open_source(write(tmp_path / "a.tar", files))
    assert source.read(8, 1).labels is None
    assert source.why_no_labels == f"{tmp_path / 'a.tar'} has no label for 1 of 3 images"


def test_of_several_images_the_plainest_is_the_one(tmp_path):
    files = {"a/1.seg.png": grey(9), "a/1.png": grey(1), "a/1.cls": b"0", "a/2.png": grey(2), "a/2.seg.png": grey(9),
             "a/2.cls": b"1"}  # fmt: skip
    source = open_source(write(tmp_path / "a.tar", files))
    assert values(source) == [1, 2]
    assert source.notes(1) == ("2 files in a.tar not read as images: 2 .seg.png",)
    files["a/1.jpg"] = grey(3)
    with pytest.raises(UserError, match=r"the sample a/1 holds several images \(1.seg.png, 1.png, 1.jpg\)"):
        open_source(write(tmp_path / "b.tar", files))


def test_processes_read_it_too(tmp_path):
    path = write(tmp_path / "a.tar", samples(range(7), cls=cls))
    pack(open_source(path), tmp_path / "a.fgp", decode=in_processes(1))
    packed = open_source(tmp_path / "a.fgp").read(8, 1)
    assert packed.images[:, 0, 0, 0].tolist() == list(range(7))
    assert packed.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:\\evil.png"])
def test_members_that_point_outside_refuse_the_whole_tar(tmp_path, name):
    with pytest.raises(UserError, match=r"a\.tar is refused: its member .* points outside"):
        open_source(write(tmp_path / "a.tar", {**samples(range(3)), name: grey(9)}))


def test_links_are_not_followed(tmp_path):
    path = write(tmp_path / "a.tar", samples(range(2)))
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("9.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert values(open_source(path)) == [0, 1]


def test_damage_is_named(tmp_path):
    content = write(tmp_path / "a.tar", samples(range(4))).read_bytes()
    second = content.index(b"0002.png")
    for damaged in (
        content[:second + 300],
        content[:second + 530],
        content[:second] + b"x" + content[second + 1:],
        b"x" * 3000,
    ):
        (tmp_path / "a.tar").write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.tar is not a whole tar \("):
            open_source(tmp_path / "a.tar")


@pytest.mark.parametrize("size", [b"\xff" * 12, b"\x80" + b"\0" * 6 + b"\x7f" * 5])
def test_absurd_sizes_neither_hang_nor_fill_the_memory(tmp_path, size):
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        info = tarfile.TarInfo("x.png")
        info.type = kind
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        header[124:136] = size
        header[148:156] = b"%06o\0 " % sum(header[:148] + b" " * 8 + header[156:])
        (tmp_path / "a.tar").write_bytes(write(tmp_path / "b.tar", samples(range(2))).read_bytes()[:2048] + header)
        with pytest.raises(UserError, match=r"a\.tar is not a whole tar"):
            open_source(tmp_path / "a.tar")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_are_read_or_refused(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("tars") / "a.tar", samples(range(3), cls=cls))
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, 5000), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[:data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(UserError):
        open_source(path).read(8, 1, skip_bad=True)


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tar, "_MOST_ENTRIES", 3)
    with pytest.raises(UserError, match="more than the 3 files"):
        open_source(write(tmp_path / "a.tar", samples(range(4))))


def test_a_tar_that_shrank_gives_bad_images(tmp_path):
    path = write(tmp_path / "a.tar", {f"{number}.png": encoded(picture(40, 40, seed=number)) for number in range(3)})
    source = open_source(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(UserError, match=r"0.png in .*a.tar: is cut short"):
        source.read(8, 1)


def test_compressed_tars_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(UserError, match=r"a\.tar\.gz is compressed, .* gunzip it first"):
        open_source(write(tmp_path / "a.tar.gz", samples(range(2)), "w:gz"))


def test_a_tar_of_any_name_is_known_by_its_content(tmp_path):
    np.testing.assert_array_equal(values(open_source(write(tmp_path / "a.bin", samples(range(2))))), [0, 1])
