"""BatchNorm with its activation: the reference against torch's layer, and the kernels' form.

Torch operations stand in for the kernels' sums.
"""

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from checking import assert_close_to_truth, check_gradients
from torch._dynamo.backends.common import aot_autograd
from triton_tools import run_interpreted

from fastgan.errors import UserError
from fastgan.ops import batch_norm as op
from fastgan.ops.batch_norm import batch_norm
from fastgan.ops.dispatch import autotune

ACTIVATIONS = {"linear": lambda x: x, "relu": F.relu, "leaky_relu": lambda x: F.leaky_relu(x, 0.3)}
SHAPES = [(4, 3, 5, 2), (6, 5), (2, 1, 3, 3), (4, 2, 1, 1)]


def inputs(shape, dtype=torch.float32, channels_last=True):
    torch.manual_seed(0)
    x, weight, bias = 1 + 2 * torch.randn(shape), torch.randn(shape[1]), torch.randn(shape[1])
    if channels_last and len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    return [x.to(dtype).requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]


def running(channels, dtype=torch.float32):
    return torch.linspace(-1, 1, channels).to(dtype), torch.linspace(1, 2, channels).to(dtype)


def torch_layer(x, weight, bias, mean, var, act, parts=1):
    each = [F.batch_norm(part, mean, var, weight, bias, True, 0.2, 1e-3) for part in x.chunk(parts)]
    return ACTIVATIONS[act](torch.cat(each))


def statistics_in_torch(x, running_mean, running_var, momentum, eps, parts):
    """Compute the kernel's results in torch operations."""
    x = x.detach()
    mean, rstd = op.statistics_reference(x, eps, parts)
    if running_mean is not None:
        op.batch_norm_reference(x.to(mean.dtype), None, None, running_mean, running_var, momentum, eps, 1.0, parts)
    return mean, rstd


IN_TORCH = SimpleNamespace(statistics=statistics_in_torch, gradient_sums=op.gradient_sums_reference)


@pytest.fixture
def kernels(monkeypatch):
    """Run the kernels' form of batch_norm on CPU tensors.

    It runs in float64 as well, for finite differences.
    """
    monkeypatch.setattr(op, "_operators", lambda: IN_TORCH)
    monkeypatch.setattr(op, "_kernels_fit", lambda *tensors: True)
    monkeypatch.setattr(autotune, "_forced", {"batch_norm": "triton"})


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_the_reference_is_torchs_layer_to_the_bit(act, dtype, channels_last):
    x, weight, bias = inputs((4, 3, 5, 2), dtype, channels_last)
    if dtype == torch.float64:
        weight, bias = (each.detach().double().requires_grad_() for each in (weight, bias))
    ours, theirs = running(3, weight.dtype), running(3, weight.dtype)
    y = batch_norm(x, weight, bias, *ours, 0.2, 1e-3, act, 0.3)
    expected = ACTIVATIONS[act](F.batch_norm(x, *theirs, weight, bias, True, 0.2, 1e-3))
    assert torch.equal(y, expected)
    assert y.stride() == expected.stride()
    for each in zip(ours, theirs, strict=True):
        assert torch.equal(*each)
    gradients = (torch.autograd.grad(each.square().sum(), (x, weight, bias)) for each in (y, expected))
    assert all(torch.equal(*each) for each in zip(*gradients, strict=True))


def check_against_calls(shape, parts, act, dtype):
    """Compare values, gradients and running statistics with `parts` calls in sequence."""
    x, weight, bias = inputs(shape, dtype)
    dy = torch.randn(shape).to(dtype)

    def results(call, to):
        each = [
            tensor.detach().to(torch.float64 if to == torch.float64 else tensor.dtype).requires_grad_()
            for tensor in (x, weight, bias)
        ]
        statistics = running(shape[1], each[1].dtype)
        y = call(*each, *statistics)
        return [y, *statistics, *torch.autograd.grad(y, each, dy.to(y.dtype))]

    ours = results(lambda *tensors: batch_norm(*tensors, 0.2, 1e-3, act, 0.3, parts), dtype)
    reference, truth = (
        results(lambda *tensors: torch_layer(*tensors, act, parts), to) for to in (dtype, torch.float64)
    )
    assert ours[0].stride() == x.stride()
    for each in zip(ours, reference, truth, strict=True):
        assert_close_to_truth(*each, atol=8 * torch.finfo(each[0].dtype).eps * (1 + each[2].abs().max().item()))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_each_part_as_a_call_of_its_own(shape, parts, act):
    check_against_calls(shape, parts, act, torch.float32)


