"""Packing of every kind of source, by threads and by processes.

It continues from the point where a kill, a full disk or a bad image ended it.
"""
import errno
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fastgan
from fastgan.data import open_source
from fastgan.data.packing import decoders
from fastgan.data.packing.pack import pack
from fastgan.data.source import file_facts
from fastgan.data.sources import packed_file
from fastgan.errors import DiskError, UserError

ONE_BY_ONE = decoders.in_threads(1)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(fastgan.__file__).parents[1])}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Use blocks of five images of 8x8x3, so that a small set has several."""
    monkeypatch.setattr(decoders, "_BLOCK_BYTES", 5 * 8 * 8 * 3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Make a folder with 23 colour PNGs of 8x8 in two class folders."""
    return make_photos(tmp_path_factory.mktemp("photos"))


def make_photos(folder, num_images=23):
    for number in range(num_images):
        path = folder / ("cat", "dog")[number % 2] / f"{number:03}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return folder


def spoil(path: Path) -> None:
    """Cut a file in half."""
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in sorted(folder.rglob("*.png")):
            archive.write(member, member.relative_to(folder))
    return path


def assert_same_set(path, expected) -> None:
    """Assert that a packed file reads as the source it was made of.

    This includes the names of classes and the files left out.
    """
    source = open_source(path)
    image_set = source.read(source.native_resolution, source.native_channels)
    np.testing.assert_array_equal(image_set.images.numpy(), expected.images.numpy())
    assert (image_set.labels is None) == (expected.labels is None)
    assert expected.labels is None or image_set.labels.tolist() == expected.labels.tolist()
    assert (image_set.name, image_set.class_names, image_set.skipped) == (
        expected.name,
        expected.class_names,
        expected.skipped,
    )


# --- results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", [ONE_BY_ONE, decoders.in_threads(3), decoders.in_processes(2), None])
@pytest.mark.parametrize("as_zip", [False, True])
def test_a_folder_and_a_zip_keep_images_and_classes_whoever_decodes(tmp_path, photos, decode, as_zip):
    given_path = zipped(photos, tmp_path / "photos.zip") if as_zip else photos
    result = pack(open_source(given_path), tmp_path / "a.fgp", decode=decode, say=pytest.fail)
    assert (result.shape, result.skipped, result.num_resumed) == ((23, 8, 8, 3), (), 0)
    assert_same_set(tmp_path / "a.fgp", open_source(given_path).read(8, 3))
    assert sorted(path.name for path in tmp_path.iterdir()) == (["a.fgp", "photos.zip"] if as_zip else ["a.fgp"])


@pytest.mark.parametrize(("img_resolution", "img_channels"), [(8, 1), (5, 3), (10, 3)])
def test_another_size(tmp_path, photos, img_resolution, img_channels):
    pack(
        open_source(photos),
        tmp_path / "a",
        img_resolution=img_resolution,
        img_channels=img_channels,
        decode=decoders.in_processes(1),
    )
    assert_same_set(tmp_path / "a", open_source(photos).read(img_resolution, img_channels))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(2, 40),
    st.integers(1, 12),
    st.sampled_from([1, 3]),
    st.booleans(),
    st.sampled_from(["npy", "npz", "packed"]),
)
def test_arrays_and_packed_files(tmp_path_factory, num_images, side, channels, has_labels, kind):
    folder = tmp_path_factory.mktemp("arrays")
    images = np.random.default_rng(side).integers(0, 256, (num_images, side, side + 1, channels), np.uint8)
    labels = {"labels": np.arange(num_images) % 3} if has_labels else {}
    if kind == "npy":
        np.save(folder / "a.npy", images)
    else:
        np.savez(folder / "a.npz", images=images, **labels)
    source = open_source(folder / ("a.npy" if kind == "npy" else "a.npz"))
    pack(source, folder / "a.fgp", say=pytest.fail)
    if kind == "packed":
        pack(open_source(folder / "a.fgp"), folder / "b.fgp", say=pytest.fail)
        assert (folder / "a.fgp").read_bytes() == (folder / "b.fgp").read_bytes()
    assert_same_set(folder / "a.fgp", source.read(side, channels))


