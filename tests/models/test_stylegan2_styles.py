"""The modulation of all layers of StyleGAN2's synthesis, against that of each alone."""

import math

import pytest
import torch
from checking import check_gradients

from fastgan.models.stylegan2_layers import EPS, StyledConv, ToImage
from fastgan.models.stylegan2_styles import modulations

W_DIM = 5


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def layers(dtype: torch.dtype = torch.float32) -> tuple[list[StyledConv], list[ToImage]]:
    """Make layers of unlike widths, none of which is the widest in all.

    The widest in channels is the last.
    """
    convs = [StyledConv(4, 3, W_DIM, 4), StyledConv(3, 6, W_DIM, 8, up=True), StyledConv(6, 2, W_DIM, 8)]
    to_images = [ToImage(3, 2, W_DIM), ToImage(7, 2, W_DIM)]
    for layer in (*convs, *to_images):
        torch.nn.init.normal_(layer.style.bias, 1.0)
    return [conv.to(dtype) for conv in convs], [layer.to(dtype) for layer in to_images]


def style_of(layer: StyledConv | ToImage, w: torch.Tensor) -> torch.Tensor:
    """Return one layer's style, [N, C], by its own affine map."""
    return layer.style(w) * layer.scale


def norms_of(conv: StyledConv, style: torch.Tensor) -> torch.Tensor:
    """Return one layer's norms, [N, K], of the weights of every image.

    Karras et al., 2020, equation 3.
    """
    weight = conv.weight if conv.up else conv.weight.transpose(0, 1)  # [C, K, 3, 3]
    own = style[:, :, None, None, None] * weight  # [N, C, K, 3, 3]
    return (own.square().sum((1, 3, 4)) + EPS).rsqrt()


@pytest.mark.parametrize("num", [1, 4])
def test_all_layers_at_once_have_the_modulation_of_each(num):
    convs, to_images = layers()
    w = torch.randn(len(convs) + len(to_images), num, W_DIM)
    of_convs, of_images = modulations(convs, to_images, w)
    for conv, (style, norms), own in zip(convs, of_convs, w, strict=False):
        torch.testing.assert_close(style, style_of(conv, own))
        torch.testing.assert_close(norms, norms_of(conv, style))
    for layer, style, own in zip(to_images, of_images, w[len(convs) :], strict=True):
        torch.testing.assert_close(style, style_of(layer, own))


def test_a_style_changes_the_modulation_of_its_layer_alone():
    convs, to_images = layers()
    w = torch.randn(5, 2, W_DIM)
    before = modulations(convs, to_images, w)
    for number in range(5):
        changed = w.clone()
        changed[number] += 1
        (old, new) = (
            [*(pair[0] for pair in of_convs), *of_images]
            for of_convs, of_images in (before, modulations(convs, to_images, changed))
        )
        assert [torch.equal(*pair) for pair in zip(old, new, strict=True)] == [other != number for other in range(5)]


def test_it_is_float32_whatever_autocast_says_and_float64_for_such_styles():
    convs, to_images = layers()
    with torch.autocast("cpu", torch.bfloat16):
        of_convs, of_images = modulations(convs, to_images, torch.randn(5, 2, W_DIM).bfloat16())
    assert {each.dtype for each in (*of_convs[0], *of_images)} == {torch.float32}
    of_convs, _ = modulations(*layers(torch.float64), torch.randn(5, 2, W_DIM, dtype=torch.float64))
    assert of_convs[1][1].dtype == torch.float64


def test_both_orders_of_the_gradient():
    convs, to_images = layers(torch.float64)

    def function(w):
        of_convs, of_images = modulations(convs, to_images, w)
        return torch.cat([each.flatten() for each in (*(each for pair in of_convs for each in pair), *of_images)])

    check_gradients(function, (torch.randn(5, 2, W_DIM, dtype=torch.float64),))


def test_every_parameter_of_a_style_has_its_gradient():
    convs, to_images = layers()
    w = torch.randn(5, 3, W_DIM)
    of_convs, of_images = modulations(convs, to_images, w)
    parameters = [parameter for layer in (*convs, *to_images) for parameter in layer.style.parameters()]
    parameters += [conv.weight for conv in convs]
    factors = [torch.randn_like(each) for each in (*(each for pair in of_convs for each in pair), *of_images)]
    pairs = [(style, norms_of(conv, style)) for conv, style in zip(convs, map(style_of, convs, w), strict=False)]
    alone = [*(each for pair in pairs for each in pair), *map(style_of, to_images, w[len(convs) :])]
    together = [*(each for pair in of_convs for each in pair), *of_images]
    gradients = (
        torch.autograd.grad(
            sum((each * factor).sum() for each, factor in zip(results, factors, strict=True)), parameters
        )
        for results in (together, alone)
    )
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * math.sqrt(theirs.numel()))
