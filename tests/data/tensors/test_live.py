"""A loader's batches as rows for G and D."""
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from fastgan.data.tensors.live import ImageBatches, open_live
from fastgan.data.tensors.opening import Target
from fastgan.errors import UserError


def batches_of(images: torch.Tensor, img_shape=(1, 4, 6), **options) -> ImageBatches:
    return ImageBatches([{"img": images}], Target(img_shape, **options), "the loader")


@pytest.mark.parametrize("shape", [(5, 1, 4, 6), (5, 4, 6, 1), (5, 4, 6), (1, 4, 6)])
def test_images_come_to_lie_as_rows(shape):
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    convert = batches_of(images)
    rows = convert({"img": images}).img
    assert rows.dtype == torch.uint8
    assert rows.shape == (1 if shape == (1, 4, 6) else 5, 4, 6, 1)
    assert torch.equal(rows.flatten(), images.flatten())
    assert convert.notes == ()


@pytest.mark.parametrize(
    ("low", "high", "scaled"),
    [(0.0, 1.0, (-1, 1)), (-1.0, 1.0, (-1, 1)), (-2.1, 2.6, (-2.1, 2.6)), (0.0, 30.0, (0, 30))],
)
def test_values_are_scaled_where_their_range_is_known(low, high, scaled):
    images = torch.linspace(low, high, 24).view(1, 1, 4, 6)
    convert = batches_of(images)
    rows = convert({"img": images}).img
    assert (rows.min().item(), rows.max().item()) == pytest.approx(scaled)
    assert len(convert.notes) == 1
    assert ("taken as they are: give range=" in convert.notes[0]) == (scaled == (low, high) and high > 1)


def test_the_range_asked_for_is_used():
    images = torch.linspace(0, 4095, 24).view(1, 1, 4, 6).to(torch.int32)
    rows = batches_of(images, value_range=(0, 4095))({"img": images}).img
    assert (rows.min(), rows.max()) == (-1, 1)


def test_a_later_value_below_the_first_ones_is_refused():
    convert = batches_of(torch.rand(2, 1, 4, 6))
    with pytest.raises(UserError, match=r"the loader gives the value -0.5, and its first values lie in \[0, 1\]"):
        convert({"img": torch.full((2, 1, 4, 6), -0.5)})


def test_other_shapes_are_refused():
    with pytest.raises(UserError, match=r"batches of shape \[2, 1, 9, 9\], and G makes \[1, 4, 6\]: let its"):
        batches_of(torch.rand(2, 1, 9, 9))
    with pytest.raises(UserError, match="or give cache=True"):
        batches_of(torch.rand(2, 1, 9, 9), (1, 8, 8))
    convert = batches_of(torch.rand(2, 1, 4, 6))
    with pytest.raises(UserError, match="give all of them one shape"):
        convert({"img": torch.rand(2, 1, 4, 5)})
    with pytest.raises(UserError, match="gives no field 'img'"):
        convert({"image": torch.rand(2, 1, 4, 6)})


def test_labels_are_those_of_the_classes():
    images = torch.rand(2, 1, 4, 6)
    fields = {"img": images, "label": torch.tensor([1, 0])}
    convert = ImageBatches([fields], Target((1, 4, 6), c_dim=2), "the loader")
    assert convert(fields).labels.tolist() == [1, 0]
    with pytest.raises(UserError, match="gives the labels 0 to 2, and the networks take 2 classes"):
        convert(fields | {"label": torch.tensor([2, 0])})
    with pytest.raises(UserError, match="gives no labels"):
        batches_of(images, c_dim=2)({"img": images})


def test_a_loader_is_opened_with_its_first_items_and_its_length():
    images = torch.rand(20, 1, 4, 6)
    loader = DataLoader(TensorDataset(images, torch.arange(20)), batch_size=8)
    feed, live_set, notes = open_live(loader, Target((1, 4, 6)), 6, 0, "cpu")
    assert (live_set.num_images, len(live_set.rows)) == (20, 20)
    assert not any("not used" in note for note in notes)
    assert "is iterated as it is in the process of the training" in notes[0]
    assert "cut to 6" in notes[0]
    assert torch.equal(feed.next_batch().img.contiguous(), images[:6] * 2 - 1)


def test_items_of_a_stream_become_batches():
    class Stream(IterableDataset):
        def __iter__(self):
            for index in range(1000):
                yield {"image": np.full((1, 4, 6), index % 256, np.uint8), "mask": np.zeros(3)}

    feed, live_set, notes = open_live(Stream(), Target((1, 4, 6)), 6, 0, "cpu")
    assert live_set.num_images is None
    assert any("mask is not used" in note for note in notes)
    assert [feed.next_batch().img[:, 0, 0, 0].tolist() for _ in range(2)] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