def test_a_named_set(tmp_path):
    pack(open_source("fashion-mnist-10k"), tmp_path / "a")
    source = open_source(tmp_path / "a")
    assert (source.name, source.num_images, source.class_names[0]) == ("fashion-mnist-10k", 10000, "T-shirt/top")


@pytest.mark.parametrize("decode", [decoders.in_threads(2), decoders.in_processes(2)])
def test_bad_files_are_named_or_left_out(tmp_path, decode):
    photos = make_photos(tmp_path / "photos")
    # The first file of all, and among others the whole fourth block (007 to 015).
    bad = [
        photos / "cat" / "000.png",
        *(photos / "dog" / f"{number:03}.png" for number in (3, 5, 7, 9, 11, 13, 15, 21)),
    ]
    for path in bad:
        spoil(path)
    with pytest.raises(
        UserError, match=r"cat/000\.png: cannot be decoded .*; mend or remove it, or leave such files out with skip_bad"
    ):
        pack(open_source(photos), tmp_path / "a", decode=decode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]  # no block was finished
    result = pack(open_source(photos), tmp_path / "a", skip_bad=True, decode=decode)
    assert result.shape == (14, 8, 8, 3)
    assert [entry.partition(": ")[0] for entry in result.skipped] == [str(path) for path in bad]
    assert_same_set(tmp_path / "a", open_source(photos).read(8, 3, skip_bad=True))
    pack(open_source(tmp_path / "a"), tmp_path / "b")
    assert open_source(tmp_path / "b").skipped == result.skipped


def test_too_few_good_files(tmp_path):
    photos = make_photos(tmp_path / "photos", 3)
    for number in (0, 2):
        spoil(photos / "cat" / f"{number:03}.png")
    with pytest.raises(UserError, match=r"only 1 of 3 images are usable, .*cat/000\.png"):
        pack(open_source(photos), tmp_path / "a", skip_bad=True)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "options", [{"img_resolution": 0}, {"img_channels": 2}, {"num_workers": 0}, {"img_resolution": 11}]
)
def test_impossible_wishes_are_refused_and_leave_nothing(tmp_path, photos, options):
    with pytest.raises(UserError, match="img_channels is 1|at least 1|the largest that would work is 10"):
        pack(open_source(photos), tmp_path / "a", **options)
    assert not list(tmp_path.iterdir())


def test_a_damaged_packed_file_is_not_packed_again(tmp_path, photos):
    pack(open_source(photos), tmp_path / "a")
    with open(tmp_path / "a", "rb+") as file:
        file.seek(packed_file.IMAGES_AT + 1)
        file.write(b"\xff\x00\xff")
    with pytest.raises(UserError, match=r"a is damaged \(images 0 to 4 were altered\)"):
        pack(open_source(tmp_path / "a"), tmp_path / "b", img_resolution=4, skip_bad=True)


def test_nothing_that_decodes_loads_torch():
    modules = "fastgan.data.packing.pack, fastgan.data.sources.opening, fastgan.data.packing.decode_worker, fastgan.cli"
    subprocess.run(
        [sys.executable, "-P", "-c", f"import sys, {modules}; assert 'torch' not in sys.modules"],
        env=ENVIRONMENT,
        check=True,
    )


# --- interrupted ----------------------------------------------------------------------------------


class Killed(BaseException):
    """A stand-in for any event that ends a process in the middle."""


def ending_after(num_blocks: int):
    """Return a decoder that is killed behind its `num_blocks`th block."""
    def decode(source, target, start):
        for number, block in enumerate(ONE_BY_ONE(source, target, start)):
            if number == num_blocks:
                raise Killed
            yield block
    return decode


def begin(given_path, out, num_blocks=2) -> None:
    with pytest.raises(Killed):
        pack(open_source(given_path), out, decode=ending_after(num_blocks))


@pytest.mark.parametrize(
    ("num_blocks", "decode"), [*((number, ONE_BY_ONE) for number in range(5)), (3, decoders.in_processes(1))]
)
def test_a_kill_at_any_block_and_a_second_try_give_the_same_file(tmp_path, photos, num_blocks, decode):
    begin(photos, tmp_path / "a", num_blocks)
    assert not (tmp_path / "a").exists()
    said = []
    result = pack(open_source(photos), tmp_path / "a", decode=decode, say=said.append)
    assert result.num_resumed == 5 * num_blocks
    assert said == (
        [f"{tmp_path / 'a'} was started earlier: resuming after {5 * num_blocks} of 23 images"] if num_blocks else []
    )
    pack(open_source(photos), tmp_path / "whole", decode=ONE_BY_ONE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "whole"]


