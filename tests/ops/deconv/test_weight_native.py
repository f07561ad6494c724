"""The native deconv_weight: every instruction set of this machine against torch.

The kernels run by their operator.
"""
import ctypes
import math
import threading

import pytest
import torch
from checking import assert_close_to_truth

from fastgan.ops.dispatch import registry

ISAS = ("generic", "avx2", "avx512", "avx512_bf16")  # numbered as in csrc/cpu_features.h

# N, C, K, h, w, H - 2h, W - 2w: minimal sizes, tails of every tile and block, borders on every
# side, odd numbers of images and of windows.
SHAPES = [
    (1, 1, 1, 1, 1, 0, 0),
    (1, 1, 1, 1, 1, 1, 1),
    (2, 3, 3, 2, 5, 0, 0),
    (3, 6, 4, 1, 3, 0, 1),
    (5, 64, 3, 3, 4, 1, 0),
    (3, 17, 1, 4, 1, 1, 1),
    (2, 65, 4, 70, 1, 0, 0),
    (2, 5, 3, 1, 70, 0, 0),
    (1, 5, 8, 3, 3, 0, 0),
    (1, 7, 5, 3, 2, 1, 1),
    (2, 6, 16, 4, 4, 0, 0),
    (3, 5, 9, 1, 1, 0, 0),
    (3, 7, 63, 2, 3, 0, 1),
    (5, 17, 64, 5, 1, 1, 0),
    (2, 64, 65, 1, 6, 0, 0),
    (1, 65, 130, 3, 4, 1, 1),
    (5, 1, 65, 7, 2, 0, 0),
    (3, 49, 17, 2, 2, 0, 0),
]


@pytest.fixture(scope="module")
def library():
    if registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    library = ctypes.CDLL(str(registry.library_path()))
    yield library
    library.fastgan_limit_isa(len(ISAS) - 1)


@pytest.fixture(params=ISAS)
def isa(request, library):
    """Run a test with the best version that needs no more than these instructions."""
    number = ISAS.index(request.param)
    if library.fastgan_limit_isa(number) != number:
        library.fastgan_limit_isa(len(ISAS) - 1)
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    library.fastgan_limit_isa(len(ISAS) - 1)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def images(shape, dtype, seed=0):
    """Return a small and a big image, channels_last.

    Their values are exact in bfloat16 if that is their dtype.
    """
    n, c, k, h, w, extra_height, extra_width = shape
    generator = torch.Generator().manual_seed(seed)
    small, big = (
        torch.randn(n, c, h, w, generator=generator),
        torch.randn(n, k, 2 * h + extra_height, 2 * w + extra_width, generator=generator),
    )
    return [x.to(dtype).to(memory_format=torch.channels_last) for x in (small, big)]


def ours(small, big):
    return torch.ops.fastgan.deconv_weight(small, big)


def by_torch(small, big):
    weight = small.new_empty(small.shape[1], big.shape[1], 4, 4)
    only_weight = [False, True, False]
    return torch.ops.aten.convolution_backward(
        small, big, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, only_weight
    )[1]


def assert_right(small, big, weight):
    truth = by_torch(small.double(), big.double())
    # A float32 reference can be off by less than a rounding of the intermediate terms, which are up
    # to four times the largest result.
    atol = 4 * torch.finfo(torch.float32).eps * truth.abs().max().item() if small.dtype == torch.float32 else None
    assert_close_to_truth(weight, by_torch(small, big), truth, atol)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_as_torch_computes_it(isa, shape, dtype):
    small, big = images(shape, dtype)
    assert_right(small, big, ours(small, big))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(
    "shape", [(70, 7, 20, 5, 6, 0, 0), (11, 130, 70, 9, 10, 1, 0), (40, 20, 3, 20, 3, 0, 1)], ids=str
)
def test_sums_over_many_chunks(isa, threads, shape, dtype):
    small, big = images(shape, dtype)
    assert_right(small, big, ours(small, big))


@pytest.mark.parametrize("channels", [3, 20])
def test_whole_numbers_come_out_exactly(isa, channels):
    generator = torch.Generator().manual_seed(1)
    for dtype in (torch.bfloat16, torch.float32):
        small, big = (torch.randint(-1, 2, size, generator=generator).to(dtype).to(memory_format=torch.channels_last)
                      for size in ((4, 5, 3, 2), (4, channels, 6, 5)))
        assert torch.equal(ours(small, big).double(), by_torch(small.double(), big.double()))


@pytest.mark.parametrize("channels", [3, 17])
def test_one_value_reaches_only_its_own_weight(isa, channels):
    # One pixel of each image: exactly the tap between them, and only where there is one.
    for y, x in ((0, 0), (2, 3), (5, 6)):
        small, big = (
            torch.zeros(size).to(memory_format=torch.channels_last) for size in ((3, 7, 3, 3), (3, channels, 6, 7))
        )
        small[2, 6, 1, 2], big[2, channels - 1, y, x] = 2, 3
        weight, ky, kx = ours(small, big), y - 1, x - 3
        expected = torch.zeros_like(weight)
        if 0 <= ky < 4 and 0 <= kx < 4:
            expected[6, channels - 1, ky, kx] = 6
        assert torch.equal(weight, expected)


def test_a_nan_is_seen(isa):
    for channels in (3, 20):
        small, big = images((3, 7, channels, 2, 2, 0, 0), torch.bfloat16)
        small[2, 3, 1, 1] = math.nan
        weight = ours(small, big)
        assert weight[3].isnan().any()
        assert weight[:3].isfinite().all()
        assert weight[4:].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [(9, 20, 24, 10, 9, 0, 0), (40, 20, 3, 20, 3, 0, 1)], ids=str)
def test_the_same_bits_every_time_and_for_any_number_of_threads(isa, shape, dtype):
    small, big = images(shape, dtype)
    before = torch.get_num_threads()
    first = ours(small, big)
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            assert torch.equal(ours(small, big), first)
    finally:
        torch.set_num_threads(before)


def test_calls_from_two_threads_at_once(isa):
    pairs = [
        images((5, 20, channels, 6, 6, 0, 0), torch.float32, seed) for seed, channels in enumerate((24, 3, 40, 24))
    ]
    expected = [ours(*pair) for pair in pairs]
    same = []

    def work(order):
        same.extend(torch.equal(ours(*pairs[i]), expected[i]) for _ in range(10) for i in order)

    workers = [threading.Thread(target=work, args=(order,)) for order in ((0, 1, 2, 3), (3, 2, 1, 0))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert same == [True] * 80


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "shape", [(0, 5, 3, 2, 2, 0, 0), (0, 5, 20, 2, 2, 0, 0), (2, 5, 20, 0, 2, 0, 0), (2, 5, 3, 2, 0, 0, 1)], ids=str
)
def test_no_pixels_give_zeros(isa, shape, dtype):
    assert torch.equal(ours(*images(shape, dtype)), torch.zeros(5, shape[2], 4, 4, dtype=dtype))
