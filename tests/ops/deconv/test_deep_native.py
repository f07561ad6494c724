"""`up` and `down` between images of many channels.

There the native kernels use fewer multiplications than the definition.
"""
import itertools

import pytest
import torch
from checking import assert_close_to_truth
from torch.nn import functional as F

LINEAR, RELU, LEAKY_RELU, TANH = ACTS = range(4)
SLOPE = 0.25
DTYPES = [torch.float32, torch.bfloat16]
CHANNELS = [(32, 32), (32, 64), (64, 32), (96, 64), (64, 96), (32, 160), (256, 32)]  # small channels C, big channels K
# N, h, w and the excess of the big image over twice that. The last two have more tiles than are
# computed at a time.
SIZES = [
    (1, 1, 1, 0, 0),
    (3, 1, 1, 1, 1),
    (1, 1, 6, 1, 0),
    (2, 7, 3, 0, 1),
    (1, 2, 5, 1, 1),
    (3, 4, 4, 0, 0),
    (3, 7, 9, 1, 0),
    (1, 23, 26, 0, 1),
]


def channels_last(x, dtype):
    return x.to(dtype).to(memory_format=torch.channels_last)


def problem(channels, size, dtype, numbers):
    """Return a small image, a big one, a weight and the biases of `up` and of `down`.

    Their values are numbers(*shape).
    """
    (C, K), (N, h, w, more_h, more_w) = channels, size
    torch.manual_seed(0)
    shapes = (N, C, h, w), (N, K, 2 * h + more_h, 2 * w + more_w), (C, K, 4, 4)
    return *(channels_last(numbers(*shape), dtype) for shape in shapes), numbers(K).to(dtype), numbers(C).to(dtype)


def integers(*shape):
    """Return integers so small that results are exact in either dtype and order.

    Sums of four, products and their sums are all exact: there is no rounding error.
    """
    return torch.randint(-4, 5, shape).double()


def activated(x, act):
    return [x, x.relu(), F.leaky_relu(x, SLOPE), x.tanh()][act]


def up_in_torch(small, weight, bias, size, act):
    more = [big - 2 * half for big, half in zip(size, small.shape[2:], strict=True)]
    return activated(F.conv_transpose2d(small, weight, bias, 2, 1, more), act)


def down_in_torch(big, weight, bias, act):
    return activated(F.conv2d(big, weight, bias, 2, 1), act)


def doubles(*tensors):
    return [None if x is None else x.double() for x in tensors]


@pytest.mark.parametrize("dtype", DTYPES)
def test_integers_come_out_exactly_at_any_size(native, isa, dtype):
    acts, biases = itertools.cycle([LINEAR, RELU, LEAKY_RELU]), itertools.cycle([True, True, False, False])
    for i, (channels, size) in enumerate(itertools.product(CHANNELS, SIZES)):
        if i % 2 and isa < 2:  # not these kernels
            continue
        small, big, weight, big_bias, small_bias = problem(channels, size, dtype, integers)
        act = next(acts)
        if not next(biases):
            big_bias = small_bias = None
        up = native.deconv_up(small, weight, big_bias, *big.shape[2:], act, SLOPE)
        down = native.deconv_down(big, weight, small_bias, act, SLOPE)
        assert up.is_contiguous(memory_format=torch.channels_last)
        assert down.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(up, up_in_torch(*doubles(small, weight, big_bias), big.shape[2:], act).to(dtype)), (
            channels,
            size,
        )
        assert torch.equal(down, down_in_torch(*doubles(big, weight, small_bias), act).to(dtype)), (channels, size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("with_bias", [True, False])
def test_as_close_to_the_truth_as_torch(native, isa, dtype, act, with_bias):
    small, big, weight, big_bias, small_bias = problem((64, 96), (2, 5, 8, 1, 0), dtype, torch.randn)
    weight = weight / 32  # so that tanh, which is left to the other kernels, sees values of all sizes
    if not with_bias:
        big_bias = small_bias = None
    up = native.deconv_up(small, weight, big_bias, *big.shape[2:], act, SLOPE)
    size = big.shape[2:]
    assert_close_to_truth(
        up, up_in_torch(small, weight, big_bias, size, act), up_in_torch(*doubles(small, weight, big_bias), size, act)
    )
    down = native.deconv_down(big, weight, small_bias, act, SLOPE)
    assert_close_to_truth(
        down, down_in_torch(big, weight, small_bias, act), down_in_torch(*doubles(big, weight, small_bias), act)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_changes_no_bit(native, isa, dtype):
    small, big, weight, bias, _ = problem((96, 64), (3, 13, 16, 1, 0), dtype, torch.randn)
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(
                (
                    native.deconv_up(small, weight, bias, *big.shape[2:], RELU, 0.0),
                    native.deconv_down(big, weight, None, LINEAR, 0.0),
                )
            )
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_reaches_the_pixels_that_see_it_alone(native, isa, dtype, value):
    """A NaN stays a NaN, an infinity becomes some value that is not finite."""
    for row, column in itertools.product(range(4), range(4)):  # in a tile, and around it
        small, big, weight, bias, _ = problem((32, 64), (2, 4, 5, 0, 0), dtype, torch.randn)
        small[1, 31, row, column] = value
        big[0, 62, row, column] = value
        up = native.deconv_up(small, weight, bias, 8, 10, LINEAR, 0.0)
        down = native.deconv_down(big, weight, None, LINEAR, 0.0)
        assert torch.equal(up.isfinite(), up_in_torch(small, weight, bias, (8, 10), LINEAR).isfinite())
        assert torch.equal(down.isfinite(), down_in_torch(big, weight, None, LINEAR).isfinite())
        if value != value:
            for act in (RELU, LEAKY_RELU, TANH):
                assert torch.equal(native.deconv_up(small, weight, bias, 8, 10, act, SLOPE).isnan(), up.isnan())
                assert torch.equal(native.deconv_down(big, weight, None, act, SLOPE).isnan(), down.isnan())


@pytest.mark.parametrize("channels", [(32, 48), (48, 32), (31, 32), (32, 33), (64, 0), (0, 64)])
def test_other_numbers_of_channels_are_left_to_the_other_kernels(native, isa, channels):
    for dtype in DTYPES:
        small, big, weight, bias, _ = problem(channels, (2, 3, 2, 0, 1), dtype, integers)
        up = native.deconv_up(small, weight, bias, *big.shape[2:], LINEAR, 0.0)
        down = native.deconv_down(big, weight, None, LINEAR, 0.0)
        if 0 in channels:
            assert torch.equal(up, bias.view(1, -1, 1, 1).expand_as(up))
            assert down.abs().sum() == 0
        else:
            assert torch.equal(up, up_in_torch(*doubles(small, weight, bias), big.shape[2:], LINEAR).to(dtype))
            assert torch.equal(down, down_in_torch(*doubles(big, weight, None), LINEAR).to(dtype))


def test_big_images_without_a_small_pixel(native, isa):
    """H = 1 or W = 1: `up` has nothing to add, `down` nothing to write."""
    for dtype, width in itertools.product(DTYPES, (0, 2)):
        small, big, weight, bias, _ = problem((32, 64), (2, 0, width, 1, 1), dtype, integers)
        y = native.deconv_up(small, weight, bias, *big.shape[2:], LINEAR, 0.0)
        assert torch.equal(y, bias.view(1, -1, 1, 1).expand_as(y))
        assert native.deconv_down(big, weight, None, LINEAR, 0.0).shape == (2, 32, 0, width)