def test_arrays_and_skipped_files_go_on_as_well(tmp_path):
    # Read in pieces of a megabyte, packed in blocks of 15
    images = np.random.default_rng(0).integers(0, 256, (5000, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", images=np.repeat(images, 16, 0), labels=np.arange(80000))
    begin(tmp_path / "a.npz", tmp_path / "a", 2)
    assert pack(open_source(tmp_path / "a.npz"), tmp_path / "a").num_resumed == 2 * (1 << 14)
    assert_same_set(tmp_path / "a", open_source(tmp_path / "a.npz").read(8, 1))
    photos = make_photos(tmp_path / "photos")
    spoil(photos / "dog" / "003.png")
    with pytest.raises(UserError, match=r"003\.png"):
        pack(open_source(photos), tmp_path / "b")
    assert pack(open_source(photos), tmp_path / "b", skip_bad=True).num_resumed == 10
    assert_same_set(tmp_path / "b", open_source(photos).read(8, 3, skip_bad=True))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_a_power_cut_leaves_of_the_work_files_the_result_is_right(tmp_path_factory, photos, data):
    folder = tmp_path_factory.mktemp("cut")
    begin(photos, folder / "a", 3)
    for path in (folder / "a.part", folder / "a.part.journal"):
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans()):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content[:data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    pack(open_source(photos), folder / "a", say=lambda text: None)
    assert_same_set(folder / "a", open_source(photos).read(8, 3))


@pytest.mark.parametrize("change", ["other file", "one more", "other size", "other channels", "other folder"])
def test_what_was_begun_with_another_set_is_begun_anew(tmp_path, change):
    photos, options = make_photos(tmp_path / "photos"), {}
    begin(photos, tmp_path / "a")
    if change == "other file":
        Image.new("RGB", (8, 8)).save(photos / "cat" / "000.png")
    elif change == "one more":
        Image.new("RGB", (8, 8)).save(photos / "cat" / "100.png")
    elif change == "other folder":
        photos = make_photos(tmp_path / "more")
    else:
        options = {"img_resolution": 6} if change == "other size" else {"img_channels": 1}
    said = []
    assert pack(open_source(photos), tmp_path / "a", say=said.append, **options).num_resumed == 0
    assert said == [f"{tmp_path / 'a'} was started with other images, another size or another decoder: starting again"]
    assert_same_set(
        tmp_path / "a", open_source(photos).read(options.get("img_resolution", 8), options.get("img_channels", 3))
    )


def test_arrays_in_memory_are_never_continued(tmp_path):
    images = np.zeros((20000, 8, 8, 3), np.uint8)
    begin(images, tmp_path / "a", 1)
    images[:] = 1
    assert pack(open_source(images), tmp_path / "a", say=lambda text: None).num_resumed == 0
    assert (open_source(tmp_path / "a").read(8, 3).images == 1).all()


PROGRAM = """
import sys
from fastgan.data import open_source
from fastgan.data.packing import decoders
from fastgan.data.packing.pack import pack
decoders._BLOCK_BYTES = 5 * 8 * 8 * 3
pack(open_source(sys.argv[1]), sys.argv[2], decode=decoders.in_processes(1), say=lambda text: None)
"""


def test_a_process_that_is_killed(tmp_path):
    photos = make_photos(tmp_path / "photos", 400)
    journal = tmp_path / "a.part.journal"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(photos), str(tmp_path / "a")], env=ENVIRONMENT
    ) as process:
        deadline = time.monotonic() + 30
        while (file_facts(journal) or (0,))[0] < 1000 and time.monotonic() < deadline:
            time.sleep(0.0005)
        process.kill()
    assert not (tmp_path / "a").exists()
    assert 0 < pack(open_source(photos), tmp_path / "a", say=lambda text: None).num_resumed < 400
    assert_same_set(tmp_path / "a", open_source(photos).read(8, 3))


