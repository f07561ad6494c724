"""ADA's colours, against the 4x4 matrices of the paper."""
import math

import pytest
import torch
from checking import check_gradients

from fastgan.augment.ada_colour import NUM_COLOUR, change_colours

ALWAYS, NEVER = torch.tensor(1.0), torch.tensor(0.0)
NAMES = ["brightness", "contrast", "flip", "hue", "saturation"]


def numbers(num, **how):
    """Return random numbers that apply only the transforms named in `how`, at p = 1/2.

    `how` gives the random numbers of these transforms.
    """
    uniform = torch.full((num, NUM_COLOUR), 0.9)
    for name, value in how.items():
        uniform[:, 2 * NAMES.index(name)], uniform[:, 2 * NAMES.index(name) + 1] = 0.1, value
    return uniform


def paper_matrix(u):
    """Return the 4x4 matrix on (r, g, b, 1) of one image's ten random numbers, float64.

    All transforms are applied, multiplied as in the paper.
    """
    n = torch.distributions.Normal(0.0, 1.0).icdf(u.double())
    axis = torch.full((3, 1), 1 / math.sqrt(3), dtype=torch.float64)
    grey, eye = axis @ axis.T, torch.eye(3, dtype=torch.float64)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)
    angle = (2 * u[7].item() - 1) * math.pi
    parts = [
        eye * math.exp(0.5 * math.log(2) * n[3]),
        eye - 2 * grey * (u[5].item() < 0.5),
        grey + math.cos(angle) * (eye - grey) + math.sin(angle) * cross,
        grey + (eye - grey) * math.exp(math.log(2) * n[9]),
    ]
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, 3] = 0.2 * n[1]
    for part in parts:
        matrix = torch.block_diag(part, torch.ones(1, 1, dtype=torch.float64)) @ matrix
    return matrix


def test_all_transforms_together_are_the_product_of_the_papers_matrices():
    img, uniform = torch.rand(6, 3, 4, 5) * 2 - 1, torch.rand(6, NUM_COLOUR)
    changed = change_colours(img, uniform, ALWAYS)
    for x, u, y in zip(img, uniform, changed, strict=True):
        matrix = paper_matrix(u)
        expected = (matrix[:3, :3] @ x.double().flatten(1) + matrix[:3, 3:]).view_as(x)
        torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_nothing_happens_with_probability_zero(channels):
    img = torch.randn(4, channels, 3, 5)
    torch.testing.assert_close(change_colours(img, torch.rand(4, NUM_COLOUR), NEVER), img)


def test_each_transform_happens_by_itself():
    img, half = torch.rand(2, 3, 4, 4), torch.tensor(0.5)
    grey = img.mean(1, keepdim=True)
    one = 0.5 + math.erf(1 / math.sqrt(2)) / 2  # its normal number is 1
    expected = {"brightness": img + 0.2, "contrast": img * math.sqrt(2), "saturation": grey + 2 * (img - grey)}
    for name, result in expected.items():
        torch.testing.assert_close(change_colours(img, numbers(2, **{name: one}), half), result, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(change_colours(img, numbers(2, flip=0.2), half), img - 2 * grey)
    torch.testing.assert_close(change_colours(img, numbers(2, flip=0.8), half), img)
    # A third of a turn: red becomes green, green blue, blue red
    third = change_colours(img, numbers(2, hue=0.5 + 1 / 3), half)
    torch.testing.assert_close(third, img.roll(1, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_numbers_of_channels_know_no_hue_and_grey_images_no_saturation(channels):
    img, half = torch.rand(2, channels, 4, 4), torch.tensor(0.5)
    torch.testing.assert_close(change_colours(img, numbers(2, hue=0.8), half), img)
    saturated = change_colours(img, numbers(2, saturation=0.8), half)
    assert torch.equal(saturated, img) == (channels == 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_of_both_orders(channels):
    uniform = torch.rand(2, NUM_COLOUR)
    check_gradients(lambda img: change_colours(img, uniform, ALWAYS).square(), [torch.randn(2, channels, 2, 3)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_and_format_stay(dtype):
    img = torch.randn(2, 3, 4, 5).to(dtype).contiguous(memory_format=torch.channels_last)
    changed = change_colours(img, torch.rand(2, NUM_COLOUR), ALWAYS)
    assert (changed.dtype, changed.stride()) == (img.dtype, img.stride())
