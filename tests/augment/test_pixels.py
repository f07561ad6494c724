"""Pixels moved and erased, against slices."""
import pytest
import torch
from checking import check_gradients

from fastgan.augment.pixels import cut_out, in_format_of, translate

SHAPES = [(1, 1, 1, 1), (2, 3, 4, 6), (3, 5, 7, 5), (2, 1, 1, 9)]
FORMATS = [torch.contiguous_format, torch.channels_last]


def moved_by_slices(img, down, right):
    """Move one image [C, H, W] in Python."""
    moved = torch.zeros_like(img)
    for row in range(img.shape[1]):
        for column in range(img.shape[2]):
            if 0 <= row - down < img.shape[1] and 0 <= column - right < img.shape[2]:
                moved[:, row, column] = img[:, row - down, column - right]
    return moved


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_translate_moves_each_image_by_its_own_pixels(shape, memory_format, dtype):
    img = torch.randn(shape).to(dtype).contiguous(memory_format=memory_format)
    down, right = torch.randint(-3, 4, (2, shape[0]))
    moved = translate(img, down, right)
    assert (moved.dtype, moved.stride()) == (img.dtype, img.stride())
    assert torch.equal(moved, torch.stack([moved_by_slices(*each) for each in zip(img, down, right, strict=True)]))


def test_translate_has_gradients_of_both_orders():
    down, right = torch.tensor([1, -2]), torch.tensor([0, 3])
    check_gradients(lambda img: translate(img, down, right).square(), [torch.randn(2, 2, 3, 4)])


@pytest.mark.parametrize("memory_format", FORMATS)
def test_cut_out_erases_the_rectangle_and_nothing_else(memory_format):
    img = torch.ones(2, 3, 5, 6).contiguous(memory_format=memory_format)
    cut = cut_out(img, torch.tensor([1, -2]), torch.tensor([3, 2]), torch.tensor([0, 4]), torch.tensor([2, 9]))
    expected = torch.ones(2, 3, 5, 6)
    expected[0, :, 1:3, 0:2] = 0
    expected[1, :, :2, 4:] = 0
    assert torch.equal(cut, expected)
    assert cut.stride() == img.stride()


@pytest.mark.parametrize("memory_format", FORMATS)
def test_in_format_of(memory_format):
    img, other = torch.ones(2, 3, 5, 6).contiguous(memory_format=memory_format), torch.ones(2, 3, 4, 4)
    assert in_format_of(img, other).is_contiguous(memory_format=memory_format)
