"""The fused end of a discriminator against its definition, by every available implementation."""
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from checking import assert_close_to_truth, check_gradients
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan.errors import UserError
from fastgan.ops import leaky_relu_bce as module
from fastgan.ops.dispatch import registry
from fastgan.ops.leaky_relu_bce import leaky_relu_bce, leaky_relu_bce_head

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
ISAS = {"generic": 0, "avx2": 1, "avx512": 2, "avx512_bf16": 3}  # csrc/cpu_features.h


@pytest.fixture(params=["reference", *ISAS])
def implementation(request, monkeypatch):
    """Run a test with the reference, and with every version of the kernels on this machine."""
    if request.param == "reference":
        monkeypatch.setenv("FASTGAN_OPS", "reference")
        yield
        return
    if registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    library, isa = registry._load()[0], ISAS[request.param]
    has_it = library.fastgan_limit_isa(isa) == isa
    if has_it:
        yield
    library.fastgan_limit_isa(max(ISAS.values()))
    if not has_it:
        pytest.skip(f"this machine has no {request.param}")


def definition(x, weight, bias, target, slope):
    """Return (loss, logits) in float64, by the logarithms of probabilities as in torch."""
    activated = torch.where(x.double() > 0, x.double(), slope * x.double())
    logits = (activated * weight.double()).flatten(1).sum(1) + (0 if bias is None else bias.double())
    target = torch.as_tensor(target, dtype=torch.float64).expand_as(logits)
    return -(target * F.logsigmoid(logits) + (1 - target) * F.logsigmoid(-logits)), logits


def naive(x, weight, bias, target, slope):
    """Return the same by the plain formula, in float32 behind the features."""
    logits = (F.leaky_relu(x, slope).float() * weight).flatten(1).sum(1) + (0 if bias is None else bias)
    return F.binary_cross_entropy_with_logits(
        logits, torch.as_tensor(target).expand_as(logits), reduction="none"
    ), logits


def random_head(shape, dtype=torch.float32, layout="contiguous", with_bias=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, weight = (torch.randn(size, generator=generator) for size in (shape, (1, *shape[1:])))
    if len(shape) == 4:
        x, weight = x.to(memory_format=LAYOUTS[layout]), weight.to(memory_format=LAYOUTS[layout])
    bias = torch.randn(1, generator=generator) if with_bias else None
    return x.to(dtype), weight / math.prod(shape[1:]) ** 0.5, bias


def test_worked_out_by_hand(implementation):
    x, weight, bias = torch.tensor([[2.0, -5.0], [-1.0, 0.0]]), torch.tensor([[3.0, 1.0]]), torch.tensor([-5.0])
    loss, logits = leaky_relu_bce_head(x, weight, bias, 1.0)
    assert logits.tolist() == pytest.approx([0.0, -5.6])
    assert loss.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(5.6))])
    assert leaky_relu_bce_head(x, weight, bias, 1.0, slope=0.0)[1].tolist() == [1.0, -5.0]
    assert leaky_relu_bce_head(x, weight, None, 1.0, slope=1.0)[1].tolist() == [1.0, -3.0]
    assert leaky_relu_bce(torch.tensor([-5.0, 0.0]), 0.0).tolist() == pytest.approx(
        [math.log(1 + math.exp(-1)), math.log(2)]
    )


