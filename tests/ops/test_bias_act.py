import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from checking import assert_close_to_truth, check_gradients
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan.errors import UserError
from fastgan.ops.bias_act import ACTIVATIONS, bias_act, bias_act_reference
from fastgan.ops.dispatch import registry, self_checks

NAN, INF = math.nan, math.inf
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.fixture
def choose(monkeypatch):
    """Set FASTGAN_OPS for one test."""
    return lambda value: monkeypatch.setenv("FASTGAN_OPS", value)


@pytest.fixture(params=["reference", "native"])
def implementation(request, choose):
    """Run a test with both implementations behind the public function."""
    if request.param == "reference":
        choose("reference")
    elif registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))


@pytest.fixture
def native():
    if registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    return torch.ops.fastgan


class OpsCalled(TorchDispatchMode):
    """Records the names of the operators that run inside."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def truth(x, bias, dim, act, slope, gain, clamp):
    """Compute the definition, element by element in float64, sharing no code with the package."""
    v = x.detach().double()
    if bias is not None:
        v = v.movedim(dim, -1).add(bias.detach().double()).movedim(-1, dim)
    negative = {"linear": v, "relu": torch.zeros_like(v), "leaky_relu": slope * v}[act]
    y = gain * torch.where(v > 0, v, negative)
    return y if clamp is None else torch.minimum(torch.maximum(y, torch.tensor(-clamp)), torch.tensor(clamp)).double()


def memory_order(x):
    """Return the strides that have a meaning.

    They are those of dimensions with more than one element, if there is an element at all.
    """
    return [stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1 and x.numel()]


def test_values_worked_out_by_hand(implementation):
    x = torch.tensor([[-2.0, -0.5], [0.0, 3.0]])
    bias = torch.tensor([1.0, -1.0])
    assert bias_act(x, bias).tolist() == [[-1.0, -1.5], [1.0, 2.0]]
    assert bias_act(x, bias, dim=0).tolist() == [[-1.0, 0.5], [-1.0, 2.0]]
    assert bias_act(x, bias, act="relu", gain=3).tolist() == [[0.0, 0.0], [3.0, 6.0]]
    assert bias_act(x, act="leaky_relu", slope=0.5).tolist() == [[-1.0, -0.25], [0.0, 3.0]]
    assert bias_act(x, bias, act="leaky_relu", slope=0.5, gain=2, clamp=1.25).tolist() == [[-1.0, -1.25], [1.25, 1.25]]


def test_infinity_and_nan_come_through(implementation):
    x = torch.tensor([-INF, INF, NAN])
    assert bias_act(x, dim=0, act="relu")[:2].tolist() == [0.0, INF]
    assert bias_act(x, dim=0, act="leaky_relu")[:2].tolist() == [-INF, INF]
    assert bias_act(x, dim=0, act="leaky_relu", clamp=4.0)[:2].tolist() == [-4.0, 4.0]
    assert all(bias_act(x, dim=0, act=act, clamp=4.0)[2].isnan() for act in ACTIVATIONS)


@given(
    shape=st.lists(st.sampled_from([0, 1, 2, 3, 5, 8, 17]), min_size=1, max_size=5),
    axis=st.integers(-5, 4),
    layout=st.sampled_from(sorted(LAYOUTS)),
    act=st.sampled_from(ACTIVATIONS),
    slope=st.sampled_from([0.0, 0.01, 0.2, 1.5]),
    gain=st.sampled_from([1.0, math.sqrt(2), 0.3]),
    clamp=st.sampled_from([None, 0.7]),
    with_bias=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shape_layout_and_activation(implementation, shape, axis, layout, act, slope, gain, clamp, with_bias, seed):
    dim = max(-len(shape), min(axis, len(shape) - 1))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    if len(shape) == 4:
        x = x.to(memory_format=LAYOUTS[layout])
    bias = torch.randn(shape[dim], generator=generator) if with_bias else None
    rest = (dim, act, slope, gain, clamp)
    y = bias_act(x, bias, *rest)
    assert memory_order(y) == memory_order(x)
    assert_close_to_truth(y, bias_act_reference(x, bias, *rest), truth(x, bias, *rest))


def test_a_tensor_larger_than_one_thread_takes(implementation):
    for layout in LAYOUTS.values():
        x = torch.randn(3, 33, 41, 43).to(memory_format=layout)  # no size divides another, and none a power of two
        bias = torch.randn(33)
        expected = truth(x, bias, 1, "leaky_relu", 0.2, 1.5, None)
        assert_close_to_truth(bias_act(x, bias, act="leaky_relu", gain=1.5), expected.float(), expected)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_gradients_of_both_orders(implementation, act, layout):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 3, 2, generator=generator).to(memory_format=layout)
    bias = torch.randn(3, generator=generator)
    check_gradients(lambda x, bias: bias_act(x, bias, act=act, gain=1.3, clamp=1.0), (x, bias))
    # Quadratic above it, so that the second derivative is not zero everywhere.
    check_gradients(lambda x: bias_act(x, dim=2, act=act, slope=0.3).square().sum(), (x,))


def test_a_gradient_penalty_equals_the_reference(implementation):
    x, weight = torch.randn(4, 6, 5, 5, requires_grad=True), torch.randn(6, 6, 3, 3, requires_grad=True)
    bias = torch.randn(6, requires_grad=True)

    def penalty_gradients(function):
        logits = function(torch.nn.functional.conv2d(x, weight), bias, act="leaky_relu").tanh().sum()
        (grad,) = torch.autograd.grad(logits, x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), (weight, bias))

    for ours, reference in zip(penalty_gradients(bias_act), penalty_gradients(bias_act_reference), strict=True):
        torch.testing.assert_close(ours, reference)


def test_a_bias_of_another_dtype_is_cast_to_that_of_x(implementation):
    x, bias = torch.randn(2, 3, dtype=torch.float64), torch.randn(3, requires_grad=True)
    y = bias_act(x, bias)
    assert y.dtype == torch.float64
    assert torch.autograd.grad(y.sum(), bias)[0].dtype == torch.float32


def test_native_kernels_run_where_they_fit_and_only_there(native):
    dense, bias = torch.randn(2, 3, 4, 4), torch.randn(3)
    fits = [(dense, bias), (dense, None), (dense.to(memory_format=torch.channels_last), bias), (dense.double(), bias)]
    does_not_fit = [
        (dense[..., ::2], bias),
        (dense.bfloat16(), bias),
        (dense.transpose(2, 3), bias),
        (dense, torch.randn(6)[::2]),
    ]
    for cases, expected in ((fits, True), (does_not_fit, False)):
        for x, b in cases:
            with OpsCalled() as called:
                bias_act(x, b)
            assert ("fastgan::bias_act" in called.names) == expected


def test_turned_off_by_the_environment(choose):
    choose("reference")
    with OpsCalled() as called:
        bias_act(torch.randn(2, 3))
    assert "fastgan::bias_act" not in called.names
    assert {row.reason for row in self_checks.status() if row.implementation != "reference"} == {
        "turned off by FASTGAN_OPS=reference"
    }


def test_an_unknown_value_in_the_environment_is_named(choose):
    choose("natvie")
    with pytest.raises(UserError, match="FASTGAN_OPS='natvie'"):
        bias_act(torch.randn(2, 3))


# torch 2.15's own check reads .grad of tensors that are not leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_torch_registers_them_correctly(native):
    x = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    torch.library.opcheck(native.bias_act, (x, torch.randn(3, requires_grad=True), 1, 0.2, 1.4, 1.0))
    torch.library.opcheck(native.bias_act, (x, None, 0, 0.2, 1.4, INF))
    torch.library.opcheck(native.bias_act_backward, (x, x.detach().clone(), 0.2, 1.4, 1.0))


def test_native_kernels_refuse_what_would_read_outside_memory(native):
    x, bias = torch.randn(2, 3, 4, 4), torch.randn(3)
    wrong_bias = [(x, bias[:2], 1), (x, torch.randn(6)[::2], 1), (x, bias.double(), 1)]
    wrong_dim_or_layout = [(x, None, 4), (x, None, -1), (x[..., ::2], None, 1)]
    for wrong in wrong_bias + wrong_dim_or_layout:
        with pytest.raises(RuntimeError, match="bias_act"):
            native.bias_act(*wrong, 0.2, 1.0, INF)
    for wrong_dy in (x[:1], x.double(), x.to(memory_format=torch.channels_last)):
        with pytest.raises(RuntimeError, match="bias_act_backward"):
            native.bias_act_backward(wrong_dy, x, 0.2, 1.0, INF)


def value_and_gradients(function, x, bias):
    y = function(x, bias)
    return y, *torch.autograd.grad(y.square().sum(), (x, bias))


def check_compiled(backend):
    x, bias = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(3, requires_grad=True)

    def public(x, bias):
        return bias_act(x, bias, act="leaky_relu", gain=1.4, clamp=2.0)

    def operator(x, bias):
        return torch.ops.fastgan.bias_act(x, bias, 1, 0.2, 1.4, 2.0)

    for function in [public] + [operator] * (registry.native_problem("cpu") is None):
        compiled = torch.compile(function, fullgraph=True, backend=backend)
        for ours, eager in zip(
            value_and_gradients(compiled, x, bias), value_and_gradients(public, x, bias), strict=True
        ):
            torch.testing.assert_close(ours, eager)


def test_compiled_in_one_graph():
    check_compiled("aot_eager")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="the compiler of torch needs g++")
def test_compiled_by_inductor():
    check_compiled("inductor")


def test_function_transforms_and_forward_mode_get_the_right_derivatives():
    # A registered operator raises in the first, and returns no derivative in the second and third.
    x, tangent = torch.randn(2, 3), torch.randn(2, 3)
    expected = torch.where(x > 0, 1.0, 0.2)
    torch.testing.assert_close(torch.func.grad(lambda x: bias_act(x, act="leaky_relu").sum())(x), expected)
    torch.testing.assert_close(
        torch.func.jvp(lambda x: bias_act(x, act="leaky_relu"), (x,), (tangent,))[1], expected * tangent
    )
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        y = torch.autograd.forward_ad.unpack_dual(bias_act(dual, act="leaky_relu"))
    torch.testing.assert_close(y.tangent, expected * tangent)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"x": torch.zeros(2, 3, dtype=torch.int64)}, "floating point"),
        ({"x": torch.zeros(())}, "0 dimensions"),
        ({"dim": 2}, "dim is 2"),
        ({"bias": torch.zeros(2)}, r"shape \[3\]"),
        ({"act": "gelu"}, "gelu"),
        ({"slope": -0.1}, "slope"),
        ({"gain": 0.0}, "gain"),
        ({"clamp": 0.0}, "clamp"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(UserError, match=named):
        bias_act(**{"x": torch.zeros(2, 3), **arguments})


@pytest.fixture
def fresh_library(monkeypatch, tmp_path):
    """Unload the library, and return the path of one that a test may write."""
    path = tmp_path / "libfastgan_ops.so"
    monkeypatch.setattr(registry, "library_path", lambda: path)
    monkeypatch.setattr(registry, "_load", registry._load.__wrapped__)
    return path


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "was not built"), (b"not a library", "does not load beside torch")]
)
def test_a_library_that_is_missing_or_broken_is_a_reason_and_no_error(fresh_library, content, reason):
    if content:
        fresh_library.write_bytes(content)
    rows = {row.implementation: row for row in self_checks.status()}
    assert rows["reference"].available
    assert not rows["cpu"].available
    assert reason in rows["cpu"].reason
    assert "cmake -S . -B build" in rows["cpu"].reason
    assert bias_act(torch.tensor([[-1.0, 2.0]]), act="relu").tolist() == [[0.0, 2.0]]


def test_a_library_that_is_older_than_the_code_is_a_reason_and_no_error(monkeypatch, fresh_library):
    def lacks_an_operator():
        raise RuntimeError("operator fastgan::bias_act_3 does not exist\nmore")

    monkeypatch.setattr("fastgan.ops.bias_act.register_in_torch", lacks_an_operator)
    monkeypatch.setattr(registry, "NATIVE", ("bias_act",))
    monkeypatch.setattr(registry.ctypes, "CDLL", lambda path: SimpleNamespace(fastgan_register=lambda: 0))
    fresh_library.touch()
    library, problem = registry._load()
    assert library is None
    assert "is older than this code (operator fastgan::bias_act_3 does not exist): " in problem


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "offset"),
    [((2, 3, 5, 7), 0), ((2, 3, 5, 7), 1), ((4, 8, 16, 16), 0), ((3, 33, 41, 43), 0), ((5, 17, 1, 1), 0)],
)
def test_cuda_kernels(dtype, layout, shape, offset):
    if registry.native_problem("cuda"):
        pytest.skip(registry.native_problem("cuda"))
    values = torch.randn(math.prod(shape) + offset, device="cuda").to(dtype)
    # With an offset of one, not aligned to 16 bytes.
    x = values[offset:].view(shape).to(memory_format=layout).requires_grad_()
    bias = torch.randn(shape[1], device="cuda").to(dtype).requires_grad_()
    rest = (1, "leaky_relu", 0.2, math.sqrt(2), 2.0 if dtype == torch.float32 else None)
    with OpsCalled() as called:
        ours = bias_act(x, bias, *rest)
    assert "fastgan::bias_act" in called.names
    reference, exact = bias_act_reference(x, bias, *rest), bias_act_reference(x.double(), bias.double(), *rest)
    assert_close_to_truth(ours, reference, exact)
    dy = torch.randn_like(ours)
    gradients = [torch.autograd.grad(y, (x, bias), dy.to(y.dtype)) for y in (ours, reference, exact)]
    for our_gradient, reference_gradient, exact_gradient in zip(*gradients, strict=True):
        assert_close_to_truth(our_gradient, reference_gradient, exact_gradient.double())
