"""Kernels of the deconvolution, in the interpreter, compiled for absent GPUs, and on a GPU.

The functions check_* compare the interpreted kernels with torch.
"""
import itertools
import math
import re
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from checking import assert_close_to_truth
from triton_tools import CAPABILITIES, compile_launches, run_interpreted

pytest.importorskip("triton", reason="triton is not installed")
from fastgan.kernels import deconv, deconv_tiles  # noqa: E402

ACTIVATIONS = (lambda x: x, F.relu, lambda x: F.leaky_relu(x, 0.1), torch.tanh)
# N, C, K, h, w, H - 2h, W - 2w: every odd end, minimal and ragged tiles, and both sides of NARROW,
# of FLAT and of a step's depth.
SIZES = {
    "minimal": (1, 1, 1, 1, 1, 0, 0),
    "one row": (1, 3, 1, 1, 3, 1, 0),
    "narrow": (2, 5, 4, 3, 2, 0, 1),
    "not narrow": (1, 17, 5, 2, 5, 1, 1),
    "image": (1, 64, 3, 5, 4, 0, 0),
    "flat": (1, 4, 15, 3, 1, 1, 1),
    "not flat": (2, 3, 16, 1, 2, 0, 0),
    "ragged": (2, 5, 17, 3, 4, 1, 0),
    "wide": (1, 17, 64, 4, 3, 0, 1),
    "several steps": (1, 64, 80, 3, 3, 0, 0),
    "many rows": (1, 3, 5, 8, 66, 0, 0),
}
HALF_SIZES = ("image", "ragged")
DCGAN = ((512, 256, 4), (256, 128, 8), (128, 64, 16), (64, 3, 32))  # C, K, h = w


def small_big_weight(sizes, dtype, device="cpu"):
    N, C, K, h, w, odd_h, odd_w = sizes
    random = torch.Generator().manual_seed(0)
    shapes = (N, C, h, w), (N, K, 2 * h + odd_h, 2 * w + odd_w), (C, K, 4, 4)
    return [
        torch.randn(s, generator=random).to(device, dtype).contiguous(memory_format=torch.channels_last) for s in shapes
    ]


def bias_of(channels, like):
    return torch.linspace(-1, 1, channels).to(like)


def torch_up(small, weight, bias, big, act):
    ends = big.shape[2] - 2 * small.shape[2], big.shape[3] - 2 * small.shape[3]
    return ACTIVATIONS[act](F.conv_transpose2d(small, weight, bias, 2, 1, output_padding=ends))


def torch_down(big, weight, bias, act):
    return ACTIVATIONS[act](F.conv2d(big, weight, bias, 2, 1))


def torch_weight(small, big):
    weight = small.new_empty(small.shape[1], big.shape[1], 4, 4)
    return torch.ops.aten.convolution_backward(
        small, big, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False]
    )[1]


def doubled(*tensors):
    return [None if x is None else x.double() for x in tensors]


def compare(ours, reference, *inputs):
    assert_close_to_truth(ours, reference(*inputs), reference(*doubled(*inputs)))
    assert ours.is_contiguous(memory_format=torch.channels_last)


def check_up(sizes, dtype, act=0, with_bias=False, device="cpu"):
    small, big, weight = small_big_weight(sizes, dtype, device)
    bias = bias_of(weight.shape[1], small) if with_bias else None
    ours = deconv.up(small, weight, bias, *big.shape[2:], act, 0.1)
    compare(ours, lambda small, weight, bias: torch_up(small, weight, bias, big, act), small, weight, bias)


def check_down(sizes, dtype, act=0, with_bias=False, device="cpu"):
    _, big, weight = small_big_weight(sizes, dtype, device)
    bias = bias_of(weight.shape[0], big) if with_bias else None
    compare(deconv.down(big, weight, bias, act, 0.1), lambda *inputs: torch_down(*inputs, act), big, weight, bias)