@given(
    rows=st.sampled_from([1, 2, 3, 5, 17, 33]),
    features=st.one_of(
        st.sampled_from([(1,), (3,), (16,), (33,), (100,), (1100,)]),
        st.sampled_from([(1, 4, 4), (3, 4, 4), (5, 1, 3), (64, 4, 4)]),
    ),
    layout=st.sampled_from(sorted(LAYOUTS)),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    slope=st.sampled_from([0.0, 0.2, 1.0, 1.5]),
    target=st.sampled_from([0.0, 1.0, 0.9, "vector"]),
    with_bias=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shape_layout_dtype_and_target(
    implementation, rows, features, layout, dtype, slope, target, with_bias, seed
):
    x, weight, bias = random_head((rows, *features), dtype, layout, with_bias, seed)
    target = torch.rand(rows) if target == "vector" else target
    leaves = [tensor.requires_grad_() for tensor in (x, weight, bias) if tensor is not None]
    ours, theirs, truth = (
        function(x, weight, bias, target, slope) for function in (leaky_relu_bce_head, naive, definition)
    )
    for each in zip(ours, theirs, truth, strict=True):
        assert_close_to_truth(*each, atol=1e-6)
    dloss, dlogits = torch.randn(rows), torch.randn(rows)

    def gradients(results):
        return torch.autograd.grad(
            sum((result * d).sum() for result, d in zip(results, (dloss, dlogits), strict=True)), leaves
        )

    for leaf, *each in zip(leaves, *(gradients(results) for results in (ours, theirs, truth)), strict=True):
        assert each[0].stride() == leaf.stride() or leaf.ndim < 4 or 1 in leaf.shape
        assert_close_to_truth(
            each[0], each[1], each[2].double(), atol=8 * torch.finfo(leaf.dtype).eps * (1 + each[2].abs().max().item())
        )


def test_sizes_of_which_several_threads_take_a_share(implementation):
    x, weight, bias = random_head((37, 1100))
    leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    once, again, truth = (torch.autograd.grad(function(x, weight, bias, 0.9, 0.2)[0].mean(), leaves)
                          for function in (leaky_relu_bce_head, leaky_relu_bce_head, definition))  # fmt: skip
    for ours, repeated, exact in zip(once, again, truth, strict=True):
        assert torch.equal(ours, repeated)
        torch.testing.assert_close(ours, exact.float(), rtol=1e-5, atol=1e-7)
    logits = torch.randn(70_001, requires_grad=True)
    (gradient,) = torch.autograd.grad(leaky_relu_bce(logits, 0.3).sum(), logits)
    exact = torch.where(logits > 0, logits.sigmoid() - 0.3, 0.2 * ((0.2 * logits).sigmoid() - 0.3))
    torch.testing.assert_close(gradient, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("target", [0.0, 0.9, torch.tensor([0.0, 1.0, 0.3])], ids=str)
@pytest.mark.parametrize(
    ("shape", "layout"), [((3, 5), "contiguous"), ((3, 2, 4, 4), "channels_last"), ((3, 2, 4, 4), "contiguous")]
)
def test_gradients_of_both_orders(implementation, shape, layout, target, slope):
    x, weight, bias = random_head(shape, layout=layout)
    check_gradients(lambda *head: leaky_relu_bce_head(*head, target, slope), (x, weight, bias))


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_gradients_of_both_orders_of_elements(implementation, slope):
    x = random_head((3, 4))[0]
    check_gradients(lambda x: leaky_relu_bce(x, 0.9, slope), (x,))
    check_gradients(
        lambda x: leaky_relu_bce(x, torch.rand(3, 1, generator=torch.Generator().manual_seed(0)), slope), (x,)
    )


def test_a_gradient_penalty_equals_the_definition(implementation):
    def penalty(function):
        x, weight, bias = (tensor.requires_grad_() for tensor in random_head((4, 6)))
        loss, logits = function(x.tanh(), weight, bias, 0.9, 0.2)
        (gradient,) = torch.autograd.grad((loss + logits.square()).sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), (x, weight, bias))

    for ours, exact in zip(penalty(leaky_relu_bce_head), penalty(definition), strict=True):
        torch.testing.assert_close(ours, exact.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("target", [0.0, 0.1, 1.0])
def test_finite_for_extreme_logits_and_exact_for_sure_ones(implementation, target, dtype):
    sizes = [0.0, 1e-3, 2.0, 8.0, 12.0, 16.0, 30.0, 80.0, 90.0, 1e4]
    logits = torch.tensor([sign * size for size in sizes for sign in (-1, 1)], dtype=dtype, requires_grad=True)
    loss = leaky_relu_bce(logits, target, slope=1.0)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    exact = logits.detach().double()
    exact_loss = -(target * F.logsigmoid(exact) + (1 - target) * F.logsigmoid(-exact))
    exact_gradient = (1 - target) * exact.sigmoid() - target * (-exact).sigmoid()
    torch.testing.assert_close(
        loss.detach(), exact_loss.to(dtype), rtol=2e-6 if dtype == torch.float32 else 1e-8, atol=1e-37
    )
    torch.testing.assert_close(gradient, exact_gradient.to(dtype), rtol=2e-6, atol=1e-37)


def test_a_nan_is_seen_and_relu_stops_infinity(implementation):
    x = torch.tensor([[math.nan, 1.0], [-math.inf, 1.0]])
    loss, logits = leaky_relu_bce_head(x, torch.ones(1, 2), None, 1.0, slope=0.0)
    assert loss.isnan().tolist() == logits.isnan().tolist() == [True, False]
    assert logits[1] == 1


class NeedsOfGradients(TorchDispatchMode):
    """Records the gradients that each call of the kernel must compute: (dx, dparameters)."""

    def __init__(self):
        super().__init__()
        self.needs = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.fastgan.leaky_relu_bce_backward.default:
            self.needs.append(args[-2:])
        return func(*args, **(kwargs or {}))


def test_only_what_is_asked_for_is_computed():
    """The G step goes through D without D's weight gradients."""
    if registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    x, weight, bias = (tensor.requires_grad_() for tensor in random_head((3, 5)))
    leaky_relu_bce_head(x, weight, bias, 1.0)  # the first use, which checks the kernel
    with NeedsOfGradients() as asked:
        for wanted in ([x], [weight], [bias], [x, weight, bias]):
            torch.autograd.grad(leaky_relu_bce_head(x * 1, weight, bias, 1.0)[0].mean(), wanted)
    assert asked.needs == [(True, False), (False, True), (False, True), (True, True)]


def test_autocast_changes_nothing(implementation):
    x, weight, bias = random_head((4, 6), torch.bfloat16)
    expected = leaky_relu_bce_head(x, weight, bias, 0.9)
    with torch.autocast("cpu", torch.bfloat16):
        loss, logits = leaky_relu_bce_head(x, weight, bias, 0.9)
    assert loss.dtype == logits.dtype == torch.float32
    assert torch.equal(loss, expected[0])
    assert torch.equal(logits, expected[1])


def test_parameters_of_another_dtype_get_gradients_of_their_own(implementation):
    x, weight, bias = random_head((4, 6), torch.bfloat16)
    weight, bias = weight.bfloat16().requires_grad_(), bias.double().requires_grad_()
    gradients = torch.autograd.grad(leaky_relu_bce_head(x, weight, bias, 1.0)[0].sum(), (weight, bias))
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, torch.float64]


def test_features_that_are_not_dense_and_gradients_of_a_mean(implementation):
    wide, weight, bias = random_head((4, 12))
    x, weight = wide[:, ::2].requires_grad_(), weight[:, :6]
    ours, exact = (torch.autograd.grad(function(x, weight, bias, torch.rand(8)[::2] * 0 + 0.5, 0.2)[0].mean(), x)[0]
                   for function in (leaky_relu_bce_head, definition))  # fmt: skip
    torch.testing.assert_close(ours, exact)


def test_function_transforms_and_forward_mode_get_the_right_derivatives():
    x, weight, bias = random_head((4, 6))
    expected = torch.autograd.functional.jacobian(lambda x: definition(x, weight, bias, 0.9, 0.2)[0].sum(), x)
    torch.testing.assert_close(
        torch.func.grad(lambda x: leaky_relu_bce_head(x, weight, bias, 0.9)[0].sum())(x), expected.float()
    )
    tangent = torch.randn_like(x)
    derivative = torch.func.jvp(lambda x: leaky_relu_bce_head(x, weight, bias, 0.9)[0].sum(), (x,), (tangent,))[1]
    torch.testing.assert_close(derivative, (expected * tangent).sum().float())


@pytest.mark.parametrize("inside", ["reference", "cpu"])
def test_compiled_in_one_graph(inside, monkeypatch):
    if inside == "cpu":  # stands for Triton, which compiled code does call
        if registry.native_problem("cpu"):
            pytest.skip(registry.native_problem("cpu"))
        kernels = {True: partial(module._kernel_forward, "cpu"), False: partial(module._kernel_backward, "cpu")}
        monkeypatch.setattr(
            module, "_picked", lambda is_forward, is_compiling, x, weight, arguments: kernels[is_forward](*arguments)
        )
    x, weight, bias = (tensor.requires_grad_() for tensor in random_head((3, 2, 4, 4), layout="channels_last"))
    graphs = []

    def keep(graph, example_inputs):
        graphs.append(str(graph.graph))
        return make_boxed_func(graph.forward)

    def head(x, weight, bias):
        return leaky_relu_bce_head(x, weight, bias, 0.9)

    results = []
    for function in (head, torch.compile(head, backend=aot_autograd(fw_compiler=keep), fullgraph=True)):
        loss, logits = function(x, weight, bias)
        results.append((loss, logits, *torch.autograd.grad((loss + logits).sum(), (x, weight, bias))))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)
    # Code compiled for the CPU gets the reference by itself.
    assert [("fastgan.leaky_relu_bce" in graph) for graph in graphs] == 2 * [inside == "cpu"]


