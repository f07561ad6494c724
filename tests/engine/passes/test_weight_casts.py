"""Casts and scalings of weights in one launch: the same numbers, equal ones once.

Nothing else in the graph changes.
"""
import torch
from graphs import graph_of

from fastgan.engine.passes.weight_casts import WeightsTogether

aten = torch.ops.aten


def used_twice(x, weight, bias, wide):
    """Use a channels_last weight in two passes, with a bias and other casts.

    One other tensor has another dtype, and one cast is of a computed result.
    """
    low, again = weight.to(torch.bfloat16), weight.to(torch.bfloat16)
    return (
        (x * 2).to(torch.bfloat16) + low,
        again * 3 + bias.to(torch.bfloat16).view(1, -1, 1, 1),
        wide.to(torch.float64),
    )


def changed(function, inputs, device="cuda:0"):
    graph = graph_of(function, inputs, device)
    WeightsTogether()(graph.graph)
    graph.recompile()
    return graph


def targets(graph):
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def example():
    weight = torch.randn(4, 3, 2, 5).contiguous(memory_format=torch.channels_last)
    return torch.randn_like(weight), weight, torch.randn(3), torch.randn(2)


def test_equal_casts_become_one_and_all_of_a_dtype_one_operation():
    inputs = example()
    graph = changed(used_twice, inputs)
    assert targets(graph).count(aten._foreach_copy.default) == 1
    (together,) = (node for node in graph.graph.nodes if node.target == aten._foreach_copy.default)
    assert len(together.args[1]) == 2  # the weight once, and the bias
    assert targets(graph).count(aten._to_copy.default) == 2  # of a computed result, and the only one to float64
    for ours, expected in zip(graph(*inputs), used_twice(*inputs), strict=True):
        assert torch.equal(ours, expected)
        assert (ours.dtype, ours.stride()) == (expected.dtype, expected.stride())


def test_a_cpu_keeps_its_casts():
    """On a CPU casts are parts of its loops, and a list of casts would be as many loops."""
    assert aten._foreach_copy.default not in targets(changed(used_twice, example(), "cpu"))


def test_a_cast_that_does_more_stays():
    def moves(weight, bias):
        return weight.to(torch.bfloat16, memory_format=torch.contiguous_format), bias.to(torch.bfloat16)

    assert aten._foreach_copy.default not in targets(changed(moves, example()[1:3]))


def test_integers_stay():
    def of_integers(labels, weight):
        return labels.to(torch.float32), weight.to(torch.int64), labels.to(torch.float32)

    assert aten._foreach_copy.default not in targets(changed(of_integers, (torch.arange(3), torch.randn(3))))


def test_products_with_numbers_come_before_the_casts_of_them():
    def equalised(weight, bias):
        scaled = weight * 0.25
        return (
            scaled.to(torch.bfloat16) + 1,
            (weight * 0.25).to(torch.bfloat16),
            (bias * 0.25).to(torch.bfloat16),
            bias * 0.5,
        )

    inputs = example()[1:3]
    graph = changed(equalised, inputs)
    assert targets(graph).count(aten._foreach_mul.Scalar) == 1
    assert targets(graph).count(aten._foreach_copy.default) == 1
    for ours, expected in zip(graph(*inputs), equalised(*inputs), strict=True):
        assert torch.equal(ours, expected)
        assert (ours.dtype, ours.stride()) == (expected.dtype, expected.stride())