def check_weight(sizes, dtype, device="cpu"):
    small, big, _ = small_big_weight(sizes, dtype, device)
    compare(deconv.weight(small, big), torch_weight, small, big)


def check_one_form(sizes):
    small, big, weight = small_big_weight(sizes, torch.float32)
    by_up = (big.double() * deconv.up(small, weight, None, *big.shape[2:], 0, 0.0)).sum()
    by_down = (small.double() * deconv.down(big, weight, None, 0, 0.0)).sum()
    by_weight = (weight.double() * deconv.weight(small, big)).sum()
    torch.testing.assert_close(torch.stack([by_down, by_weight]), by_up.expand(2), rtol=1e-5, atol=1e-4)


def check_same_with(sizes, constant, value, equal):
    """Check that results do not change with "module.constant": to the bit, or up to rounding.

    The dtype is float16, whose tiles are the largest.
    """
    small, big, weight = small_big_weight(sizes, torch.float16)

    def results():
        of_weight = deconv.weight(small, big)
        return deconv.up(small, weight, None, *big.shape[2:], 0, 0.0), deconv.down(big, weight, None, 0, 0.0), of_weight

    before = results()
    with mock.patch(f"fastgan.kernels.{constant}", value):
        after = results()
    rounding = 0 if equal else torch.finfo(torch.float16).eps
    for x, y in zip(before, after, strict=True):
        torch.testing.assert_close(x, y, rtol=rounding, atol=rounding)


def check_parts(programs):
    small, big, _ = small_big_weight((1, 3, 16, 4, 75, 0, 1), torch.float16)
    with mock.patch.object(deconv_tiles, "PROGRAMS", programs):
        ours = deconv.weight(small, big)
        assert torch.equal(ours, deconv.weight(small, big)), "equal inputs gave other bits"
    compare(ours, torch_weight, small, big)


def check_tiles(direction, sizes, every=1):
    """Check the results of all tiles that are offered for timing."""
    small, big, weight = small_big_weight(sizes, torch.float16)
    kind = deconv_tiles.kind_of(direction, small.shape, big.shape, small.dtype)
    tiles = deconv_tiles.tiles_to_try(kind)
    assert tiles[0] == deconv_tiles.default_tile(kind)
    assert len(tiles) == len(set(tiles)) > 3
    for tile in tiles[1::every]:
        assert deconv_tiles.use(kind, tile) is None
        {"up": check_up, "down": check_down, "weight": check_weight}[direction](sizes, torch.float16)
        assert deconv_tiles.tile_of(kind) == tile
    assert deconv_tiles.use(kind, tiles[0]._replace(rows=48)) == "no kernel has this tile"
    assert (
        deconv_tiles.use(kind, tiles[0]._replace(depth=256, rows=256, columns=256))
        == "its sums take more registers than there are"
    )
    assert deconv_tiles.use(kind._replace(kernel="sideways"), tiles[0]) == "there is no such kind of call"
    deconv_tiles.forget()
    assert deconv_tiles.tile_of(kind) == tiles[0]


def check_activation(act):
    """Check that zeros and a bias give the activation of the bias.

    It is exact for all but tanh, which is wrong by few units in the last place.
    """
    near, far = [1e-30, 1e-8, 0.01, 0.0999, 0.1, 0.1001, 0.5], [1.0, 3.0, 20.0, 1e4, math.inf]
    bias = torch.tensor([sign * v for v in near + far for sign in (1, -1)] + [0.0, math.nan])
    image, weight = (
        torch.zeros(1, 1, 1, 1),
        torch.zeros(1, len(bias), 4, 4).contiguous(memory_format=torch.channels_last),
    )
    result = deconv.up(image, weight, bias, 2, 2, act, 0.1)
    expected = ACTIVATIONS[act](bias.double())[:, None, None].expand(-1, 2, 2)
    torch.testing.assert_close(result[0].double(), expected, rtol=4e-7, atol=0, equal_nan=True)