def test_the_check_on_first_use_passes_what_is_right_and_finds_what_is_wrong(monkeypatch):
    if registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    torch.manual_seed(0)
    assert module.self_check("cpu", torch.device("cpu")) is None
    right = module._kernel_backward
    monkeypatch.setattr(
        module, "_kernel_backward", lambda *arguments: tuple(1.001 * each for each in right(*arguments))
    )
    assert "is off by" in module.self_check("cpu", torch.device("cpu"))


def test_the_operators_are_as_torch_expects_them():
    if registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    x, weight, bias = random_head((3, 5))
    weight, targets = weight[0], torch.rand(3)
    native = torch.ops.fastgan
    logits = native.leaky_relu_bce(x, weight, bias, targets, 0.0, 0.2)[1]
    tests = ("test_schema", "test_faketensor")  # the gradient is not the operator's own
    for each in (
        (x, weight, bias, targets, 0.0, 0.2),
        (x, weight, None, None, 0.9, 0.2),
        (x[:, 0].contiguous(), None, None, None, 0.9, 0.2),
    ):
        torch.library.opcheck(native.leaky_relu_bce, each, test_utils=tests)
    for needs in ((True, True), (True, False), (False, True)):
        each = (x, weight, targets, 0.0, 0.2, logits, logits[:1].expand(3), None, *needs)
        torch.library.opcheck(native.leaky_relu_bce_backward, each, test_utils=tests)


