"""Channel sums in one operation: the same numbers, after their inputs and before their uses."""

import pytest
import torch
from graphs import graph_of

from fastgan.engine.passes import channel_sums
from fastgan.engine.passes.channel_sums import SumsTogether
from fastgan.ops.dispatch import autotune, self_checks

aten, together = torch.ops.aten, torch.ops.fastgan.channel_sums.default


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setattr(self_checks, "problem", lambda op, implementation, device_type: None)


def images(*channels):
    return [torch.randn(2, width, 3, 4).contiguous(memory_format=torch.channels_last) for width in channels]


def changed(function, *inputs, device="cuda:0"):
    """Return the graph after the pass; its results must be those of the function."""
    graph = graph_of(function, inputs, device)
    SumsTogether()(graph.graph)
    graph.graph.lint()
    graph.recompile()
    for ours, expected in zip(graph(*inputs), function(*inputs), strict=True):
        torch.testing.assert_close(ours, expected)
        assert ours.stride() == expected.stride()
    return graph


def calls(graph):
    return [node for node in graph.graph.nodes if node.target is together]


def test_sums_of_images_and_of_vectors_are_one_operation():
    def backward(first, second, vectors):
        return (
            first.sum((0, 2, 3)),
            second.relu().sum((0, 2, 3), keepdim=True).view(-1).double(),
            vectors.sum(0),
            vectors.sum(0, True),
        )

    graph = changed(backward, *images(4, 5), torch.randn(6, 3))
    (call,) = calls(graph)
    assert len(call.args[0]) == 4
    assert aten.sum.dim_IntList not in [node.target for node in graph.graph.nodes]


def test_what_needs_a_sum_at_once_ends_the_list():
    def chained(first, second):
        bias = first.sum((0, 2, 3))
        shifted = second + bias.view(1, -1, 1, 1)
        return bias, shifted.sum((0, 2, 3)), second.sum((0, 2, 3))

    graph = changed(chained, *images(4, 4))
    assert [len(call.args[0]) for call in calls(graph)] == [2]
    assert [node.target for node in graph.graph.nodes].count(aten.sum.dim_IntList) == 1


def test_casts_and_views_of_a_sum_wait_with_it():
    def low(first, second):
        a = first.sum((0, 2, 3)).to(torch.float64).view(2, 2)
        return a + 1, second.sum((0, 2, 3)).to(torch.float64) * 2

    def needed(first, second):
        a = first.sum((0, 2, 3)).to(torch.float64).view(2, 2)
        b = second.sum((0, 2, 3)).to(torch.float64)
        return a + 1, b * 2

    assert len(calls(changed(needed, *images(4, 5)))) == 1
    assert not calls(changed(low, *images(4, 5)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: (x.sum((0, 2)), y.sum((0, 2))),
        lambda x, y: (x.sum((0, 2, 3), dtype=torch.float64), y.sum((0, 2, 3), dtype=torch.float64)),
        lambda x, y: (x.contiguous().sum((0, 2, 3)), y.contiguous().sum((0, 2, 3))),
        lambda x, y: (x.double().sum((0, 2, 3)), y.double().sum((0, 2, 3))),
        lambda x, y: (x.sum((0, 2, 3)), y * 2),
        lambda x, y: (x.sum(), y.sum()),
    ],
    ids=["other dimensions", "another dtype", "another format", "float64", "one alone", "all"],
)
def test_other_sums_stay(function):
    assert not calls(changed(function, *images(4, 5)))


def test_each_dtype_has_its_own():
    def backward(a, b, c, d):
        return tuple(x.sum((0, 2, 3)) for x in (a, b.bfloat16(), c, d.bfloat16()))

    assert [call.args[0][0].meta["val"].dtype for call in calls(changed(backward, *images(4, 5, 6, 7)))] == [
        torch.float32,
        torch.bfloat16,
    ]


def test_lists_are_bounded(monkeypatch):
    def backward(*tensors):
        return tuple(x.sum((0, 2, 3)) for x in tensors)

    inputs = images(4, 5, 6, 7, 8)
    for name, bound, sizes in (
        ("MOST_TENSORS", 2, [2, 2]),
        ("MOST_BYTES", 1300, [2, 2]),
        ("MOST_CHANNELS", 15, [3, 2]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(channel_sums, name, bound)
            assert [len(call.args[0]) for call in calls(changed(backward, *inputs))] == sizes, name


def test_a_cpu_keeps_its_sums_and_so_does_a_kernel_that_is_not_trusted(monkeypatch):
    def backward(x, y):
        return x.sum((0, 2, 3)), y.sum((0, 2, 3))

    assert not calls(changed(backward, *images(4, 5), device="cpu"))
    with monkeypatch.context() as patch:
        patch.setattr(autotune, "_forced", {"channel_sums": autotune.REFERENCE})
        assert not calls(changed(backward, *images(4, 5)))
    monkeypatch.setattr(self_checks, "problem", lambda op, implementation, device_type: "it failed its check")
    assert not calls(changed(backward, *images(4, 5)))
