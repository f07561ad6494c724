"""The size of images, and the feed for each kind of data."""
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.config import DCGAN_RESOLUTIONS, Config, replace
from fastgan.config.presets import preset
from fastgan.data import GaussianFeed, ResidentFeed, Source, open_source
from fastgan.data.feeds.stream import StreamFeed
from fastgan.errors import UserError
from fastgan.nn.pair.inspect_pair import Signature
from fastgan.run import feeds
from fastgan.run.feeds import OpenedData, fit_to_data, open_feed

CPU = torch.device("cpu")


def images(num=6, side=16, channels=1, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, (num, side, side, channels)).astype(dtype)


def signature(*img_shape: int) -> Signature:
    return Signature((4,), img_shape, True, (), 4)


def feed_for(data, *img_shape: int, batch_size: int = 4, backend: str = "auto") -> OpenedData:
    config = replace(
        replace(replace(preset("mlp"), "run.batch_size", batch_size), "run.seed", 7), "data.backend", backend
    )
    return open_feed(data, signature(*img_shape), config, torch.Generator(CPU), progress=False)


@pytest.mark.parametrize(
    ("native", "dcgan", "mlp"),
    [
        (2, 16, 2),
        (16, 16, 16),
        (23, 16, 23),
        (24, 32, 24),
        (28, 32, 28),
        (40, 32, 40),
        (48, 64, 48),
        (64, 64, 64),
        (300, 64, 64),
    ],
)
def test_images_get_their_own_size_as_far_as_the_networks_have_it(native, dcgan, mlp):
    source = open_source(images(side=native))
    assert fit_to_data(preset("dcgan"), source, DCGAN_RESOLUTIONS).model.img_resolution == dcgan
    assert fit_to_data(preset("mlp"), source, None).model.img_resolution == mlp


@pytest.mark.parametrize(
    ("sizes", "expected"), [((32,), 32), ((8, 20), 20), ((64, 48), 48), ((8,), 8), ((128, 256), 128)]
)
def test_networks_of_given_sizes_get_the_largest_that_the_images_reach(sizes, expected):
    assert fit_to_data(preset("mlp"), open_source(images(side=40)), sizes).model.img_resolution == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_come_from_the_data(channels):
    assert fit_to_data(preset("dcgan"), open_source(images(channels=channels)), None).model.img_channels == channels


def test_what_was_asked_for_goes_before_the_data():
    config = replace(replace(preset("dcgan"), "model.img_resolution", 128), "model.img_channels", 3)
    assert fit_to_data(config, open_source(images()), DCGAN_RESOLUTIONS) == config
    assert fit_to_data(preset("gaussian1d"), None, None) == preset("gaussian1d")


@pytest.mark.parametrize(
    ("img_shape", "data_channels", "expected"),
    [
        ((1, 16, 16), 1, (16, 16, 1)),
        ((3, 16, 16), 1, (16, 16, 3)),
        ((1, 8, 8), 3, (8, 8, 1)),
        ((784,), 1, (28, 28, 1)),
        ((784,), 3, (28, 28, 1)),
        ((3072,), 3, (32, 32, 3)),
        ((3072,), 1, (32, 32, 3)),
        ((192,), 3, (8, 8, 3)),
    ],
)
def test_images_are_brought_to_the_shape_that_g_makes(img_shape, data_channels, expected):
    opened = feed_for(images(side=40, channels=data_channels), *img_shape)
    assert opened.real_set.img_shape == expected
    height, width, channels = expected
    batch = opened.feed.next_batch().img
    assert batch.shape == (4, channels, height, width)
    assert batch.dtype == torch.uint8


@pytest.mark.parametrize("img_shape", [(1, 16, 8), (2, 16, 16), (10,), (7, 7)])
def test_images_that_nothing_can_be_brought_to(img_shape):
    with pytest.raises(UserError, match=r"samples of shape \[16, 16, 1\], and G makes \["):
        feed_for(images(), *img_shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, np.float32, np.float64])
def test_rows_of_floats_are_samples(dtype):
    samples = (
        torch.randn(9, 3).to(dtype)
        if isinstance(dtype, torch.dtype)
        else np.random.default_rng(0).normal(size=(9, 3)).astype(dtype)
    )
    opened = feed_for(samples, 3)
    assert isinstance(opened.feed, ResidentFeed)
    assert opened.real_set is None
    batch = opened.feed.next_batch().img
    assert batch.dtype == torch.float32
    rows = {tuple(row) for row in torch.as_tensor(samples, dtype=torch.float32).tolist()}
    assert {tuple(row) for row in batch.tolist()} <= rows


