"""The CUDA kernels of the deconvolutions on a GPU.

tests/ops/deconv/test_index.py runs the same source without one.
"""
import pytest
import torch
from checking import assert_close_to_truth
from torch.nn import functional as F

from fastgan.ops.dispatch import registry, tiles

DTYPES = [torch.bfloat16, torch.float16, torch.float32]
ACTIVATIONS = ["linear", "relu", "leaky_relu", "tanh"]  # in the order of their numbers
SLOPE = 0.2
# Batch, small channels, big channels, small height and width, big height and width.
DCGAN = [
    (2, 512, 256, 4, 4, 8, 8),
    (2, 256, 128, 8, 8, 16, 16),
    (2, 128, 64, 16, 16, 32, 32),
    (2, 64, 3, 32, 32, 64, 64),
]
LARGE = [(64, 512, 256, 4, 4, 8, 8), (64, 128, 64, 16, 16, 32, 32), (128, 64, 3, 32, 32, 64, 64)]
ODD = [
    (1, 8, 8, 1, 1, 2, 3), (3, 24, 40, 5, 7, 11, 14), (2, 136, 72, 3, 2, 6, 5), (1, 1, 1, 1, 2, 3, 4),
    (5, 3, 5, 4, 1, 9, 2), (2, 40, 4, 5, 6, 11, 13), (3, 16, 1, 7, 5, 14, 10), (2, 48, 37, 3, 3, 7, 7),
    (33, 8, 3, 9, 9, 18, 18), (2, 65, 3, 4, 4, 8, 8),
]  # fmt: skip

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def native():
    if registry.native_problem("cuda"):
        pytest.skip(registry.native_problem("cuda"))


class Problem:
    """Tensors of one shape on the GPU, in channels_last memory, with the three ops on them."""

    def __init__(self, shape, dtype, device="cuda"):
        batch, small_channels, big_channels, h, w, height, width = shape
        generator = torch.Generator().manual_seed(sum(shape))

        def tensor(*sizes):
            values = torch.randn(sizes, generator=generator).to(device, dtype)
            return values.to(memory_format=torch.channels_last) if len(sizes) == 4 else values

        self.small, self.big = tensor(batch, small_channels, h, w), tensor(batch, big_channels, height, width)
        self.weight = tensor(small_channels, big_channels, 4, 4)
        self.small_bias, self.big_bias = tensor(small_channels), tensor(big_channels)

    def to(self, device, dtype):
        moved = object.__new__(Problem)
        moved.__dict__ = {name: value.to(device, dtype) for name, value in self.__dict__.items()}
        return moved

    def up(self, act=0, bias=True):
        return torch.ops.fastgan.deconv_up(
            self.small, self.weight, self.big_bias if bias else None, *self.big.shape[2:], act, SLOPE
        )

    def down(self, act=0, bias=True):
        return torch.ops.fastgan.deconv_down(self.big, self.weight, self.small_bias if bias else None, act, SLOPE)

    def weight_gradient(self):
        return torch.ops.fastgan.deconv_weight(self.small, self.big)

    def torch_up(self, act=0, bias=True):
        padding = [size % 2 for size in self.big.shape[2:]]
        return activate(
            F.conv_transpose2d(self.small, self.weight, self.big_bias if bias else None, 2, 1, padding), act
        )

    def torch_down(self, act=0, bias=True):
        return activate(F.conv2d(self.big, self.weight, self.small_bias if bias else None, 2, 1), act)

    def torch_weight_gradient(self):
        return torch.nn.grad.conv2d_weight(self.big, self.weight.shape, self.small, 2, 1)


def activate(x, act):
    return {"linear": x, "relu": x.relu(), "leaky_relu": F.leaky_relu(x, SLOPE), "tanh": x.tanh()}[ACTIVATIONS[act]]


