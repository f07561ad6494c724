"""Deconvolutions with the statistics of their result: references anywhere, kernels on a GPU.

tests/ops/deconv/test_index.py runs the kernels' source without a GPU.
"""

import pytest
import torch
import torch.nn.functional as F
from checking import assert_close_to_truth

from fastgan.errors import UserError
from fastgan.ops.deconv import implementations, stats
from fastgan.ops.deconv.stats import Norm, down_with_stats, up_with_stats
from fastgan.ops.dispatch import autotune, registry

FORMATS = [torch.contiguous_format, torch.channels_last]
# Batch, small channels, big channels, h, w, H - 2h, W - 2w, parts.
SHAPES = [(6, 16, 24, 3, 5, 1, 0, 2), (4, 8, 8, 4, 4, 0, 0, 1), (3, 40, 8, 1, 2, 0, 1, 3)]
DCGAN = [(128, 512, 256, 4, 4, 0, 0, 1), (128, 256, 128, 8, 8, 0, 0, 2), (128, 128, 64, 16, 16, 0, 0, 2)]


def problem(shape, dtype=torch.float32, device="cpu", memory_format=torch.channels_last):
    """Return (small, big, weight, parts)."""
    batch, C, K, h, w, odd_h, odd_w, parts = shape
    random = torch.Generator().manual_seed(0)
    sizes = (batch, C, h, w), (batch, K, 2 * h + odd_h, 2 * w + odd_w), (C, K, 4, 4)
    return *(
        torch.randn(size, generator=random).to(device, dtype).to(memory_format=memory_format) for size in sizes
    ), parts


def running(channels, like, momentum=0.3):
    dtype = torch.promote_types(like.dtype, torch.float32)
    return Norm(1e-3, momentum, *(torch.linspace(0, 2, channels, dtype=dtype, device=like.device) for _ in range(2)))


def calls(shape, dtype=torch.float32, device="cpu", memory_format=torch.channels_last):
    """Return the calls to compare, one for each direction.

    Each is: ours (x, weight, norm) -> image, mean, rstd; torch's layer; arguments; channels; parts.
    """
    small, big, weight, parts = problem(shape, dtype, device, memory_format)
    size = tuple(big.shape[2:])
    odd = [length % 2 for length in size]
    up = (
        (lambda x, w, norm: up_with_stats(x, w, size, parts, norm)),
        (lambda x, w: F.conv_transpose2d(x, w, None, 2, 1, odd)),
        (small, weight),
    )
    down = (
        (lambda x, w, norm: down_with_stats(x, w, parts, norm)),
        (lambda x, w: F.conv2d(x, w, None, 2, 1)),
        (big, weight),
    )
    return {"up": (*up, weight.shape[1], parts), "down": (*down, weight.shape[0], parts)}