@pytest.mark.parametrize(("shape", "parts"), [((4, 3, 5, 2), 1), ((6, 3, 5, 2), 3), ((6, 5), 2)])
@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_form_of_the_kernels(kernels, shape, parts, act, dtype):
    check_against_calls(shape, parts, act, dtype)


def check_interpreted_kernels(with_self_check):
    """Check both passes through the interpreted kernels, and their self-check."""
    from fastgan.kernels import batch_norm as launches
    from fastgan.kernels import last_program

    tickets = torch.zeros(last_program.TICKETS, dtype=torch.int32)
    patch = pytest.MonkeyPatch()
    patch.setattr(op, "_operators", lambda: SimpleNamespace(
        statistics=lambda x, mean, var, *rest: launches.statistics(x, mean, var, tickets, *rest),
        gradient_sums=lambda *rest: launches.gradient_sums(*rest[:-1], tickets, rest[-1]),
    ))  # fmt: skip
    patch.setattr(op, "_kernels_fit", lambda *tensors: True)
    patch.setattr(autotune, "_forced", {"batch_norm": "triton"})
    try:
        check_against_calls((4, 35, 3, 2), 2, "leaky_relu", torch.float32)
        check_against_calls((4, 35, 3, 2), 1, "relu", torch.bfloat16)
        if with_self_check:
            torch.manual_seed(0)
            problem = op.self_check("triton", torch.device("cpu"))
            assert problem is None, problem
    finally:
        patch.undo()


@pytest.mark.parametrize("with_self_check", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_the_kernels_forward_and_backward(with_self_check):
    run_interpreted(check_interpreted_kernels, with_self_check)


@pytest.mark.parametrize(("shape", "parts"), [((2, 2, 1, 2), 1), ((4, 1, 2, 1), 2), ((4, 2), 2)])
@pytest.mark.parametrize(("act", "form"), list(itertools.product(["linear", "leaky_relu"], ["reference", "triton"])))
def test_gradients_of_both_orders(kernels, monkeypatch, shape, parts, act, form):
    monkeypatch.setattr(autotune, "_forced", {"batch_norm": form})
    x, weight, bias = inputs(shape)
    check_gradients(lambda *tensors: batch_norm(*tensors, None, None, 0.1, 1e-2, act, 0.3, parts), (x, weight, bias))


@pytest.mark.parametrize("parts", [1, 2])
def test_a_penalty_on_the_slope_equals_that_through_torchs_layer(kernels, parts):
    def gradients(call):
        x, weight, bias = inputs((4, 3, 2, 2))
        y = call(x, weight, bias, *running(3))
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum() + y.sum(), (x, weight, bias))

    ours = gradients(lambda *tensors: batch_norm(*tensors, 0.2, 1e-3, "leaky_relu", 0.3, parts))
    theirs = gradients(lambda *tensors: torch_layer(*tensors, "leaky_relu", parts))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_without_weight_and_bias(kernels):
    x = inputs((4, 3, 2, 2))[0]
    y, expected = (
        batch_norm(x, None, None, *running(3), 0.2, 1e-3, "relu"),
        torch_layer(x, None, None, *running(3), "relu"),
    )
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(each.square().sum(), x)[0] for each in (y, expected)), rtol=1e-4, atol=1e-5
    )


