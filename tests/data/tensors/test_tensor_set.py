"""A set of samples of any shape."""
import pytest
import torch

from fastgan.data.tensors.scaling import Scaling
from fastgan.data.tensors.tensor_set import TensorSet
from fastgan.data.value_range import ValueRange
from fastgan.errors import UserError


def tensor_set(rows: torch.Tensor, num_images: int | None = 6, **more) -> TensorSet:
    return TensorSet(rows, None, "it", num_images, **more)


def test_a_sample_is_spread_over_the_set():
    found = tensor_set(torch.arange(6)[:, None])
    assert found.img_shape == (1,)
    assert found.sample(3).flatten().tolist() == [0, 2, 5]
    assert len(found.sample(100)) == 6


def test_images_become_bytes_for_metrics():
    rows = torch.tensor([-1.0, 0, 1, 1.5]).view(1, 2, 2, 1).repeat(6, 1, 1, 1)
    images = tensor_set(rows, scaling=Scaling(ValueRange(0, 9))).image_set().images
    assert images[0].flatten().tolist() == [0, 128, 255, 255]
    as_bytes = torch.zeros(6, 2, 4, 3, dtype=torch.uint8)
    assert tensor_set(as_bytes).image_set().images.data_ptr() == as_bytes.data_ptr()


@pytest.mark.parametrize(("rows", "num", "message"), [
    (torch.zeros(6, 2, 2, 5), 6, "1 or 3 channels"), (torch.zeros(6, 9), 6, "1 or 3 channels"),
    (torch.zeros(6, 2, 2, 1), None, "give cache=True"), (torch.zeros(6, 2, 2, 1), 60, "give cache=True"),
])
def test_what_metrics_cannot_compare_is_refused(rows, num, message):
    with pytest.raises(UserError, match=message):
        tensor_set(rows, num).image_set()