def expected_of(image, parts, norm):
    """Return mean and rstd [parts, C] of an image, and the expected running statistics.

    The latter are those of torch's BatchNorm after each part.
    """
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    for part in image.chunk(parts):
        F.batch_norm(part.to(mean.dtype), mean, var, None, None, True, norm.momentum, norm.eps)
    each = [part.to(mean.dtype).transpose(0, 1).flatten(1) for part in image.chunk(parts)]
    rstd = torch.stack([(part.var(1, correction=0) + norm.eps).rsqrt() for part in each])
    return torch.stack([part.mean(1) for part in each]), rstd, mean, var


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_image_is_the_layer_s_and_the_statistics_are_those_of_batch_norm(shape, dtype, memory_format, direction):
    ours, layer, arguments, channels, parts = calls(shape, dtype, memory_format=memory_format)[direction]
    norm, before = running(channels, arguments[0]), running(channels, arguments[0])
    image, mean, rstd = ours(*arguments, norm)
    torch.testing.assert_close(image, layer(*arguments), rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)
    for found, wanted in zip(
        (mean, rstd, norm.running_mean, norm.running_var), expected_of(image, parts, before), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert mean.dtype == rstd.dtype == torch.promote_types(dtype, torch.float32)
    assert mean.shape == rstd.shape == (parts, channels)
    assert not mean.requires_grad


def test_without_running_statistics_nothing_is_moved():
    small, big, weight, parts = problem(SHAPES[0])
    again, plain = Norm(), Norm()
    first, second = (up_with_stats(small, weight, tuple(big.shape[2:]), parts, norm) for norm in (again, plain))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_both_orders(shape, direction):
    ours, layer, arguments, _, _ = calls(shape, torch.float64)[direction]
    leaves = [tensor.requires_grad_() for tensor in arguments]

    def gradients(function):
        image = function(*leaves)
        dimage = torch.cos(torch.arange(image.numel(), dtype=image.dtype).view_as(image)).requires_grad_()
        first = torch.autograd.grad((image * dimage).sin().sum(), leaves, create_graph=True)
        return *first, *torch.autograd.grad(sum(each.square().sum() for each in first), (*leaves, dimage))

    for found, wanted in zip(gradients(lambda *x: ours(*x, Norm())[0]), gradients(layer), strict=True):
        torch.testing.assert_close(found, wanted)


def test_transforms_of_torch_func():
    small, big, weight, parts = problem(SHAPES[0], torch.float64)
    size = tuple(big.shape[2:])
    _, tangent = torch.func.jvp(lambda x: up_with_stats(x, weight, size, parts)[0], (small,), (torch.ones_like(small),))
    torch.testing.assert_close(
        tangent, implementations.up_reference(torch.ones_like(small), weight, None, size, "linear", 0.0)
    )


def test_what_is_refused():
    small, big, weight, _ = problem(SHAPES[0])
    size = tuple(big.shape[2:])
    with pytest.raises(UserError, match="6 images cannot be cut into 4 equal parts"):
        up_with_stats(small, weight, size, 4)
    with pytest.raises(UserError, match="0 images cannot"):
        down_with_stats(big[:0], weight, 1)
    with pytest.raises(UserError, match="one value a channel and part"):
        down_with_stats(big[:2, :, :2, :2], weight, 2)
    with pytest.raises(UserError, match="of one floating point dtype"):
        up_with_stats(small, weight.double(), size)
    with pytest.raises(UserError, match="as many channels"):
        up_with_stats(big, weight, size)


def test_only_cuda_has_a_form_of_its_own():
    small, big, weight, parts = problem(SHAPES[0], torch.bfloat16)
    assert set(stats.up_forms(small, weight, tuple(big.shape[2:]), parts, Norm())) == {"reference"}
    assert set(stats.down_forms(big, weight, parts, Norm())) == {"reference"}


def test_the_check_on_first_use_finds_what_is_wrong(monkeypatch):
    cpu = torch.device("cpu")
    assert stats.self_check("reference", cpu) is None
    right = stats.down_forms

    def off(*arguments):
        image, mean, rstd = right(*arguments)["reference"]()
        return {"cuda": lambda: (image, mean, 1.001 * rstd)}

    monkeypatch.setattr(stats, "down_forms", off)
    monkeypatch.setattr(stats, "up_forms", lambda *arguments: {"cuda": up_reference(*arguments)})
    assert stats.self_check("cuda", cpu).startswith("the rstd of down in torch.float16 is off by ")


def up_reference(small, weight, size, parts, norm):
    image = implementations.up_reference(small, weight, None, size, "linear", 0.0)
    return lambda: (image, *stats.statistics(image, parts, norm))


@pytest.fixture
def native():
    if registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    return torch.ops.fastgan


@pytest.mark.parametrize("shape", [*SHAPES, *DCGAN])
def test_shapes_are_known_without_values(native, shape):
    small, big, weight, parts = (
        tensor.to("meta") if isinstance(tensor, torch.Tensor) else tensor for tensor in problem(shape, torch.bfloat16)
    )
    batch, _, _, h, w = shape[:5]
    H, W = big.shape[2:]
    up, partial = native.deconv_up_stats(small, weight, H, W, parts)
    assert (up.shape, up.dtype, up.stride()) == (big.shape, torch.bfloat16, big.stride())
    blocks = 4 * -(-(batch // parts * ((H + 1) // 2) * ((W + 1) // 2)) // 64)
    assert (partial.shape, partial.dtype) == ((parts, blocks, big.shape[1], 2), torch.float32)
    down, of_down = native.deconv_down_stats(big, weight, parts)
    assert (down.shape, down.stride()) == (small.shape, small.stride())
    assert of_down.shape == (parts, -(-(batch // parts * h * w) // 64), small.shape[1], 2)
    mean, rstd = native.batch_stats_finish(partial, None, None, batch // parts, H, W, 4, 0.1, 1e-5)
    assert (mean.shape, rstd.shape, mean.dtype) == ((parts, big.shape[1]),) * 2 + (torch.float32,)


# --- on a GPU -------------------------------------------------------------------------------------


@pytest.fixture
def on_cuda():
    if registry.native_problem("cuda"):
        pytest.skip(registry.native_problem("cuda"))
    autotune.force({"deconv_stats": "cuda"})
    yield
    autotune.force({"deconv_stats": "auto"})


@pytest.mark.gpu
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [*SHAPES, *DCGAN])
def test_kernels(on_cuda, shape, dtype, direction):
    ours, layer, arguments, channels, parts = calls(shape, dtype, "cuda")[direction]
    norm, before = running(channels, arguments[0]), running(channels, arguments[0])
    image, *found = ours(*arguments, norm)
    assert_close_to_truth(image, layer(*arguments), layer(*(tensor.double() for tensor in arguments)))
    for each, wanted in zip(
        (*found, norm.running_mean, norm.running_var), expected_of(image.double(), parts, before), strict=True
    ):
        torch.testing.assert_close(each.double(), wanted.double(), rtol=2e-5, atol=2e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", DCGAN)
def test_the_same_bits_every_time_and_with_every_tile(on_cuda, shape):
    from fastgan.ops.dispatch import tiles

    ours, _, arguments, channels, _ = calls(shape, torch.bfloat16, "cuda")["up"]
    tiling = tiles.LibraryTiles(registry._load()[0], torch.cuda.get_device_properties().multi_processor_count)
    small, big, _, _ = problem(shape, torch.bfloat16, "cuda")
    kind, first = tiling.kind("up", small, big), ours(*arguments, Norm())
    try:
        for tile in ((128, 128, 1), (128, 64, 1), (64, 64, 1)):
            assert tiling.use(kind, tile) is None
            image, mean, rstd = ours(*arguments, Norm())
            assert torch.equal(image, first[0])
            torch.testing.assert_close((mean, rstd), first[1:], rtol=1e-6, atol=1e-6)
            assert all(torch.equal(x, y) for x, y in zip((image, mean, rstd), ours(*arguments, Norm()), strict=True))
    finally:
        tiling.forget()
        tiles.load(tiling)


@pytest.mark.gpu
@pytest.mark.parametrize("direction", ["up", "down"])
def test_captured_in_a_graph(on_cuda, direction):
    ours, _, arguments, channels, _ = calls(DCGAN[2], torch.bfloat16, "cuda")[direction]
    norm = running(channels, arguments[0])
    with torch.no_grad():
        ours(*arguments, norm)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = ours(*arguments, norm)
        arguments[0].neg_()
        start = norm.running_mean.clone()
        graph.replay()
        again = norm._replace(running_mean=start, running_var=norm.running_var.clone())
        expected = ours(*arguments, again)
    assert all(torch.equal(x, y) for x, y in zip(captured, expected, strict=True))
    assert torch.equal(norm.running_mean, again.running_mean)


@pytest.mark.gpu
def test_operators_as_torch_checks_them(on_cuda):
    small, big, weight, parts = problem(SHAPES[0], torch.bfloat16, "cuda")
    torch.library.opcheck(
        torch.ops.fastgan.deconv_up_stats,
        (small, weight, *big.shape[2:], parts),
        test_utils=("test_schema", "test_faketensor"),
    )
    torch.library.opcheck(
        torch.ops.fastgan.deconv_down_stats, (big, weight, parts), test_utils=("test_schema", "test_faketensor")
    )
    _, partial = torch.ops.fastgan.deconv_up_stats(small, weight, *big.shape[2:], parts)
    norm = running(weight.shape[1], small)
    arguments = (partial, norm.running_mean, norm.running_var, len(small) // parts, *big.shape[2:], 4, 0.1, 1e-5)
    torch.library.opcheck(
        torch.ops.fastgan.batch_stats_finish, arguments, test_utils=("test_schema", "test_faketensor")
    )


@pytest.mark.gpu
def test_what_would_read_outside_memory_is_refused(on_cuda):
    small, big, weight, parts = problem(SHAPES[0], torch.bfloat16, "cuda")
    native, size = torch.ops.fastgan, tuple(big.shape[2:])
    _, partial = native.deconv_up_stats(small, weight, *size, parts)
    channel = torch.zeros(weight.shape[1], device="cuda")
    wrong = [
        lambda: native.deconv_up_stats(small.float(), weight.float(), *size, parts),
        lambda: native.deconv_up_stats(small, weight, *size, 4),
        lambda: native.deconv_up_stats(small, weight, *size, 0),
        lambda: native.deconv_up_stats(small.contiguous(), weight, *size, parts),
        lambda: native.deconv_up_stats(small, weight, size[0] + 1, size[1], parts),
        lambda: native.deconv_down_stats(big[:, :16], weight, parts),
        lambda: native.batch_stats_finish(partial, None, None, 4, *size, 4, 0.1, 1e-5),
        lambda: native.batch_stats_finish(partial, None, None, 3, *size, 1, 0.1, 1e-5),
        lambda: native.batch_stats_finish(partial, channel, None, 3, *size, 4, 0.1, 1e-5),
        lambda: native.batch_stats_finish(partial, channel[1:], channel[1:], 3, *size, 4, 0.1, 1e-5),
        lambda: native.batch_stats_finish(partial, channel.double(), channel.double(), 3, *size, 4, 0.1, 1e-5),
    ]
    for call in wrong:
        with pytest.raises(RuntimeError, match="fastgan"):
            call()
