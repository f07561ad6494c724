"""Resampling with a filter against its definition, by both implementations."""
import numpy as np
import pytest
import torch
from checking import assert_close_to_truth, check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.errors import UserError
from fastgan.ops import upfirdn2d as module
from fastgan.ops.upfirdn2d import BILINEAR, downsample2d, filter2d, upfirdn2d, upfirdn2d_reference, upsample2d

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
every_format = pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS)
LONG = tuple(np.random.default_rng(0).standard_normal(12).tolist())
FILTERS = {
    "one tap": (2.0,),
    "bilinear": BILINEAR,
    "odd": (1.0, -2.0, 0.5),
    "long": LONG,
    "a hole": (1.0, 0.0, 0.0, 0.0, 3.0),
    "rows": ((1.0, 2.0, -1.0), (0.5, 0.0, 4.0)),
    "a column": ((1.0,), (2.0,), (5.0,)),
}


def truth(x, taps, up, down, padding, gain) -> torch.Tensor:
    """Compute the definition in float64."""
    f = np.array(taps, dtype=np.float64)
    f = np.outer(f, f) if f.ndim == 1 else f
    left, right, top, bottom = padding
    N, C, H, W = x.shape
    big = np.zeros((N, C, H * up + 200, W * up + 200))
    big[:, :, 100 : 100 + H * up : up, 100 : 100 + W * up : up] = x.detach().double().numpy()
    big = big[:, :, 100 - top : 100 + H * up + bottom, 100 - left : 100 + W * up + right]
    windows = np.lib.stride_tricks.sliding_window_view(big, f.shape, axis=(2, 3))
    return torch.from_numpy(gain * np.einsum("ncyxij,ij->ncyx", windows, f[::-1, ::-1])[:, :, ::down, ::down].copy())


def both_ways(x, *arguments):
    """Return (name, result) of each implementation, without the choice between them."""
    resampling = module._checked(x, *arguments)
    yield "convolution", module._resample(x, resampling, False)
    yield "sums", module._resample(x, resampling, True)


