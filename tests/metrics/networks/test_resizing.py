"""The resizing of FID compared with its definition, pixel by pixel."""
import math

import pytest
import torch

from fastgan.metrics.networks.resizing import resize_as_tensorflow1, to_rgb


def by_definition(img: torch.Tensor, side: int) -> torch.Tensor:
    height, width = img.shape
    result = torch.empty(side, side, dtype=torch.float64)
    for i in range(side):
        for j in range(side):
            y, x = i * height / side, j * width / side
            top, left = math.floor(y), math.floor(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            above = img[top, left] + (img[top, right] - img[top, left]) * (x - left)
            below = img[bottom, left] + (img[bottom, right] - img[bottom, left]) * (x - left)
            result[i, j] = above + (below - above) * (y - top)
    return result


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3), (4, 4), (5, 3), (11, 11), (12, 30), (7, 11)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_each_pixel_lies_between_its_four(height, width, memory_format):
    images = (
        torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0))
        .float()
        .contiguous(memory_format=memory_format)
    )
    resized = resize_as_tensorflow1(images, 11)
    assert resized.shape == (2, 3, 11, 11)
    for number in range(2):
        for channel in range(3):
            torch.testing.assert_close(
                resized[number, channel].double(),
                by_definition(images[number, channel].double(), 11),
                rtol=1e-5,
                atol=1e-3,
            )


def test_the_published_size_is_left_alone():
    images = torch.rand(1, 3, 299, 299)
    assert resize_as_tensorflow1(images, 299) is images


def test_a_corner_stays_where_it_is():
    """TensorFlow 1's convention: pixel 0 stays pixel 0, and everything is shifted to the left.

    No other library does this.
    """
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    assert resize_as_tensorflow1(ramp, 8)[0, 0, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]


def test_grey_becomes_three_channels():
    grey = torch.randint(0, 256, (2, 1, 4, 5), dtype=torch.uint8)
    rgb = to_rgb(grey)
    assert rgb.shape == (2, 3, 4, 5)
    assert rgb.dtype == torch.float32
    assert torch.equal(rgb, grey.float().repeat(1, 3, 1, 1))
    assert rgb.is_contiguous(memory_format=torch.channels_last)