def test_a_decoding_process_that_is_ended_is_told_with_the_files_it_had(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(decoders._Worker, "_send", lambda worker, what: worker._process.signal(signal.SIGKILL))
    with pytest.raises(
        UserError, match=r"the process that decoded 5 files from .*cat/000\.png on was killed by SIGKILL: "
    ):
        pack(open_source(photos), tmp_path / "a", decode=decoders.in_processes(2))


def test_a_zip_that_vanishes_is_told_by_the_decoding_process(tmp_path, photos):
    source = open_source(zipped(photos, tmp_path / "a.zip"))
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.zip is not a whole zip file"):
        pack(source, tmp_path / "a", img_resolution=8, img_channels=3, decode=decoders.in_processes(1))


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "folder", "broken link"])
def test_what_exists_is_never_overwritten(tmp_path, photos, kind):
    out = tmp_path / "a"
    {"file": lambda: out.write_bytes(b"mine"), "folder": out.mkdir, "broken link": lambda: out.symlink_to("nowhere")}[
        kind
    ]()
    with pytest.raises(UserError, match="a exists, and fastgan pack never overwrites: remove it first"):
        pack(open_source(photos), out)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert kind != "file" or out.read_bytes() == b"mine"


def test_nor_what_came_into_being_meanwhile(tmp_path, photos):
    def decode(source, target, start):
        yield from ONE_BY_ONE(source, target, start)
        (tmp_path / "a").write_bytes(b"mine")

    with pytest.raises(UserError, match="exists, and fastgan pack never overwrites"):
        pack(open_source(photos), tmp_path / "a", decode=decode)
    assert (tmp_path / "a").read_bytes() == b"mine"


def test_two_at_once(tmp_path, photos):
    pytest.importorskip("fcntl")

    def decode(source, target, start):
        for number, block in enumerate(ONE_BY_ONE(source, target, start)):
            if number == 2:
                with pytest.raises(UserError, match="a is being packed by another process: wait until it is done"):
                    pack(open_source(photos), tmp_path / "a")
            yield block

    pack(open_source(photos), tmp_path / "a", decode=decode)
    assert_same_set(tmp_path / "a", open_source(photos).read(8, 3))


def test_one_that_finishes_between_our_look_and_our_lock(tmp_path, photos, monkeypatch):
    from fastgan.data.packing import journal as pack_work

    def finish_first(file):
        (tmp_path / "a").write_bytes(b"theirs")
        return True

    monkeypatch.setattr(pack_work, "_try_lock", finish_first)
    with pytest.raises(UserError, match="exists, and fastgan pack never overwrites"):
        pack(open_source(photos), tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    (tmp_path / "a").unlink()
    monkeypatch.setattr(pack_work, "_try_lock", lambda file: (tmp_path / "a.part.journal").unlink() or True)
    with pytest.raises(UserError, match="was being packed by another process until now: try again"):
        pack(open_source(photos), tmp_path / "a")


@pytest.mark.parametrize(
    ("num_bytes", "resumes"),
    [(0, False), (50, False), (700, False), (1500, True), (2300, True), (5200, True), (9000, True)],
)
def test_a_full_disk_and_then_more_space(tmp_path, photos, monkeypatch, num_bytes, resumes):
    from fastgan.data.packing import journal as pack_work

    left = num_bytes

    def write_all(file, data):
        nonlocal left
        part = memoryview(data).cast("B")[:left]
        file.write(part)
        left -= len(part)
        if len(part) < len(memoryview(data).cast("B")):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pack_work, "write_all", write_all)
        patch.setattr(packed_file, "write_all", write_all)
        with pytest.raises(DiskError, match="cannot write .*a: No space left on device; fix this, and the same"):
            pack(open_source(photos), tmp_path / "a")
    assert not (tmp_path / "a").exists()
    result = pack(open_source(photos), tmp_path / "a", say=lambda text: None)
    assert (result.num_resumed > 0) == resumes
    assert_same_set(tmp_path / "a", open_source(photos).read(8, 3))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder in which nobody can write")
def test_a_folder_that_refuses(photos):
    with pytest.raises(DiskError, match="cannot write /proc/a"):
        pack(open_source(photos), "/proc/a")


def test_folders_above_are_made(tmp_path, photos):
    pack(open_source(photos), tmp_path / "new" / "folder" / "a", progress=True)
    assert open_source(tmp_path / "new" / "folder" / "a").num_images == 23