def test_samples_of_another_length_than_g_makes():
    with pytest.raises(UserError, match=r"samples of 3 features, but G makes \[2\]"):
        feed_for(torch.randn(9, 3), 2)


def test_the_gaussian_of_the_configuration():
    opened = open_feed(None, signature(1), preset("gaussian1d"), torch.Generator(CPU))
    assert isinstance(opened.feed, GaussianFeed)
    assert opened.real_set is None
    samples = torch.cat([opened.feed.next_batch().img.clone() for _ in range(200)])
    assert samples.mean().item() == pytest.approx(4, abs=5 * 1.25 / 20_000**0.5)
    assert samples.std().item() == pytest.approx(1.25, abs=0.05)


@pytest.mark.parametrize("data", [None, 3])
def test_no_data_is_not_taken_for_a_gaussian(data):
    with pytest.raises(UserError, match="give a name, a path, an array"):
        feed_for(data, 1, 16, 16)


def test_a_file_object_is_not_taken_for_a_source(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    with open(tmp_path / "x", "rb") as file, pytest.raises(UserError, match="give a name, a path"):
        feed_for(file, 1, 16, 16)


def test_a_batch_larger_than_the_set():
    assert feed_for(images(6), 1, 16, 16, batch_size=6)
    with pytest.raises(UserError, match="batch_size 7 does not fit a set of 6 images"):
        feed_for(images(6), 1, 16, 16, batch_size=7)


def test_an_opened_source_and_the_order_of_the_seed():
    ours, theirs = (feed_for(data, 1, 16, 16).feed for data in (open_source(images()), images()))
    assert torch.equal(ours.next_batch().img, theirs.next_batch().img)


def test_a_bar_is_shown_only_where_it_is_wanted(capsys):
    open_feed(
        images(),
        signature(1, 16, 16),
        replace(preset("mlp"), "run.batch_size", 4),
        torch.Generator(CPU),
        progress=False,
    )
    assert capsys.readouterr() == ("", "")
    open_feed(images(), signature(1, 16, 16), replace(preset("mlp"), "run.batch_size", 4), torch.Generator(CPU))
    assert "6/6" in capsys.readouterr().err


# --- the choice between the ways --------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["auto", "resident", "stream"])
def test_without_a_gpu_images_are_read_where_they_lie(backend):
    opened = feed_for(images(), 1, 16, 16, backend=backend)
    assert isinstance(opened.feed, ResidentFeed)
    assert opened.feed._window.rows.data_ptr() == opened.real_set.images.data_ptr()
    assert opened.notes == ("the images (0.0 MB) are read directly from host memory",)


@pytest.mark.parametrize(
    ("asked", "set_bytes", "chosen", "reason"),
    [
        ("auto", 6_000_000_000, "resident", "the images (6.0 GB) are in GPU memory, which had 10.0 GB free"),
        (
            "auto",
            6_000_000_001,
            "stream",
            "(6.0 GB) stay in host memory and are streamed to the GPU, "
            "because they take more than 60% of the 10.0 GB free",
        ),
        ("resident", 10_000_000_000, "resident", "are in GPU memory"),
        (
            "stream",
            47_040_000,
            "stream",
            "(47.0 MB) stay in host memory and are streamed to the GPU, as requested",
        ),
    ],
)
def test_on_a_gpu_the_size_decides_unless_the_user_does(asked, set_bytes, chosen, reason):
    backend, note = feeds._choose_backend(asked, set_bytes, 10_000_000_000)
    assert backend == chosen
    assert reason in note


def test_a_set_that_does_not_fit_is_refused_where_it_shall_lie_on_the_gpu():
    with pytest.raises(
        UserError, match="need 10.1 GB of the GPU's memory, of which 10.0 GB are free: .* --data-backend stream"
    ):
        feeds._choose_backend("resident", 10_100_000_000, 10_000_000_000)


def test_a_gpu_that_fills_up_in_between_is_told_in_a_sentence(monkeypatch):
    def refuse(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(feeds, "ResidentFeed", refuse)
    monkeypatch.setattr(feeds, "_free_bytes", lambda device: 2_000_000)
    with pytest.raises(UserError, match="need 0.0 MB of the GPU's memory, of which 2.0 MB are free"):
        feed_for(images(), 1, 16, 16, backend="resident")


@pytest.mark.parametrize("graph_steps", [None, 3, 20])
def test_streamed_images_are_those_of_the_resident_set(monkeypatch, graph_steps):
    resident = feed_for(images(), 1, 16, 16).feed
    monkeypatch.setattr(feeds, "_free_bytes", lambda device: 100)
    config = replace(
        replace(replace(preset("mlp"), "run.batch_size", 4), "run.seed", 7), "run.graph_steps", graph_steps
    )
    opened = open_feed(images(), signature(1, 16, 16), config, torch.Generator(CPU), progress=False)
    assert isinstance(opened.feed, StreamFeed)
    assert opened.feed.max_steps == max(8, graph_steps or 0)
    assert "streamed" in opened.notes[0]
    assert all(torch.equal(opened.feed.next_batch().img, resident.next_batch().img) for _ in range(5))


@pytest.fixture
def folder(tmp_path):
    """Make five images of 20x20, the third of them cut short."""
    for index, pixels in enumerate(images(5, 20)):
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"{index}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    return tmp_path


def test_dali_gets_the_files_and_nothing_else_is_decoded(monkeypatch, folder):
    class DaliFeed:
        skipped, rows = ("2.png: is cut short",), np.array([0, 1, 3, 4])

        def __init__(self, *arguments, **options):
            self.arguments, self.options = arguments, options
    monkeypatch.setitem(sys.modules, "fastgan.data.dali.feed", SimpleNamespace(DaliFeed=DaliFeed))
    monkeypatch.setattr(Source, "read", lambda *_: pytest.fail("the whole set was decoded"))
    opened = feed_for(str(folder), 1, 16, 16, backend="dali")
    assert opened.feed.arguments[1:] == (16, 1, 4, 7, CPU, False, 1.0, False)
    assert opened.feed.options == {"max_steps": 8, "labels": None}
    assert opened.notes == ("the 4 images are decoded by DALI on demand",)
    assert (opened.real_set.num_images, opened.real_set.img_shape, opened.real_set.skipped) == (
        4,
        (16, 16, 1),
        DaliFeed.skipped,
    )


# --- labels -----------------------------------------------------------------------------------------------------------


def conditional(c_dim: int, backend: str = "auto") -> Config:
    """Return a configuration with that many classes."""
    config = preset("mlp")
    for key, value in {"model.c_dim": c_dim, "data.backend": backend, "run.batch_size": 4}.items():
        config = replace(config, key, value)
    return config


def labelled(data, c_dim: int, *img_shape: int, backend: str = "auto") -> OpenedData:
    return open_feed(data, signature(*img_shape), conditional(c_dim, backend), torch.Generator(CPU), progress=False)


def numbered_images(num: int = 6) -> np.ndarray:
    return np.arange(num, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)


def test_classes_come_from_the_data_where_training_is_conditional():
    labelled_source, bare = open_source((numbered_images(), [0, 1, 2] * 2)), open_source(numbered_images())
    config = replace(preset("mlp"), "model.cond", True)
    assert fit_to_data(config, labelled_source, None).model.c_dim == 3
    assert fit_to_data(replace(config, "model.c_dim", 5), labelled_source, None).model.c_dim == 5
    assert fit_to_data(preset("mlp"), labelled_source, None).model.c_dim == 0
    with pytest.raises(UserError, match="has no labels, which conditional training needs"):
        fit_to_data(config, bare, None)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_batches_have_the_labels_of_their_images_where_the_networks_are_told_classes(monkeypatch, on_gpu):
    monkeypatch.setattr(feeds, "_free_bytes", lambda device: 100 if on_gpu else None)
    opened = labelled((numbered_images(), [1, 0, 1, 0, 1, 0]), 2, 1, 8, 8)
    assert isinstance(opened.feed, StreamFeed if on_gpu else ResidentFeed)
    for _ in range(5):
        batch = opened.feed.next_batch()
        assert torch.equal(batch.labels, 1 - batch.img[:, 0, 0, 0].long() % 2)
    assert len(opened.notes) == 1


def test_networks_that_are_told_nothing_get_no_labels():
    opened = labelled((numbered_images(), [1, 0, 1, 0, 1, 0]), 0, 1, 8, 8)
    assert opened.feed.next_batch().labels is None
    assert opened.real_set.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert labelled(numbered_images(), 0, 1, 8, 8).real_set.labels is None


def test_classes_that_cannot_be_learnt_are_noted():
    _, *notes = labelled((numbered_images(), [3, 3, 3, 0, 1, 1]), 4, 1, 8, 8).notes
    assert notes == [
        "the class 2 has no image: what is generated of it is not learnt",
        "the class 0 has a single image",
    ]


@pytest.mark.parametrize("data", [numbered_images(), np.zeros((6, 3), np.float32)])
def test_labels_that_are_missing_or_too_many(data):
    img_shape = (3,) if data.ndim == 2 else (1, 8, 8)
    with pytest.raises(UserError, match="has no labels, which conditional training needs"):
        labelled(data, 2, *img_shape)
    with pytest.raises(UserError, match="has 3 classes, the network 2: give it 3"):
        labelled((data, [0, 1, 2, 0, 1, 2]), 2, *img_shape)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_samples_have_labels_too(kind):
    samples = np.arange(6, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    for data in ((kind(samples), kind([0, 1, 2, 0, 1, 2])), {"x": kind(samples), "y": [0.0, 1, 2, 0, 1, 2]}):
        opened = labelled(data, 3, 3)
        batch = opened.feed.next_batch()
        assert torch.equal(batch.labels, batch.img[:, 0].long() % 3)
        assert opened.notes == ()
        assert labelled(data, 0, 3).feed.next_batch().labels is None
    with pytest.raises(UserError, match=r"different numbers of items, .*6, .c.: 2"):
        labelled((samples, [0, 1]), 3, 3)
    with pytest.raises(UserError, match="the samples: the label -1 is negative"):
        labelled((samples, [0, 1, 2, -1, 1, 2]), 3, 3)


def test_what_dali_cannot_decode_is_refused_for_that_reason():
    pytest.importorskip("nvidia.dali")
    with pytest.raises(UserError, match="holds no image files for DALI"):
        labelled((numbered_images(), [0, 1] * 3), 2, 1, 8, 8, backend="dali")


def test_files_that_dali_decodes_come_with_their_class_folder(tmp_path):
    pytest.importorskip("nvidia.dali")
    for index, pixels in enumerate(numbered_images(9)):
        (tmp_path / "abc"[index % 3]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "abc"[index % 3] / f"{index}.png")
    (tmp_path / "b" / "1.png").write_bytes(b"")
    config = replace(conditional(3, "dali"), "data.skip_bad", True)
    opened = open_feed(str(tmp_path), signature(1, 8, 8), config, torch.Generator(CPU), progress=False)
    for _ in range(5):
        batch = opened.feed.next_batch()
        assert torch.equal(batch.labels, batch.img[:, 0, 0, 0].long() % 3)
    assert opened.real_set.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert opened.real_set.class_names == ("a", "b", "c")
    opened.feed.close()
    with pytest.raises(UserError, match="has 3 classes, the network 2"):
        labelled(str(tmp_path), 2, 1, 8, 8, backend="dali")


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["auto", "resident", "stream"])
def test_every_way_gives_the_same_images_on_a_gpu(backend):
    config = replace(replace(replace(preset("mlp"), "run.batch_size", 4), "run.seed", 7), "data.backend", backend)
    ours = open_feed(images(), signature(1, 16, 16), config, torch.Generator("cuda"), progress=False).feed
    theirs = feed_for(images(), 1, 16, 16).feed
    assert isinstance(ours, StreamFeed if backend == "stream" else ResidentFeed)
    assert all(torch.equal(ours.next_batch().img.cpu(), theirs.next_batch().img) for _ in range(5))
    ours.close()


@pytest.mark.parametrize("data", [images(), np.zeros((6, 256), np.float32)], ids=["flat images", "samples"])
def test_augmentation_is_for_images(data):
    config = replace(replace(preset("mlp"), "run.batch_size", 4), "augment.kind", "diff")
    with pytest.raises(UserError, match=r"augmentation needs images \[C, H, W\], and G makes \[256\]"):
        open_feed(data, signature(256), config, torch.Generator(CPU), progress=False)


def test_samples_have_no_left_and_right():
    config = replace(replace(preset("mlp"), "run.batch_size", 4), "data.mirror", True)
    with pytest.raises(UserError, match="mirror needs images"):
        open_feed(np.zeros((6, 3), np.float32), signature(3), config, torch.Generator(CPU), progress=False)


def test_what_the_source_says_is_among_the_notes():
    rgba = images(channels=4)
    opened = feed_for(rgba, 4, 16, 16)
    np.testing.assert_array_equal(opened.real_set.rows.numpy(), rgba)
    assert "alpha" not in " ".join(opened.notes)
    assert "the alpha channel of array is laid over white: --channels 4 keeps it" in feed_for(rgba, 3, 16, 16).notes


def test_labels_that_cannot_be_used_are_refused_with_their_reason():
    source = open_source(images())
    source.why_no_labels = "dataset.json has vectors"
    config = replace(replace(preset("mlp"), "run.batch_size", 4), "model.c_dim", 3)
    with pytest.raises(UserError, match=r"^dataset\.json has vectors$"):
        open_feed(source, signature(1, 16, 16), config, torch.Generator(CPU), progress=False)
