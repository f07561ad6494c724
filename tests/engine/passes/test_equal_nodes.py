"""Equal operations on a graph's inputs are merged, others stay."""

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from fastgan.engine.passes import GraphPasses
from fastgan.engine.passes.equal_nodes import EqualsOnce

aten = torch.ops.aten


def changed(function, *inputs):
    """Return the graph of a function after the pass; its results must be the same to the bit."""
    before, graph = (make_fx(function)(*inputs) for _ in range(2))
    EqualsOnce()(graph.graph)
    graph.recompile()
    torch.manual_seed(0)
    ours = graph(*inputs)
    torch.manual_seed(0)
    for each, expected in zip(ours, before(*inputs), strict=True):
        assert torch.equal(each, expected)
        assert (each.dtype, each.stride()) == (expected.dtype, expected.stride())
    return graph


def count(graph, target):
    return sum(node.target == target for node in graph.graph.nodes)


def test_what_is_made_of_weights_twice_is_made_once():
    def norms(weight, style, other):
        first = (style @ weight.square().sum((2, 3)) + 1).rsqrt()
        return first, (other @ weight.square().sum((2, 3)) + 1).rsqrt()

    graph = changed(norms, torch.randn(3, 4, 2, 2), torch.rand(5, 3), torch.rand(5, 3))
    assert count(graph, aten.pow.Tensor_Scalar) == count(graph, aten.sum.dim_IntList) == 1
    assert count(graph, aten.mm.default) == 2


def test_lists_of_tensors_are_arguments_too():
    graph = changed(
        lambda a, b: (torch.stack([a, b]) + 1, torch.stack([a, b]) + 2, torch.stack([b, a])), *torch.randn(2, 3)
    )
    assert count(graph, aten.stack.default) == 2


def test_other_arguments_make_another_result():
    def alike(x):
        return x + 1, x + 1.5, x.sum(0), x.sum(0, keepdim=True), x.to(torch.float64), x.to(torch.bfloat16)

    before = make_fx(alike)(torch.randn(2, 3))
    assert len(changed(alike, torch.randn(2, 3)).graph.nodes) == len(before.graph.nodes)


def test_an_integer_and_the_equal_float_are_different_arguments():
    graph = changed(lambda x: (x * 2, x * 2.0, x * 2), torch.arange(3))
    assert count(graph, aten.mul.Tensor) == 2


def test_what_is_computed_of_activations_stays_where_it_is():
    def activations(weight, x):
        y = x @ weight
        return y.relu() + 1, y.relu() + 2

    assert count(changed(activations, torch.randn(3, 4), torch.randn(2, 3)), aten.relu.default) == 2


def test_equal_sums_of_activations_are_one():
    """The sums are bias gradients of two convolutions whose results are added."""

    def biases(dy, weight):
        dz = dy @ weight
        return dz.sum(0) + 1, dz.sum(0).to(torch.bfloat16), dz.sum(1), dz.sum()

    graph = changed(biases, torch.randn(3, 4), torch.randn(4, 2))
    assert count(graph, aten.sum.dim_IntList) == 2


def test_equal_sums_in_bf16_compile():
    """On a chip with AVX-512, torch 2.13 writes C++ for them that declares one name twice."""

    def biases(dy):
        dz = dy * 2
        return dz.sum((0, 2, 3)), dz.sum((0, 2, 3))

    dy = torch.randn(2, 32, 4, 4).bfloat16().contiguous(memory_format=torch.channels_last)
    compiled = torch.compile(biases, options={"post_grad_custom_pre_pass": GraphPasses()})
    torch.testing.assert_close(compiled(dy), biases(dy))


def test_random_numbers_are_drawn_each_time():
    graph = changed(
        lambda x: (torch.rand_like(x), torch.rand_like(x), torch.bernoulli(x), torch.bernoulli(x)), torch.rand(4)
    )
    assert count(graph, aten.rand_like.default) == count(graph, aten.bernoulli.default) == 2


def test_filters_are_made_once_and_memory_that_is_not_filled_each_time():
    def made_of_nothing(x):
        first, second = ((torch.arange(3) * 2.0).expand(2, 3).contiguous() for _ in range(2))
        return x @ first, x @ second, torch.zeros_like(torch.empty(3)), torch.zeros_like(torch.empty(3))

    graph = changed(made_of_nothing, torch.randn(4, 2))
    assert count(graph, aten.arange.default) + count(graph, aten.arange.start) == count(graph, aten.clone.default) == 1
    assert count(graph, aten.empty.memory_format) == 2