def check_nothing():
    small, big, weight = small_big_weight((0, 3, 5, 2, 2, 0, 0), torch.float32)
    assert deconv.up(small, weight, None, 4, 4, 0, 0.0).shape == (0, 5, 4, 4)
    assert deconv.down(big, weight, None, 0, 0.0).shape == (0, 3, 2, 2)
    assert torch.equal(deconv.weight(small, big), torch.zeros(3, 5, 4, 4))


@pytest.mark.parametrize("size", SIZES)
def test_up_is_a_transposed_convolution(size):
    run_interpreted(check_up, SIZES[size], torch.float32)


@pytest.mark.parametrize("size", SIZES)
def test_down_is_a_convolution(size):
    run_interpreted(check_down, SIZES[size], torch.float32)


@pytest.mark.parametrize("size", SIZES)
def test_weight_is_the_gradient_of_both(size):
    run_interpreted(check_weight, SIZES[size], torch.float32)


@pytest.mark.parametrize("check", [check_up, check_down, check_weight])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", HALF_SIZES)
def test_half_precision(size, dtype, check):
    run_interpreted(check, SIZES[size], dtype)


@pytest.mark.parametrize("act", range(4))
@pytest.mark.parametrize("size", ["narrow", "ragged"])
def test_bias_and_activation(size, act):
    run_interpreted(check_up, SIZES[size], torch.float32, act, True)
    run_interpreted(check_down, SIZES[size], torch.bfloat16, act, True)


@pytest.mark.parametrize("act", range(4))
def test_activation_of_extremes(act):
    run_interpreted(check_activation, act)


@pytest.mark.parametrize("size", ["image", "ragged"])
def test_the_three_are_derivatives_of_one_form(size):
    run_interpreted(check_one_form, SIZES[size])


@pytest.mark.parametrize("size", ["image", "many rows"])
def test_offsets_of_64_bits_change_nothing(size):
    run_interpreted(check_same_with, SIZES[size], "deconv.LONG_NUMEL", 0, True)


def test_sizes_of_tiles_change_rounding_alone():
    run_interpreted(check_same_with, SIZES["many rows"], "deconv_tiles.PROGRAMS", 1, False)


@pytest.mark.parametrize("direction", ["up", "down", "weight"])
def test_some_tiles_that_are_offered_for_timing(direction):
    run_interpreted(check_tiles, direction, SIZES["ragged"], 4)


@pytest.mark.thorough
@pytest.mark.parametrize("direction", ["up", "down", "weight"])
@pytest.mark.parametrize("size", ["narrow", "flat", "not flat", "several steps"])
def test_every_tile_that_is_offered_for_timing(direction, size):
    run_interpreted(check_tiles, direction, SIZES[size])


@pytest.mark.parametrize("programs", [1, 1000])
def test_weight_is_the_same_in_any_number_of_parts(programs):
    run_interpreted(check_parts, programs)


def test_an_empty_batch():
    run_interpreted(check_nothing)


def launches(layer, dtype, batch):
    """Return the three launches of a layer, with images that take no memory."""
    C, K, h = layer
    like = {"dtype": dtype, "device": "meta"}
    shapes = (batch, C, h, h), (batch, K, 2 * h, 2 * h), (C, K, 4, 4)
    small, big, weight = (torch.empty(s, **like, memory_format=torch.channels_last) for s in shapes)
    return (
        lambda: deconv.up(small, weight, torch.empty(K, **like), 2 * h, 2 * h, 3, 0.2),
        lambda: deconv.down(big, weight, torch.empty(C, **like), 2, 0.2),
        lambda: deconv.weight(small, big),
    )


