"""The pass that removes zeros from a graph: the same numbers with fewer operations."""
import collections

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._inductor.decomposition import select_decomp_table
from torch.fx.experimental.proxy_tensor import make_fx

from fastgan.engine.compiled import compile_step, compiler_options
from fastgan.engine.passes import GraphPasses
from fastgan.engine.passes.zero_folding import ZerosTakenOut
from fastgan.gan import penalties
from fastgan.nn.convolutions import Conv2d

aten = torch.ops.aten


def traced(function, *inputs):
    """Return (the graph of a function before the pass, the same after the pass)."""
    before = make_fx(function, decomposition_table=select_decomp_table())(*inputs)
    after = torch.fx.GraphModule(before, _copy(before.graph))
    ZerosTakenOut()(after.graph)
    after.graph.lint()
    after.recompile()
    return before, after


def _copy(graph):
    copied = torch.fx.Graph()
    copied.output(copied.graph_copy(graph, {}))
    return copied


def count(module, *targets):
    counts = collections.Counter(node.target for node in module.graph.nodes)
    return sum(counts[target] for target in targets)


def critic(activation=F.leaky_relu):
    """Return three layers as functions of their weights, logits [N, 1] of images [N, 2, 8, 8]."""
    torch.manual_seed(0)
    layers = nn.ModuleList([Conv2d(2, 4, 3, 2, 1), Conv2d(4, 6, 3, 2, 1), nn.Linear(24, 1)])

    def D(img):
        for layer in layers[:2]:
            img = activation(layer(img))
        return layers[2](img.flatten(1))
    return D, list(layers.parameters())


def penalty_gradients(D, parameters):
    """Return a function: img, gradient probe -> gradients of WGAN-GP's penalty alone."""
    def gradients(img, grad_probe):
        loss = penalties.gradient_penalty(penalties.input_gradient(D(img + grad_probe), grad_probe)).mean()
        return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return gradients


def inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 2, 8, 8, generator=generator), torch.zeros(3, 2, 8, 8, requires_grad=True)


@pytest.mark.parametrize("activation", [F.leaky_relu, F.relu], ids=["leaky_relu", "relu"])
def test_a_penalty_goes_back_through_its_slope_alone(activation):
    function = penalty_gradients(*critic(activation))
    before, after = traced(function, *inputs())
    # Two layers forward, two input gradients, both once more in the second order; the two weight
    # gradients of that.
    assert count(after, aten.convolution.default) == 6
    assert count(after, aten.convolution_backward.default) == 2
    assert count(before, aten.convolution.default) == 7
    assert count(before, aten.convolution_backward.default) == 4
    for ours, truth in zip(after(*inputs()), function(*inputs()), strict=True):
        torch.testing.assert_close(ours, truth)


def test_what_needs_the_features_keeps_its_way_through_them():
    D, parameters = critic(torch.tanh)  # of which the second derivative is not zero
    function = penalty_gradients(D, parameters)
    before, after = traced(function, *inputs())
    assert count(after, aten.convolution_backward.default) == count(before, aten.convolution_backward.default) == 4
    for ours, truth in zip(after(*inputs()), function(*inputs()), strict=True):
        torch.testing.assert_close(ours, truth)


def test_a_sum_with_zeros_is_its_other_term():
    before, after = traced(
        lambda x: (x + torch.zeros_like(x)) * 2 + (torch.zeros_like(x) * x - torch.zeros_like(x)), torch.randn(3, 4)
    )
    assert count(before, aten.add.Tensor, aten.sub.Tensor) == 3
    assert count(after, aten.add.Tensor, aten.sub.Tensor) == 0
    x = torch.randn(3, 4)
    torch.testing.assert_close(after(x), 2 * x)


@pytest.mark.parametrize("function", [
    lambda x: x[:, :1] + torch.zeros_like(x),  # of another shape
    lambda x: x.bfloat16() + torch.zeros_like(x),  # of another dtype
    lambda x: torch.zeros_like(x) - x,
    lambda x: torch.add(x, torch.ones_like(x), alpha=0.5) + torch.where(x > 0, torch.zeros_like(x), x),
    lambda x: torch.full_like(x, 2) * x / (1 + torch.zeros_like(x)),
    lambda x: F.conv2d(torch.zeros(1, 1, 3, 4), torch.ones(2, 1, 2, 2), x.flatten()[:2]) + 1,  # zeros, but for its bias
], ids=["shape", "dtype", "minus", "terms", "factors", "bias"])  # fmt: skip
def test_what_is_not_zero_stays(function):
    x = torch.randn(3, 4)
    ours, truth = traced(function, x)[1](x), function(x)
    assert ours.dtype == truth.dtype
    torch.testing.assert_close(ours, truth)


def test_zeros_that_somebody_needs_are_written_down():
    before, after = traced(lambda x, y: (torch.zeros_like(x) @ y).exp().sum(0), torch.randn(3, 4), torch.randn(4, 5))
    assert count(before, aten.mm.default) == 1
    assert count(after, aten.mm.default) == 0
    torch.testing.assert_close(after(torch.randn(3, 4), torch.randn(4, 5)), torch.full((5,), 3.0))


@pytest.mark.slow
def test_the_compiled_penalty_has_eager_s_gradients():
    """Through Inductor, zeros removed: float32 to 1e-5 of the largest gradient of a parameter."""
    D, parameters = critic()
    function = penalty_gradients(D, parameters)

    def step(img, grad_probe):
        return function(img, grad_probe)
    img, grad_probe = inputs()
    for ours, expected in zip(
        compile_step(step, [], compiler_options("cpu"))(img, grad_probe), function(img, grad_probe), strict=True
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_the_compiled_step_runs_it(monkeypatch):
    seen = []
    run = ZerosTakenOut.__call__
    monkeypatch.setattr(ZerosTakenOut, "__call__", lambda self, graph: (seen.append(graph), run(self, graph))[1])
    monkeypatch.setattr(GraphPasses, "uuid", lambda self: None)  # not from the cache
    step = compile_step(lambda x: torch.zeros_like(x) @ x + x, [], compiler_options("cpu"))
    x = torch.randn(4, 4)
    torch.testing.assert_close(step(x), x)
    assert len(seen) == 1
    assert not any(node.target is aten.mm.default for node in seen[0].nodes)
