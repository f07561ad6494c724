"""The layers that double and halve an image with the BatchNorm behind them, fused and separate.

Torch operations stand in for the kernels here; on a GPU the kernels run themselves.
"""

from types import SimpleNamespace

import pytest
import torch
from checking import assert_close_to_truth
from torch._dynamo.backends.common import aot_autograd

from fastgan.errors import UserError
from fastgan.ops import batch_norm as batch_norms
from fastgan.ops.batch_norm import batch_norm
from fastgan.ops.deconv import implementations, stats
from fastgan.ops.deconv import with_batch_norm as op
from fastgan.ops.deconv.operator import deconv, strided_conv
from fastgan.ops.deconv.with_batch_norm import deconv_batch_norm, strided_conv_batch_norm
from fastgan.ops.dispatch import autotune, registry, self_checks

FUSED = {"up": deconv_batch_norm, "down": strided_conv_batch_norm}
PLAIN = {"up": deconv, "down": strided_conv}
ACTS = ("linear", "relu", "leaky_relu")


def one_after_the_other(direction, x, weight, *rest):
    return batch_norm(PLAIN[direction](x, weight), *rest)


def inputs(direction, dtype=torch.float32, device="cpu", size=3):
    """Return (x, weight, gain, bias)."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(6, 16 if direction == "up" else 24, size, size + 2, generator=random)
    weight = torch.randn(16, 24, 4, 4, generator=random) / 10
    channels = weight.shape[1 if direction == "up" else 0]
    gain, bias = torch.rand(channels, generator=random) + 0.5, torch.randn(channels, generator=random)
    wide = torch.promote_types(dtype, torch.float32)
    images = [each.to(device, dtype, memory_format=torch.channels_last).requires_grad_() for each in (x, weight)]
    return [*images, *(each.to(device, wide).requires_grad_() for each in (gain, bias))]


def running(like):
    return [torch.linspace(start, 2, len(like), dtype=like.dtype, device=like.device) for start in (0, 1)]


def results(call, tensors, parts, act):
    """Return values, running statistics, gradients of the first order and of the second."""
    statistics = running(tensors[2].detach())
    y = call(*tensors, *statistics, 0.2, 1e-3, act, 0.3, parts)
    dy = torch.cos(torch.arange(y.numel(), device=y.device).to(y.dtype)).view_as(y).requires_grad_()
    plain = torch.autograd.grad(y, tensors, dy, retain_graph=True)
    first = torch.autograd.grad(y, tensors, dy, create_graph=True)
    second = torch.autograd.grad(sum(each.square().sum() for each in first), (*tensors, dy), materialize_grads=True)
    return [y, *statistics, *plain, *first, *second]


def statistics_in_torch(x, running_mean, running_var, momentum, eps, parts):
    return stats.statistics(x, parts, stats.Norm(eps, momentum, running_mean, running_var))


IN_TORCH = SimpleNamespace(statistics=statistics_in_torch, gradient_sums=batch_norms.gradient_sums_reference)
used = []


def up_in_torch(small, weight, size, parts, norm):
    used.append("up")
    image = implementations.up_reference(small, weight, None, size, "linear", 0.0)
    return image, *stats.statistics(image, parts, norm)


def down_in_torch(big, weight, parts, norm):
    used.append("down")
    image = implementations.down_reference(big, weight, None, "linear", 0.0)
    return image, *stats.statistics(image, parts, norm)


@pytest.fixture
def fused(monkeypatch):
    """Run the fused form on CPU tensors."""
    used.clear()
    monkeypatch.setattr(op, "_fits", lambda *arguments: True)
    monkeypatch.setattr(stats, "fits", lambda *tensors: True)
    monkeypatch.setattr(stats, "_up_native", up_in_torch)
    monkeypatch.setattr(stats, "_down_native", down_in_torch)
    monkeypatch.setattr(batch_norms, "_operators", lambda: IN_TORCH)
    monkeypatch.setattr(autotune, "_forced", {"deconv_stats": "cuda"})


@pytest.mark.parametrize("direction", FUSED)
@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("act", ACTS)
def test_the_fused_form_in_values_statistics_and_both_orders_of_gradient(fused, act, parts, direction):
    tensors = inputs(direction, torch.float64)
    ours = results(FUSED[direction], tensors, parts, act)
    assert used == [direction]
    theirs = results(lambda *rest: one_after_the_other(direction, *rest), tensors, parts, act)
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)
    assert ours[0].stride() == theirs[0].stride()


@pytest.mark.parametrize("direction", FUSED)
def test_the_fused_form_in_bfloat16(fused, direction):
    tensors = inputs(direction, torch.bfloat16)
    statistics, others = running(tensors[2].detach()), running(tensors[2].detach())
    y = FUSED[direction](*tensors, *statistics, 0.2, 1e-3, "relu", 0.3, 2)
    expected = one_after_the_other(direction, *tensors, *others, 0.2, 1e-3, "relu", 0.3, 2)
    truth = one_after_the_other(
        direction, *(each.double() for each in (*tensors, *running(tensors[2].detach()))), 0.2, 1e-3, "relu", 0.3, 2
    )
    assert_close_to_truth(y, expected, truth)
    for each in zip(statistics, others, strict=True):
        torch.testing.assert_close(*each, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("direction", FUSED)
def test_the_fused_form_as_the_compiler_traces_it(fused, direction):
    def step(*tensors):
        y = FUSED[direction](*tensors, None, None, 0.2, 1e-3, "relu", 0.3, 2)
        return torch.autograd.grad(y.square().sum(), tensors)

    tensors = inputs(direction, torch.float32)
    compiled = torch.compile(step, backend=aot_autograd(fw_compiler=lambda graph, _: graph), fullgraph=True)
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        gradients = compiled(*tensors)
    for found, wanted in zip(gradients, step(*tensors), strict=True):
        torch.testing.assert_close(found, wanted)


class Traced(BaseException):
    """Carries the graph that a compiler received."""


def test_a_compiled_step_has_the_library_s_operators_and_no_sums_of_its_own(monkeypatch):
    """One layer up and one down, with running statistics.

    The graph has the operators for images with their sums, and for the statistics of these sums.
    """
    if registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    pytest.importorskip("triton", reason="triton is not installed")
    monkeypatch.setattr(op, "_fits", lambda *arguments: True)
    monkeypatch.setattr(stats, "fits", lambda *tensors: True)
    monkeypatch.setattr(autotune, "_forced", {"deconv_stats": "cuda", "deconv": "reference"})

    def stop(graph, example_inputs):
        raise Traced(graph)

    x, weight, gain, bias = inputs("up", torch.bfloat16)
    _, _, other_gain, other_bias = inputs("down", torch.bfloat16)
    statistics, others = running(gain.detach()), running(other_gain.detach())

    def step():
        y = deconv_batch_norm(x, weight, gain, bias, *statistics, act="relu", parts=2)
        y = strided_conv_batch_norm(y, weight, other_gain, other_bias, *others, act="leaky_relu", parts=2)
        return torch.autograd.grad(y.float().square().sum(), (weight, gain, bias))

    with pytest.raises(Traced) as traced, torch._dynamo.config.patch(trace_autograd_ops=True):
        torch.compile(step, backend=aot_autograd(fw_compiler=stop), fullgraph=True, dynamic=False)()
    targets = [node.target for node in traced.value.args[0].graph.nodes if node.op == "call_function"]
    native = torch.ops.fastgan
    assert targets.count(native.deconv_up_stats.default) == targets.count(native.deconv_down_stats.default) == 1
    assert targets.count(torch.ops.higher_order.auto_functionalized_v2) == 2  # batch_stats_finish
    assert targets.count(native.batch_norm_gradient_sums_triton.default) == 2
    assert torch.ops.aten.var_mean.correction not in targets


@pytest.mark.parametrize("direction", FUSED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_elsewhere_it_is_one_after_the_other_to_the_bit(direction, dtype):
    tensors = inputs(direction, dtype)
    ours = results(FUSED[direction], tensors, 2, "leaky_relu")
    theirs = results(lambda *rest: one_after_the_other(direction, *rest), tensors, 2, "leaky_relu")
    assert all(torch.equal(*each) for each in zip(ours, theirs, strict=True))


def test_what_is_refused_is_refused_by_one_of_the_two():
    x, weight, gain, bias = inputs("up")
    with pytest.raises(UserError, match="deconv: x .* do not fit"):
        deconv_batch_norm(x[:, :8], weight, gain, bias, None, None)
    with pytest.raises(UserError, match="batch_norm: weight must be"):
        deconv_batch_norm(x, weight, gain[:3], bias, None, None)
    with pytest.raises(UserError, match="cannot be cut into 4 equal parts"):
        deconv_batch_norm(x, weight, gain, bias, None, None, parts=4)


def test_which_calls_fit(monkeypatch):
    monkeypatch.setattr(op, "_are_trusted", lambda: True)

    class Cuda(torch.Tensor):
        device = torch.device("cuda")

    def fits(x, weight, *others, act="relu", parts=2):
        return op._fits(x.detach().as_subclass(Cuda), weight.detach(), others, 1, act, parts)

    x, weight, gain, bias = (each.detach() for each in inputs("up", torch.bfloat16))
    assert fits(x, weight, gain, bias, gain, bias)
    assert fits(x, weight, None, None, None, None)
    assert not fits(x.contiguous(), weight, gain, bias, gain, bias)
    assert not fits(x.float(), weight.float(), gain, bias, gain, bias)
    assert not fits(x, weight[:, :3], gain[:3], bias[:3], None, None)
    assert not fits(x, weight, gain[:3], bias, None, None)
    assert not fits(x, weight, gain, bias, gain, None)
    assert not fits(x, weight, gain.double(), bias, gain, bias)
    assert not fits(x, weight, gain, bias, gain, bias, act="tanh")
    assert not fits(x, weight, gain, bias, gain, bias, parts=4)
    assert not fits(x, weight, gain, bias, gain, bias, parts=6)
    assert not op._fits(x, weight, (gain, bias, gain, bias), 1, "relu", 2)  # on the CPU


@pytest.mark.gpu
@pytest.mark.parametrize("direction", FUSED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_on_a_gpu(direction, dtype):
    for name, implementation in (("deconv_stats", "cuda"), ("batch_norm", "triton")):
        if self_checks.problem(name, implementation, "cuda"):
            pytest.skip(self_checks.problem(name, implementation, "cuda"))
    tensors = inputs(direction, dtype, "cuda", size=8)
    assert op._fits(
        *tensors[:2], (*tensors[2:], *running(tensors[2].detach())), 1 if direction == "up" else 0, "relu", 2
    )
    autotune.force({"deconv_stats": "cuda"})
    try:
        ours = results(FUSED[direction], tensors, 2, "relu")
    finally:
        autotune.force({"deconv_stats": "auto"})
    wide = [each.detach().double().requires_grad_() for each in tensors]
    theirs = results(lambda *rest: one_after_the_other(direction, *rest), tensors, 2, "relu")
    truths = results(lambda *rest: one_after_the_other(direction, *rest), wide, 2, "relu")
    assert registry.native_problem("cuda") is None
    for each in zip(ours, theirs, truths, strict=True):
        assert_close_to_truth(*each, atol=16 * torch.finfo(dtype).eps * (1 + each[2].abs().max().item()))
