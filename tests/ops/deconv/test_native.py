import itertools

import pytest
import torch
from checking import assert_close_to_truth
from torch.nn import functional as F

LINEAR, RELU, LEAKY_RELU, TANH = range(4)
SLOPE = 0.2
DTYPES = [torch.float32, torch.bfloat16, torch.float64]
# h, w and the excess of the big image over twice that.
SIZES = [((1, 1), (0, 0)), ((1, 1), (1, 1)), ((1, 6), (1, 0)), ((7, 3), (0, 1)), ((2, 19), (0, 0)), ((3, 33), (1, 1))]
# Big channels K, small channels C: groups of 16 columns alone and in all combinations, pairs of
# channels with and without a rest.
CHANNELS = [*itertools.product([1, 2, 3, 5, 8, 9], [1, 16, 17]), (3, 3), (3, 64), (1, 64), (5, 48)]
# Not every combination, because torch takes milliseconds to prepare each: two sizes a pair of
# channels, in turn.
CASES = [(channels, SIZES[(2 * i + i // 3 + j) % len(SIZES)]) for i, channels in enumerate(CHANNELS) for j in range(2)]


def channels_last(x, dtype):
    return x.to(dtype).to(memory_format=torch.channels_last)


def activated(x, act):
    return [x, x.relu(), F.leaky_relu(x, SLOPE), x.tanh()][act]


def up_in_torch(small, weight, bias, size, act):
    more = [big - 2 * half for big, half in zip(size, small.shape[2:], strict=True)]
    return activated(F.conv_transpose2d(small, weight, bias, 2, 1, more), act)


def down_in_torch(big, weight, bias, act):
    return activated(F.conv2d(big, weight, bias, 2, 1), act)


def problem(batch, channels, size, dtype, seed=0):
    """Return a small image, a big one, a weight and the biases of `up` and of `down`.

    The weight is scaled so that tanh gets values of all sizes.
    """
    (big_channels, small_channels), ((h, w), (more_h, more_w)) = channels, size
    torch.manual_seed(seed)
    small = channels_last(torch.randn(batch, small_channels, h, w), dtype)
    big = channels_last(torch.randn(batch, big_channels, 2 * h + more_h, 2 * w + more_w), dtype)
    weight = channels_last(
        torch.randn(small_channels, big_channels, 4, 4) / max(small_channels, 4 * big_channels) ** 0.5, dtype
    )
    return small, big, weight, torch.randn(big_channels).to(dtype), torch.randn(small_channels).to(dtype)


def doubles(*tensors):
    return [None if x is None else x.double() for x in tensors]


def check(ours, reference, truth):
    """Compare our result with the reference, by their errors against the truth.

    In float64 the reference is the truth, and another order of sums may add some rounding steps.
    """
    steps = 16 * torch.finfo(torch.float64).eps * truth.abs().max().item() if ours.dtype == torch.float64 else None
    assert_close_to_truth(ours, reference, truth, atol=steps)


def check_up(native, small, weight, bias, size, act):
    ours = native.deconv_up(small, weight, bias, *size, act, SLOPE)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    check(ours, up_in_torch(small, weight, bias, size, act), up_in_torch(*doubles(small, weight, bias), size, act))


def check_down(native, big, weight, bias, act):
    ours = native.deconv_down(big, weight, bias, act, SLOPE)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    check(ours, down_in_torch(big, weight, bias, act), down_in_torch(*doubles(big, weight, bias), act))


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_directions_at_any_size(native, isa, dtype):
    acts, biases = itertools.cycle([LINEAR, RELU, LEAKY_RELU, TANH]), itertools.cycle([True, True, False])
    for channels, size in CASES:
        small, big, weight, big_bias, small_bias = problem(2, channels, size, dtype)
        act, with_bias = next(acts), next(biases)
        check_up(native, small, weight, big_bias if with_bias else None, big.shape[2:], act)
        check_down(native, big, weight, small_bias if with_bias else None, act)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", [LINEAR, RELU, LEAKY_RELU, TANH])
@pytest.mark.parametrize("with_bias", [True, False])
def test_every_epilogue(native, isa, dtype, act, with_bias):
    small, big, weight, big_bias, small_bias = problem(1, (3, 16), ((4, 5), (0, 0)), dtype)
    check_up(native, small, weight, big_bias if with_bias else None, big.shape[2:], act)
    check_down(native, big, weight, small_bias if with_bias else None, act)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shares_of_several_threads_meet_without_a_seam(native, isa, dtype):
    """Every number of threads splits the rows elsewhere, and must change no bit.

    A split may lie in the middle of an image.
    """
    small, big, weight, bias, _ = problem(3, (3, 64), ((21, 32), (1, 0)), dtype)
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(
                (
                    native.deconv_up(small, weight, bias, *big.shape[2:], TANH, 0.0),
                    native.deconv_down(big, weight, None, RELU, 0.0),
                )
            )
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))
    check_up(native, small, weight, bias, big.shape[2:], TANH)
    check_down(native, big, weight, None, RELU)


def one_pixel_tap_by_tap(native, dtype):
    small, weight = (
        channels_last(torch.ones(1, 1, 1, 1), dtype),
        channels_last(torch.arange(16.0).view(1, 1, 4, 4), dtype),
    )
    return native.deconv_up(small, weight, None, 3, 3, LINEAR, 0.0), weight[:, :, 1:, 1:]


def test_one_pixel_spreads_the_weight(native, isa):
    for dtype in DTYPES:
        spread, expected = one_pixel_tap_by_tap(native, dtype)
        assert torch.equal(spread, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_up_and_down_are_each_others_transpose(native, isa, dtype):
    small, big, weight, _, _ = problem(2, (3, 17), ((4, 7), (1, 0)), dtype)
    up = native.deconv_up(small, weight, None, *big.shape[2:], LINEAR, 0.0)
    down = native.deconv_down(big, weight, None, LINEAR, 0.0)
    left, right = (up.double() * big.double()).sum(), (small.double() * down.double()).sum()
    assert abs(left - right) < 40 * torch.finfo(dtype).eps * up.numel() ** 0.5


def tanh_by_the_kernel(native, x):
    """Return tanh of [K], as the bias of K channels for an image of zeros."""
    zeros = channels_last(torch.zeros(1, 1, 1, 1), x.dtype), channels_last(torch.zeros(1, len(x), 4, 4), x.dtype)
    return native.deconv_up(*zeros, x, 2, 2, TANH, 0.0)[0, :, 1, 1]


def test_tanh_is_accurate_relative_to_itself_everywhere(native, isa):
    magnitudes = torch.cat(
        [torch.logspace(-44, 2, 20000, dtype=torch.float64), torch.linspace(0, 10, 20001, dtype=torch.float64)]
    ).float()
    ours, truth = tanh_by_the_kernel(native, magnitudes), magnitudes.double().tanh()
    smallest = 2.0**-149  # below the normal numbers, a step is that
    assert ((ours.double() - truth).abs() <= (3 * 2.0**-24 * truth).clamp_min(smallest)).all()
    assert (ours <= 1).all()
    assert torch.equal(tanh_by_the_kernel(native, -magnitudes), -ours)
    in_bfloat16 = magnitudes.bfloat16()
    rounded = in_bfloat16.double().tanh()
    assert (
        (tanh_by_the_kernel(native, in_bfloat16).double() - rounded).abs() <= 2.0**-8 * 1.001 * rounded + 2.0**-133
    ).all()


def test_infinity_and_nan_come_through(native, isa):
    inf, nan = float("inf"), float("nan")
    for dtype in DTYPES:
        x = torch.tensor([inf, -inf, nan, 1e30, -1e30, 0.0], dtype=dtype)
        y = tanh_by_the_kernel(native, x)
        assert y[[0, 1, 3, 4, 5]].tolist() == [1.0, -1.0, 1.0, -1.0, 0.0]
        assert y[2].isnan()
        small, big, weight, bias, _ = problem(1, (3, 17), ((5, 6), (0, 0)), dtype)
        small[0, 16, 2, 3] = nan  # the last channel: the one without a partner
        big[0, 2, 0, 0] = nan
        for act in (LINEAR, RELU, LEAKY_RELU, TANH):
            seen = native.deconv_up(small, weight, bias, 10, 12, act, SLOPE).isnan()
            assert seen[:, :, 3:7, 5:9].all()
            assert seen.sum() == 3 * 16
            assert native.deconv_down(big, weight, None, act, SLOPE).isnan().sum() == 17


def test_rounds_to_bfloat16_as_torch_does(native, isa):
    x = torch.randn(4096)
    weight = torch.ones(1, 1, 4, 4).bfloat16()
    # A bfloat16 of 8 bits times one: the sum of four of them needs more, and a tie occurs often.
    small = channels_last(x.view(1, 1, 64, 64), torch.bfloat16)
    ours = native.deconv_up(small, weight, None, 128, 128, LINEAR, 0.0)
    exact = F.conv_transpose2d(small.double(), weight.double(), None, 2, 1)
    assert_close_to_truth(ours, exact.bfloat16(), exact, atol=0.0)
    assert (ours == exact.bfloat16()).float().mean() > 0.999


def test_no_image_at_all(native, isa):
    for dtype in DTYPES:
        small, big, weight, bias, _ = problem(0, (3, 16), ((4, 5), (0, 1)), dtype)
        assert native.deconv_up(small, weight, bias, 8, 11, TANH, 0.0).shape == (0, 3, 8, 11)
        assert native.deconv_down(big, weight, None, RELU, 0.0).shape == (0, 16, 4, 5)
        assert native.deconv_weight(small, big).abs().sum() == 0


def test_no_pixels(native, isa):
    bias, weight = torch.tensor([1.0, -2.0]), torch.zeros(5, 4, 4, 2).permute(0, 3, 1, 2)
    for width in (0, 2):
        y = native.deconv_up(
            torch.zeros(1, 0, width, 5).permute(0, 3, 1, 2), weight, bias, 1, 2 * width + 1, LINEAR, 0.0
        )
        assert torch.equal(y, bias.view(1, 2, 1, 1).expand_as(y))
    assert native.deconv_down(torch.zeros(1, 2, 1, 1), weight, None, LINEAR, 0.0).shape == (1, 5, 0, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_weights_gradient(native, isa, dtype):
    for channels, size in itertools.product([(1, 1), (3, 17), (9, 5)], SIZES):
        small, big, weight, _, _ = problem(2, channels, size, dtype)
        reference = torch.nn.grad.conv2d_weight(big, weight.shape, small, 2, 1)
        truth = torch.nn.grad.conv2d_weight(big.double(), weight.shape, small.double(), 2, 1)
        rounding = 16 * torch.finfo(dtype).eps * truth.abs().max().item()  # a sum over all pixels, in another order
        assert_close_to_truth(native.deconv_weight(small, big), reference, truth, atol=rounding)


def test_refuses_what_would_read_outside_memory(native):
    small, big, weight, bias, _ = problem(2, (3, 16), ((4, 5), (0, 0)), torch.float32)
    rest = (8, 10, LINEAR, 0.0)
    wrong_up = [
        (small[0], weight, bias, *rest),
        (small[:, :8], weight, bias, *rest),
        (small.contiguous(), weight, bias, *rest),
        (small[:, :, ::2], weight, bias, *rest),
        (small, weight[0], bias, *rest),
        (small, weight.contiguous(), bias, *rest),
        (small, weight[:, :, :3], bias, *rest),
        (small, weight[:8], bias, *rest),
        (small, weight.double(), bias, *rest),
        (small.bfloat16(), weight, None, *rest),
        (small, weight, bias[:2], *rest),
        (small, weight, bias[:, None], *rest),
        (small, weight, torch.randn(6)[::2], *rest),
        (small, weight, bias.bfloat16(), *rest),
        (small, weight, bias, 7, 10, LINEAR, 0.0),
        (small, weight, bias, 8, 12, LINEAR, 0.0),
        (small, weight, bias, -8, -10, LINEAR, 0.0),
        (small, weight, bias, 8, 10, 4, 0.0),
        (small, weight, bias, 8, 10, -1, 0.0),
        (small.half(), weight.half(), None, *rest),
        (small.int(), weight.int(), None, *rest),
    ]
    for arguments in wrong_up:
        with pytest.raises(RuntimeError, match="fastgan"):
            native.deconv_up(*arguments)
    small_bias = torch.randn(16)
    wrong_down = [
        (big[0], weight, None, LINEAR, 0.0),
        (big[:, :2], weight, None, LINEAR, 0.0),
        (big.contiguous(), weight, None, LINEAR, 0.0),
        (big, weight[:, :2], None, LINEAR, 0.0),
        (big, weight.bfloat16(), None, LINEAR, 0.0),
        (big, weight, bias, LINEAR, 0.0),
        (big, weight, small_bias.double(), LINEAR, 0.0),
        (big, weight, small_bias, 4, 0.0),
        (big.half(), weight.half(), None, LINEAR, 0.0),
    ]
    for arguments in wrong_down:
        with pytest.raises(RuntimeError, match="fastgan"):
            native.deconv_down(*arguments)
    for arguments in [
        (small[:1], big),
        (small, big[:, :, :7]),
        (small.double(), big),
        (small.contiguous(), big),
        (small[0], big),
    ]:
        with pytest.raises(RuntimeError, match="fastgan"):
            native.deconv_weight(*arguments)
