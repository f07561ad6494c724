"""Resampling: maps that hit pixels copy them, everywhere; in between images are antialiased."""
import math

import pytest
import torch

from fastgan.augment.affine import identity_map
from fastgan.augment.resample import DOUBLING, HALVING, pick_pixels, resample

SHAPES = [(2, 3, 16, 16), (1, 1, 1, 1), (2, 5, 7, 12), (2, 3, 1, 9)]
METHODS = pytest.mark.parametrize("method", [pick_pixels, resample])


def identity(img):
    return identity_map(len(img), img.device)


def all_images(img, value):
    return torch.full((len(img),), float(value))


def assert_same(method, ours, expected):
    tolerance = 0 if method is pick_pixels else 5e-6
    torch.testing.assert_close(ours, expected, rtol=0, atol=tolerance)


def test_the_two_filters_belong_together():
    doubling, halving = ([*taps[:0:-1], *taps] for taps in (DOUBLING, HALVING))
    for shift in range(-3, 4):  # biorthogonal under shifts by two samples: doubling and halving again is the identity
        product = sum(halving[k + 4] * doubling[k - 2 * shift + 3] for k in range(-4, 5) if abs(k - 2 * shift) <= 3)
        assert product == pytest.approx(float(shift == 0), abs=1e-13)
    assert sum(halving) == pytest.approx(1, abs=1e-13)
    assert sum(doubling[::2]) == pytest.approx(1, abs=1e-13)  # between pixels
    assert sum(doubling[1::2]) == pytest.approx(1, abs=1e-13)  # at pixels


@METHODS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_identity_keeps_every_pixel_and_the_format(method, shape, memory_format):
    img = torch.randn(shape).contiguous(memory_format=memory_format)
    same = method(img, identity(img))
    assert same.stride() == img.stride()
    assert_same(method, same, img)


@METHODS
@pytest.mark.parametrize("shape", SHAPES)
def test_mirrored_images_keep_their_pixels(method, shape):
    img = torch.randn(shape)
    assert_same(method, method(img, identity(img).scaled(all_images(img, -1), all_images(img, 1))), img.flip(3))


@METHODS
@pytest.mark.parametrize("size", [1, 8, 9])
def test_quarter_turns_keep_the_pixels(method, size):
    img = torch.randn(2, 3, size, size)
    turned = method(img, identity(img).turned(all_images(img, 0), all_images(img, 1)))
    assert_same(method, turned, img.rot90(-1, (2, 3)))


@METHODS
def test_whole_pixels_move_the_image_and_bring_in_its_mirror_image(method):
    img = torch.randn(2, 3, 6, 9)
    moved = method(img, identity(img).moved(torch.tensor([2.0, -3.0]), torch.tensor([0.0, 1.0])))
    right = torch.cat([img[0, :, :, :2].flip(2), img[0, :, :, :-2]], 2)
    left = torch.cat([img[1, :, :, 3:], img[1, :, :, -3:].flip(2)], 2)
    assert_same(method, moved, torch.stack([right, torch.cat([left[:, :1], left[:, :-1]], 1)]))


def wave(frequency, size=32, phase=0.0):
    """Return the cosine of `frequency` half periods an image: [1, 1, size, size].

    Its mirror images continue it smoothly.
    """
    place = (torch.arange(size) + 0.5 - phase) / size
    return (math.pi * frequency * place).cos().expand(1, 1, size, size).contiguous()


@pytest.mark.parametrize("frequency", [2, 8, 12])
def test_half_a_pixel_moves_a_wave_without_blurring_it(frequency):
    img = wave(frequency)
    moved = resample(img, identity(img).moved(all_images(img, 0.5), all_images(img, 0)))
    plain = (img + img.roll(1, 3)) / 2  # bilinear sampling at the image's own resolution
    inner = (slice(None), slice(None), slice(None), slice(4, -4))
    error = (moved - wave(frequency, phase=0.5))[inner].abs().max()
    assert error <= 0.02
    assert frequency < 8 or error < (plain - wave(frequency, phase=0.5))[inner].abs().max() / 3


def test_detail_too_fine_for_a_smaller_image_does_not_come_back_as_a_coarse_pattern():
    img = wave(26)  # 13 periods in 32 pixels, 1.6 times as many in half the size: beyond what 32 pixels can show
    half = identity(img).scaled(all_images(img, 0.5), all_images(img, 0.5))
    assert resample(img, half).square().mean() < 0.3 * pick_pixels(img, half).square().mean()


def test_the_gradient_is_exact():
    img = torch.randn(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    affine = (
        identity(img)
        .scaled(all_images(img, 1.3), all_images(img, 0.8))
        .turned(all_images(img, 0.8), all_images(img, 0.6))
        .moved(all_images(img, 0.3), all_images(img, -1.7))
    )
    torch.autograd.gradcheck(lambda img: resample(img, affine), [img])
    torch.autograd.gradcheck(
        lambda img: pick_pixels(img, identity(img).moved(all_images(img, 2), all_images(img, 1))), [img]
    )


@METHODS
def test_bfloat16_is_computed_in_float32_even_under_autocast(method):
    img = torch.randn(2, 3, 8, 8).bfloat16()
    affine = identity(img).scaled(all_images(img, 1.2), all_images(img, 1.2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = method(img, affine)
    assert torch.equal(ours, method(img.float(), affine).bfloat16())