@given(
    shape=st.tuples(st.sampled_from([1, 2]), st.sampled_from([1, 3, 5]), st.integers(1, 9), st.integers(1, 9)),
    taps=st.sampled_from(sorted(FILTERS)),
    up=st.integers(1, 4),
    down=st.integers(1, 4),
    padding=st.tuples(*[st.integers(-2, 14)] * 4),
    memory_format=st.sampled_from(sorted(FORMATS)),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_filter_padding_and_size(shape, taps, up, down, padding, memory_format):
    arguments = (FILTERS[taps], up, down, padding, 1.5)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(memory_format=FORMATS[memory_format])
    try:
        reference = upfirdn2d_reference(x, *arguments)
    except UserError:  # nothing would be left
        height, width = np.atleast_2d(FILTERS[taps]).shape if taps in ("rows", "a column") else [len(FILTERS[taps])] * 2
        assert shape[2] * up + sum(padding[2:]) < height or shape[3] * up + sum(padding[:2]) < width
        return
    expected = truth(x, *arguments)
    for way, y in both_ways(x, *arguments):
        assert_close_to_truth(y, reference, expected, atol=1e-6 * max(1.0, expected.abs().max().item()))
        assert y.is_contiguous(memory_format=FORMATS[memory_format]), way
    torch.testing.assert_close(upfirdn2d(x, *arguments), expected.float(), rtol=1e-4, atol=1e-4)


def test_values_worked_out_by_hand():
    x = torch.tensor([[[[1.0, 2.0]]]])
    # A convolution: taps meet from the last.
    assert upfirdn2d(x, ((1.0, 10.0),), padding=(1, 1, 0, 0)).tolist() == [[[[1.0, 12.0, 20.0]]]]
    assert upfirdn2d(x, (1.0,), up=2).tolist() == [[[[1.0, 0.0, 2.0, 0.0], [0.0] * 4]]]
    assert upfirdn2d(x, (1.0,), down=2, gain=3).tolist() == [[[[3.0]]]]
    assert upfirdn2d(x, (1.0,), padding=(-1, 1, 0, 0)).tolist() == [[[[2.0, 0.0]]]]


@pytest.mark.parametrize("taps", ["bilinear", "rows"])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_gradients_of_both_orders_by_both_ways(taps, up, down):
    x = torch.randn(1, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    arguments = (FILTERS[taps], up, down, (2, 1, 2, 3), 0.7)
    resampling = module._checked(x, *arguments)
    for summed in (False, True):
        check_gradients(lambda x, summed=summed: module._resample(x, resampling, summed).square(), (x,))


@pytest.mark.parametrize("padding", [(2, 1, 2, 1), (-1, 3, 0, 2), (0, 0, 5, -2)])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 3)])
def test_the_adjoint_of_the_adjoint_is_the_map(up, down, padding):
    """<A x, y> = <x, A* y>, with A* known to the last border pixel, and A** = A."""
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    resampling = module._checked(x, (1.0, 2.0, 4.0), up, down, padding, 1.0)
    y = module._by_sums(x, resampling)
    adjoint, other = resampling.adjoint(7, 6), torch.randn_like(y)
    assert (y * other).sum().item() == pytest.approx((x * module._by_sums(other, adjoint)).sum().item(), rel=1e-12)
    torch.testing.assert_close(module._by_sums(x, adjoint.adjoint(*y.shape[2:])), y)


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 3)])
def test_helpers_keep_a_constant_and_their_sizes(size):
    x = torch.ones(2, 3, *size)
    up, same = upsample2d(x), filter2d(x)
    assert up.shape[2:] == (2 * size[0], 2 * size[1])
    assert same.shape == x.shape
    for y in (up, same) if min(size) > 4 else ():
        torch.testing.assert_close(y[:, :, 2:-2, 2:-2], torch.ones_like(y[:, :, 2:-2, 2:-2]))
    if min(size) > 1:
        down = downsample2d(x)
        assert down.shape[2:] == (size[0] // 2, size[1] // 2)
        torch.testing.assert_close(down[:, :, 1:-1, 1:-1], torch.ones_like(down[:, :, 1:-1, 1:-1]))


def test_doubling_is_bilinear_and_halving_its_transpose():
    x = torch.randn(2, 3, 6, 5)
    bilinear = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(upsample2d(x)[:, :, 1:-1, 1:-1], bilinear[:, :, 1:-1, 1:-1])  # theirs repeats the border
    y = torch.randn(2, 3, 12, 10)
    assert (upsample2d(x) * y).sum().item() == pytest.approx(4 * (x * downsample2d(y)).sum().item(), rel=1e-4, abs=1e-3)


def test_a_filter_of_odd_length_is_centred():
    x = torch.zeros(1, 1, 7, 7)
    x[0, 0, 3, 3] = 1
    y = filter2d(x, (1.0, 2.0, 1.0))
    torch.testing.assert_close(y, y.flip(2, 3))
    assert y[0, 0, 3, 3] == 0.25


@every_format
def test_reduced_precision_is_that_of_x_under_autocast_too(memory_format):
    x = torch.randn(2, 3, 8, 6).to(memory_format=memory_format)
    expected = truth(x, BILINEAR, 1, 2, (1,) * 4, 1 / 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert downsample2d(x).dtype == torch.float32
        torch.testing.assert_close(downsample2d(x).double(), expected, rtol=1e-6, atol=1e-6)
        half = downsample2d(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert half.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(half.double(), expected, rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize("way", ["_by_convolution", "_by_sums"])
@every_format
def test_a_compiled_step_differentiates_twice(memory_format, way, monkeypatch):
    """One graph: values, first and second derivatives are those of eager code.

    This holds for the implementations of the CPU and of a GPU.
    """
    torch._dynamo.config.trace_autograd_ops = True
    x = torch.randn(2, 3, 6, 5).to(memory_format=memory_format).requires_grad_()

    def step(x, grad_probe):
        y = downsample2d(upsample2d(x + grad_probe, LONG).tanh())
        (slope,) = torch.autograd.grad(y.square().sum(), grad_probe, create_graph=True)
        return y.detach(), *torch.autograd.grad(slope.square().sum(), x)

    graphs = []

    def backend(graph, inputs):
        from torch._dynamo.backends.debugging import aot_eager

        graphs.append(graph)
        return aot_eager(graph, inputs)

    grad_probe = torch.zeros_like(x).requires_grad_()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_by_convolution", getattr(module, way))
        compiled = torch.compile(step, backend=backend, fullgraph=True, dynamic=False)(x, grad_probe)
    for ours, expected in zip(compiled, step(x, grad_probe), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert len(graphs) == 1


def test_forward_derivatives_and_vmap_pass_through():
    x, tangent = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)
    y, slope = torch.func.jvp(upsample2d, (x,), (tangent,))
    torch.testing.assert_close(slope, upsample2d(tangent))
    assert y.shape == (1, 2, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((torch.zeros(2, 3, 4), BILINEAR), "N, C, H, W"),
        ((torch.zeros(1, 1, 4, 4, dtype=torch.int64), BILINEAR), "floating"),
        ((torch.zeros(1, 1, 4, 4), ()), "taps"),
        ((torch.zeros(1, 1, 4, 4), ((1.0, 2.0), (1.0,))), "rows"),
        ((torch.zeros(1, 1, 4, 4), BILINEAR, 0), "up and down"),
        ((torch.zeros(1, 1, 4, 4), BILINEAR, 1, 0), "up and down"),
        ((torch.zeros(1, 1, 4, 4), BILINEAR, 1, 1, (1, 1)), "padding"),
        ((torch.zeros(1, 1, 3, 4), BILINEAR), "smaller"),
    ],
)
def test_what_is_refused(arguments, word):
    with pytest.raises(UserError, match=word):
        upfirdn2d(*arguments)
