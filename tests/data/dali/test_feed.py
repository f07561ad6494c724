import gc
import subprocess
import sys
import threading
import time
import weakref
import zipfile

import numpy as np
import pytest
import torch
from image_files import encoded, picture

from fastgan.data import ResidentFeed, open_source
from fastgan.data.dali.feed import DaliFeed, uniform_numbers
from fastgan.errors import UserError

pytest.importorskip("nvidia.dali")
NUM_IMAGES = 45


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make PNG, JPEG and translucent images: landscape, portrait, square; the shorter side 16."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(NUM_IMAGES):
        kind, mode = (("PNG", "RGB"), ("JPEG", "RGB"), ("PNG", "LA"))[number % 3]
        height, width = ((16, 21), (30, 16), (16, 16))[number // 3 % 3]
        (folder / f"{number:02}.png").write_bytes(encoded(picture(height, width, mode, seed=number), kind))
    return folder


def opened(source, batch_size=7, img_resolution=16, **options) -> DaliFeed:
    return DaliFeed(open_source(source), img_resolution, 3, batch_size, seed=5, num_threads=1, **options)


def batches(feed, num) -> torch.Tensor:
    """Return that many batches in sequence; `next_batch` may give the same memory again."""
    return torch.cat([feed.next_batch().img.clone() for _ in range(num)])


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, NUM_IMAGES])
def test_the_images_are_those_of_every_other_feed(folder, batch_size, threaded):
    labels = torch.arange(NUM_IMAGES)
    other = ResidentFeed(open_source(folder).read(16, 3).images, batch_size, seed=5, labels=labels)
    feed = opened(folder, batch_size, threaded=threaded, labels=labels)
    for _ in range(min(40, 3 * NUM_IMAGES // batch_size + 1)):
        feed.reserve(1)
        batch = feed.read()
        # Before `launched`, which lets the thread fill its slot anew
        assert all(map(torch.equal, batch.tensors(), feed.reread().tensors()))
        feed.launched(1)
        assert all(map(torch.equal, batch.tensors(), other.next_batch().tensors()))
        assert batch.img.is_contiguous(memory_format=torch.channels_last)
    assert feed.nimg == other.nimg
    feed.close()


def test_batches_larger_than_what_is_decoded_at_once(tmp_path):
    for number in range(70):
        (tmp_path / f"{number}.png").write_bytes(encoded(picture(8, 8, seed=number)))
    other = ResidentFeed(open_source(tmp_path).read(8, 3).images, 67, seed=5)
    feed = opened(tmp_path, 67, 8)
    assert torch.equal(batches(feed, 3), batches(other, 3))


def test_a_zip_gives_what_its_folder_gives(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    assert torch.equal(batches(opened(tmp_path / "images.zip"), 10), batches(opened(folder), 10))


@pytest.mark.parametrize("threaded", [False, True])
def test_seek_gives_what_was_given_there_random_squares_included(folder, threaded):
    feed = opened(folder, 5, 8, random_crop=0.5, threaded=threaded)
    images = batches(feed, 2 * NUM_IMAGES // 5)
    for nimg in (0, 35, 5, 33):
        feed.seek(nimg)
        assert torch.equal(batches(feed, 4), images[nimg:nimg + 20])
    other = opened(folder, 3, 8, random_crop=0.5)  # nor does the size of a batch matter
    assert torch.equal(batches(other, 10), images[:30])
    feed.close()


def test_random_squares_differ_from_epoch_to_epoch(folder):
    whole, random = (batches(opened(folder, NUM_IMAGES, 8, random_crop=share), 2) for share in (1.0, 0.5))
    assert (whole.sort(0).values[::2] == whole.sort(0).values[1::2]).all()
    assert len(torch.unique(random, dim=0)) > 1.9 * NUM_IMAGES


def test_the_numbers_behind_the_squares():
    numbers = uniform_numbers(3, 0, 20000)
    assert np.array_equal(uniform_numbers(3, 123, 7), numbers[123:130])
    assert not np.array_equal(uniform_numbers(4, 0, 1), numbers[:1])
    np.testing.assert_allclose([numbers.mean(0), numbers.std(0)], [[0.5] * 3, [12**-0.5] * 3], atol=0.01)
    np.testing.assert_allclose(np.corrcoef(numbers[:-1].T, numbers[1:].T), np.eye(6), atol=0.03)


def broken(folder, tmp_path):
    """Make the images of a folder, some of which cannot be used."""
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        content = {"04.png": content[:200], "06.png": b"", "08.png": encoded(picture(7, 30))}.get(path.name, content)
        (tmp_path / path.name).write_bytes(content)
    return tmp_path


def test_files_of_no_use_are_left_out_and_listed(folder, tmp_path):
    source = broken(folder, tmp_path)
    image_set = open_source(source).read(16, 3, skip_bad=True)
    feed = opened(source, skip_bad=True, progress=True)
    assert feed.skipped == image_set.skipped
    assert [entry.partition(": ")[0][-6:] for entry in feed.skipped] == ["04.png", "06.png", "08.png"]
    assert torch.equal(batches(feed, 14), batches(ResidentFeed(image_set.images, 7, seed=5), 14))


def test_labels_are_those_of_the_files_that_are_left(folder, tmp_path):
    source = broken(folder, tmp_path)
    feed = opened(source, skip_bad=True, labels=torch.arange(NUM_IMAGES))
    assert feed.rows.tolist() == [row for row in range(NUM_IMAGES) if row not in (4, 6, 8)]
    other = ResidentFeed(
        open_source(source).read(16, 3, skip_bad=True).images, 7, seed=5, labels=torch.from_numpy(feed.rows)
    )
    for _ in range(14):
        assert all(map(torch.equal, feed.next_batch().tensors(), other.next_batch().tensors()))


def test_labels_that_do_not_fit_are_refused(folder):
    with pytest.raises(UserError, match=rf"give int64 \[{NUM_IMAGES}\]"):
        opened(folder, labels=torch.zeros(NUM_IMAGES - 1, dtype=torch.int64))


@pytest.mark.parametrize("threaded", [False, True])
def test_otherwise_they_are_named(folder, tmp_path, threaded):
    feed = opened(broken(folder, tmp_path), threaded=threaded)
    with pytest.raises(UserError, match=r"0[468]\.png: .*; mend or remove it, or leave such files out with skip_bad"):
        batches(feed, 8)
    feed.close()


def test_too_few_usable_files(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"only 1 of 2 images .*b\.png"):
        opened(tmp_path, 1, skip_bad=True)


def test_what_has_no_files_is_refused(folder):
    with pytest.raises(UserError, match="holds no image files for DALI"):
        opened(np.zeros((4, 16, 16), np.uint8))
    with pytest.raises(UserError, match=f"choose one from 1 to {NUM_IMAGES}"):
        opened(folder, NUM_IMAGES + 1)


@pytest.mark.parametrize("threaded", [False, True])
def test_a_feed_that_is_closed_or_forgotten_ends_its_threads(folder, threaded):
    before = threading.active_count()
    feed = opened(folder, threaded=threaded)
    feed.next_batch()
    assert threading.active_count() > before
    feed.close()
    assert threading.active_count() == before
    forgotten = weakref.ref(opened(folder, threaded=threaded))
    for _ in range(200):  # the thread holds the feed while it fills a slot
        gc.collect()
        if forgotten() is None:
            break
        time.sleep(0.01)
    assert forgotten() is None


def test_the_end_of_the_program_is_quiet(folder):
    program = ("import sys; from fastgan.data import open_source; from fastgan.data.dali.feed import DaliFeed\n"
               "feed = DaliFeed(open_source(sys.argv[1]), 16, 3, 4, 0, threaded=True); feed.next_batch()")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(folder)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.gpu
def test_on_the_gpu_the_ring_gets_the_images_of_the_cpu(folder):
    labels = torch.arange(NUM_IMAGES)
    feed, other = opened(folder, device="cuda", labels=labels), opened(folder, labels=labels)
    for _ in range(3 * NUM_IMAGES // 7):
        batch, expected = feed.next_batch(), other.next_batch()
        assert batch.img.is_cuda
        assert (batch.img.cpu().int() - expected.img.int()).abs().float().mean() <= 1
        assert torch.equal(batch.labels.cpu(), expected.labels)
    feed.close()


@pytest.mark.gpu
def test_on_the_gpu_seek_gives_what_was_given_there(folder):
    feed = opened(folder, 5, 8, device="cuda", random_crop=0.5)
    images = batches(feed, 10)
    feed.seek(15)
    assert torch.equal(batches(feed, 4), images[15:35])
    feed.close()