def test_under_torch_func_the_reference_runs(kernels):
    x, weight, bias = (each.detach() for each in inputs((4, 3, 2, 2)))
    _, pull = torch.func.vjp(lambda x: batch_norm(x, weight, bias, None, None, act="relu"), x)
    _, expected = torch.func.vjp(lambda x: F.relu(F.batch_norm(x, None, None, weight, bias, True)), x)
    assert torch.equal(pull(x)[0], expected(x)[0])


class Traced(BaseException):
    """Carries the graph that a compiler received."""


def test_a_compiled_step_has_one_node_for_each_pass_of_a_layer(monkeypatch):
    """Two layers update the same statistics.

    Their sums are nodes of their own, everything else is in torch operations.
    """
    pytest.importorskip("triton", reason="triton is not installed")
    monkeypatch.setattr(op, "_kernels_fit", op._have_layout)
    monkeypatch.setattr(autotune, "_forced", {"batch_norm": "triton"})

    def stop(graph, example_inputs):
        raise Traced(graph)

    x, weight, bias = inputs((4, 3, 2, 2))
    statistics = running(3)

    def step():
        y = x
        for _ in range(2):
            y = batch_norm(y, weight, bias, *statistics, act="relu", parts=2)
        return torch.autograd.grad(y.sum(), (weight, bias))

    with torch._dynamo.config.patch(trace_autograd_ops=True), pytest.raises(Traced) as traced:
        torch.compile(step, backend=aot_autograd(fw_compiler=stop), fullgraph=True, dynamic=False)()
    targets = [node.target for node in traced.value.args[0].graph.nodes if node.op == "call_function"]
    assert targets.count(torch.ops.higher_order.auto_functionalized_v2) == 2
    assert targets.count(torch.ops.fastgan.batch_norm_gradient_sums_triton.default) == 2
    assert not [target for target in targets if "batch_norm" in str(target) and "triton" not in str(target)]
    assert not [
        target for target in targets if target in (torch.ops.aten.sum.dim_IntList, torch.ops.aten.var_mean.correction)
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": torch.ones(2, 3, 4)}, "[N, C, H, W]"),
        ({"x": torch.ones(4, 3, dtype=torch.int64)}, "floating point"),
        ({"x": torch.ones(0, 3, 2, 2)}, "not torch.float32 [0, 3, 2, 2]"),
        ({"parts": 3}, "4 images cannot be cut into 3"),
        ({"x": torch.ones(2, 3), "parts": 2}, "no variance"),
        ({"act": "tanh"}, "'tanh'"),
        ({"slope": -1.0}, "-1.0"),
        ({"weight": torch.ones(4)}, "weight must be [3]"),
        ({"running_var": None}, "both, or neither"),
    ],
    ids=str,
)
def test_refusals(changes, words):
    arguments = {
        "x": torch.randn(4, 3, 2, 2),
        "weight": None,
        "bias": None,
        "running_mean": torch.zeros(3),
        "running_var": torch.ones(3),
    }
    with pytest.raises(UserError) as refusal:
        batch_norm(**arguments | changes)
    assert words in str(refusal.value)


def test_what_the_kernels_read():
    image, channels = torch.ones(2, 3, 4, 4), torch.ones(3)
    assert op._have_layout(image.to(memory_format=torch.channels_last), channels, None)
    assert op._have_layout(torch.ones(2, 3).bfloat16(), channels)
    assert not op._have_layout(image, channels)
    assert not op._have_layout(torch.ones(2, 3).double(), channels)
    assert not op._have_layout(torch.ones(2, 3), channels.bfloat16())
    assert not op._kernels_fit(torch.ones(2, 3), channels)


def test_the_self_check_passes_right_sums_and_names_wrong_ones(monkeypatch):
    monkeypatch.setattr(op, "_operators", lambda: IN_TORCH)
    assert op.self_check("triton", torch.device("cpu")) is None

    def biased(*arguments):
        mean, rstd = statistics_in_torch(*arguments)
        return mean, rstd * 1.001

    monkeypatch.setattr(
        op, "_operators", lambda: SimpleNamespace(statistics=biased, gradient_sums=op.gradient_sums_reference)
    )
    assert "rstd" in op.self_check("triton", torch.device("cpu"))