def check(problem, op, *arguments):
    """Compare with torch in the same dtype, and in float64.

    In float32 torch's result is the CPU's: on the GPU it may be TF32.
    """
    ours = getattr(problem, op)(*arguments)
    reference = problem.to("cpu" if ours.dtype == torch.float32 else "cuda", ours.dtype)
    truth = problem.to("cpu", torch.float64)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert_close_to_truth(
        ours, getattr(reference, f"torch_{op}")(*arguments), getattr(truth, f"torch_{op}")(*arguments)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", DCGAN + ODD)
def test_values(shape, dtype):
    problem = Problem(shape, dtype)
    for op, arguments in (("up", (0, False)), ("down", (0, False)), ("weight_gradient", ())):
        check(problem, op, *arguments)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", range(4), ids=ACTIVATIONS)
@pytest.mark.parametrize("shape", [DCGAN[0], DCGAN[2], DCGAN[3], ODD[4]])
def test_bias_and_activation(shape, act, dtype):
    problem = Problem(shape, dtype)
    check(problem, "up", act)
    check(problem, "down", act)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*DCGAN, *ODD[:6]])
def test_every_tile(shape, dtype):
    problem = Problem(shape, dtype)
    tiling = tiles.LibraryTiles(registry._load()[0], torch.cuda.get_device_properties().multi_processor_count)
    try:
        for direction, op in (("up", "up"), ("down", "down"), ("weight", "weight_gradient")):
            kind = tiling.kind(direction, problem.small, problem.big)
            for tile in tiling.tiles(kind):
                assert tiling.use(kind, tile) is None
                check(problem, op)
    finally:
        tiling.forget()
        tiles.load(tiling)


@pytest.mark.parametrize("shape", LARGE)
def test_more_tiles_than_the_device_takes_at_once(shape):
    problem = Problem(shape, torch.bfloat16)
    check(problem, "up", 3)
    check(problem, "down", 2)
    check(problem, "weight_gradient")


@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_that_is_not_aligned_to_vectors(dtype):
    problem = Problem((2, 16, 8, 3, 3, 6, 6), dtype)
    for name in ("small", "big"):
        image = getattr(problem, name)
        shifted = torch.empty(image.numel() + 1, device="cuda", dtype=dtype)[1:].as_strided(image.shape, image.stride())
        setattr(problem, name, shifted.copy_(image))
    check(problem, "up")
    check(problem, "down")
    check(problem, "weight_gradient")


@pytest.mark.parametrize("shape", [DCGAN[0], DCGAN[3], LARGE[1]])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_same_bits_every_time(shape, dtype):
    problem = Problem(shape, dtype)
    for op in ("up", "down", "weight_gradient"):
        first = getattr(problem, op)()
        assert all(torch.equal(first, getattr(problem, op)()) for _ in range(5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [DCGAN[0], DCGAN[3], ODD[4]])
def test_captured_in_a_graph(shape, dtype):
    problem, other = Problem(shape, dtype), Problem((shape[0] + 1, *shape[1:]), dtype)

    def run(problem):
        return problem.up(3), problem.down(2), problem.weight_gradient()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run(problem)  # loads the kernels, which a capture must not
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run(problem)
    for name in ("small", "big", "weight"):
        getattr(problem, name).copy_(getattr(other, name)[: shape[0]] if name != "weight" else other.weight)
    for output in captured:
        output.fill_(torch.nan)
    graph.replay()
    for output, expected in zip(captured, run(problem), strict=True):
        assert torch.equal(output, expected)


def test_more_elements_than_32_bits_count():
    if torch.cuda.mem_get_info()[0] < 12 * 2**30:
        pytest.skip("needs 12 GiB of free GPU memory")
    big_shape = (33, 64, 1024, 1024)  # 2.2e9 elements
    small = torch.randn(33, 8, 512, 512, device="cuda", dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    weight = torch.randn(8, 64, 4, 4, device="cuda", dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    big = torch.ops.fastgan.deconv_up(small, weight, None, *big_shape[2:], 0, 0.0)
    assert big.shape == big_shape
    last = torch.ops.fastgan.deconv_up(small[-1:], weight, None, *big_shape[2:], 0, 0.0)
    assert torch.equal(big[-1:], last)
    assert torch.equal(
        torch.ops.fastgan.deconv_down(big, weight, None, 0, 0.0)[-1:],
        torch.ops.fastgan.deconv_down(last, weight, None, 0, 0.0),
    )


def test_what_the_kernels_do_not_take_is_named():
    with pytest.raises(RuntimeError, match="float32, float16 and bfloat16"):
        Problem(DCGAN[3], torch.float64).up()