def products(layer, dtype, capability, batch=64):
    """Return the compiled kernels of a layer that multiply.

    All of them fit into any GPU's shared memory.
    """
    kernels = [k for launch in launches(layer, dtype, batch) for k in compile_launches(launch, capability)]
    assert all(k.metadata.shared <= 99 * 1024 for k in kernels)
    found = [k for k in kernels if k.metadata.name != "_sum_parts_kernel"]
    assert len(found) == 3
    return found


# Both forms of each kernel on every chip; on one also the smaller tiles of a layer of few pixels.
@pytest.mark.parametrize(("capability", "layer"), [*itertools.product(CAPABILITIES, DCGAN[2:]), (90, DCGAN[0])])
def test_bfloat16_uses_the_matrix_instructions_of_the_chip_and_wide_copies(capability, layer):
    instruction = {80: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma"}[capability]
    for kernel in products(layer, torch.bfloat16, capability):
        assert instruction in kernel.asm["ptx"], kernel.metadata.name
        assert kernel.asm["cubin"]
        # 16 bytes at a time wherever 16 bytes are contiguous; in an image of three channels they
        # are not.
        wide = re.search(r"cp\.async\.cg\.shared\.global [^;]*, 0x10|ld\.global\.v4\.b32", kernel.asm["ptx"])
        assert wide or (layer[1] == 3 and kernel.metadata.name == "_down_kernel"), kernel.metadata.name


@pytest.fixture
def fp32_precision():
    """Return a function that sets it, for products and convolutions, until the test ends."""
    settings = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [setting.fp32_precision for setting in settings]

    def set_all(*values):
        for setting, value in zip(settings, values, strict=True):
            setting.fp32_precision = value

    yield lambda value: set_all(value, value)
    set_all(*before)


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_float32_is_exact_or_tf32_as_torch_says(precision, fp32_precision):
    fp32_precision(precision)
    for kernel in products(DCGAN[3], torch.float32, 90):
        assert ("tf32" in kernel.asm["ptx"]) == (precision == "tf32"), kernel.metadata.name
        assert ("wgmma.mma_async" in kernel.asm["ptx"]) == (precision == "tf32"), kernel.metadata.name


def test_float16_and_odd_sizes_compile():
    for kernel in products((17, 5, 3), torch.float16, 80):
        assert "mma.sync" in kernel.asm["ptx"], kernel.metadata.name
        assert not re.search(r"arith\.muli .*xi64>", kernel.asm["ttir"]), "64-bit offsets, and this picture is small"


def test_offsets_of_large_tensors_take_64_bits():
    for kernel in products((17, 5, 3), torch.bfloat16, 90, batch=2**24):  # 2.5e9 numbers in the small image
        assert re.search(r"arith\.muli .*xi64>", kernel.asm["ttir"]), kernel.metadata.name


@pytest.mark.gpu
@pytest.mark.parametrize("check", [check_up, check_down, check_weight])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [*SIZES, *DCGAN])
def test_on_a_gpu(size, dtype, check, fp32_precision):
    fp32_precision("ieee")
    sizes = SIZES[size] if size in SIZES else (16, *size, size[-1], 0, 0)
    check(sizes, dtype, device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("act", range(4))
def test_activations_on_a_gpu(act):
    check_up(SIZES["narrow"], torch.bfloat16, act, True, "cuda")
    check_up(SIZES["wide"], torch.bfloat16, act, True, "cuda")
    check_down(SIZES["wide"], torch.bfloat16, act, True, "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("layer", DCGAN[2:])
def test_capture_in_a_cuda_graph(layer):
    small, big, weight = small_big_weight((64, *layer, layer[-1], 0, 0), torch.bfloat16, "cuda")

    def step():
        return (
            deconv.up(small, weight, None, *big.shape[2:], 3, 0.0),
            deconv.down(big, weight, None, 2, 0.2),
            deconv.weight(small, big),
        )

    step()  # compiles and loads the kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    small.neg_()
    big.mul_(2)
    graph.replay()
    for ours, expected in zip(captured, step(), strict=True):
        assert torch.equal(ours, expected)