def test_the_kernels_refuse_what_would_read_outside_memory():
    if registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    x, weight, bias = random_head((3, 6))
    weight, targets, native = weight[0], torch.rand(3), torch.ops.fastgan
    good = {"x": x, "weight": weight, "bias": bias, "targets": targets}
    bad = {
        "x": [x[:, ::2], x.T, x[0], x.half()],
        "weight": [weight[:5], weight.double(), weight[None], torch.rand(12)[::2], None],
        "bias": [torch.rand(2), bias.double()],
        "targets": [targets[:2], torch.rand(6)[::2]],
    }
    for name, wrongs in bad.items():
        for wrong in wrongs:
            with pytest.raises(RuntimeError, match="leaky_relu_bce"):
                native.leaky_relu_bce(**{**good, name: wrong}, target=0.0, slope=0.2)
    for logits, dloss in (
        (targets[:2], targets),
        (targets.double(), targets),
        (targets, targets[:2]),
        (targets, targets.double()),
    ):
        with pytest.raises(RuntimeError, match="leaky_relu_bce"):
            native.leaky_relu_bce_backward(x, weight, None, 1.0, 0.2, logits, dloss, None, True, True)
    with pytest.raises(RuntimeError, match="no parameters"):
        native.leaky_relu_bce_backward(x[:, 0].contiguous(), None, None, 1.0, 0.2, targets, targets, None, True, True)


X, WEIGHT = torch.zeros(2, 3), torch.zeros(1, 3)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"x": X.long()}, "int64"),
        ({"x": torch.zeros(2)}, r"\[N, F\]"),
        ({"x": torch.zeros(0, 3)}, "no elements"),
        ({"weight": torch.zeros(1, 4)}, r"\[1, 4\]"),
        ({"weight": torch.zeros(2, 3)}, r"\[2, 3\]"),
        ({"weight": WEIGHT.long()}, "weight must be floating point"),
        ({"bias": torch.zeros(2)}, "bias"),
        ({"target": torch.zeros(3)}, "target"),
        ({"target": torch.zeros(2, 1)}, "target"),
        ({"target": torch.zeros(2, device="meta")}, "target must be floating point on cpu"),
        ({"slope": -0.1}, "slope"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(UserError, match=named):
        leaky_relu_bce_head(**{"x": X, "weight": WEIGHT, "bias": None, "target": 1.0, **arguments})


def test_wrong_targets_of_elements_are_named():
    with pytest.raises(UserError, match="does not broadcast"):
        leaky_relu_bce(X, torch.zeros(2))
