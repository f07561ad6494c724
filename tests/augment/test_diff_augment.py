"""DiffAugment: the paper's ranges, gradients, and one graph with the penalty of a D that sees it."""
import pytest
import torch
from checking import check_gradients
from torch import nn

from fastgan.augment.diff_augment import TRANSFORMS, diff_augment, num_uniforms
from fastgan.errors import UserError

ALL = ("colour", "translation", "cutout")
SHAPES = [(1, 1, 1, 1), (2, 3, 16, 16), (3, 5, 7, 12), (2, 1, 1, 9)]


def random_numbers(img, policy):
    return torch.rand(len(img), num_uniforms(policy))


def test_the_number_of_random_numbers():
    assert [num_uniforms(policy) for policy in [(), ("colour",), ("translation",), ("cutout",), ALL]] == [0, 3, 2, 2, 7]


def test_an_unknown_transform_is_named():
    with pytest.raises(UserError, match="no 'color'; choose from colour, translation, cutout"):
        num_uniforms(("color",))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("policy", [(), *((name,) for name in TRANSFORMS), ALL])
def test_shape_dtype_and_format_stay(shape, memory_format, dtype, policy):
    img = torch.randn(shape).to(dtype).contiguous(memory_format=memory_format)
    augmented = diff_augment(img, random_numbers(img, policy), policy)
    assert (augmented.shape, augmented.dtype, augmented.stride()) == (img.shape, img.dtype, img.stride())


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_is_brightness_then_saturation_then_contrast(channels):
    img, uniform = torch.rand(4, channels, 5, 6) * 2 - 1, torch.rand(4, 3)
    brightness, saturation, contrast = (
        column.view(4, 1, 1, 1) for column in (uniform[:, 0] - 0.5, uniform[:, 1] * 2, uniform[:, 2] + 0.5)
    )
    expected = img + brightness
    expected = (expected - expected.mean(1, keepdim=True)) * saturation + expected.mean(1, keepdim=True)
    expected = (expected - expected.mean((1, 2, 3), keepdim=True)) * contrast + expected.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(diff_augment(img, uniform, ("colour",)), expected)


def test_translation_reaches_an_eighth_either_way_and_no_further():
    evenly = (torch.arange(200) + 0.5) / 200
    moved = diff_augment(torch.ones(200, 1, 16, 40), torch.stack([evenly, evenly.flip(0)], 1), ("translation",))
    rows, columns = moved.amax(3).sum((1, 2)), moved.amax(2).sum((1, 2))
    assert rows.unique().tolist() == [14, 15, 16]
    assert columns.unique().tolist() == [35, 36, 37, 38, 39, 40]
    assert (rows == 14).sum() == 80  # two of the five shifts
    assert moved[0, 0, -2:].sum() == 0  # the smallest random number moves up
    assert moved[0, 0, :, :5].sum() == 0  # the largest moves right


@pytest.mark.parametrize("size", [1, 2, 7, 16])
def test_cutout_erases_half_of_each_side_where_it_lies_inside(size):
    evenly = (torch.arange(400) + 0.5) / 400
    cut = (
        diff_augment(
            torch.ones(400, 2, size, size), torch.stack([evenly, torch.full_like(evenly, 0.5)], 1), ("cutout",)
        )
        == 0
    )
    erased_rows, erased_columns = cut.any(3).sum(2)[:, 0], cut.any(2).sum(2)[:, 0]
    half = (size + 1) // 2
    assert erased_rows.max() == half
    assert erased_rows.min() == half // 2 + half % 2  # the centre lies on the border
    assert (erased_columns == half).all()
    assert torch.equal(cut.flatten(1).sum(1), 2 * erased_rows * erased_columns)
    centre = cut.any(3)[:, 0].float().mean(0)
    torch.testing.assert_close(centre, centre.flip(0), rtol=0, atol=0.02)  # top and bottom alike


@pytest.mark.parametrize("policy", [*((name,) for name in TRANSFORMS), ALL])
def test_gradients_of_both_orders(policy):
    uniform = torch.rand(2, num_uniforms(policy))
    check_gradients(lambda img: diff_augment(img, uniform, policy).square(), [torch.randn(2, 3, 4, 5)])


def test_the_order_of_the_names_changes_nothing():
    img, uniform = torch.randn(2, 3, 8, 8), torch.rand(2, 7)
    assert torch.equal(diff_augment(img, uniform, ALL[::-1]), diff_augment(img, uniform, ALL))


@pytest.fixture
def penalised_step():
    """Return the squared gradient of D behind the augmentation, and its own gradient.

    This is the hardest use of the augmentation.
    """
    torch.manual_seed(0)
    D = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(256, 1))
    parameters = list(D.parameters())

    def step(img, uniform):
        grad_probe = img.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(
            D(diff_augment(grad_probe, uniform, ALL)).sum(), grad_probe, create_graph=True
        )
        return torch.autograd.grad(gradient.square().sum(), parameters, allow_unused=True, materialize_grads=True)

    return step


@torch._dynamo.config.patch(trace_autograd_ops=True)
def test_one_graph_together_with_a_penalty_through_it(penalised_step):
    img, uniform = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last), torch.rand(2, 7)
    compiled = torch.compile(penalised_step, backend="aot_eager", fullgraph=True, dynamic=False)
    for ours, eager in zip(compiled(img, uniform), penalised_step(img, uniform), strict=True):
        torch.testing.assert_close(ours, eager)
