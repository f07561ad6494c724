import copy

import torch
from torch import nn

from fastgan.engine.batchnorm_counters import BatchCounters
from fastgan.nn.layers import BatchNorm2d, in_parts


def network() -> nn.Sequential:
    averaging, without_statistics = nn.BatchNorm1d(3, momentum=None), nn.BatchNorm1d(3, track_running_stats=False)
    return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), averaging, without_statistics, nn.BatchNorm1d(3))


def count(net: nn.Module) -> list[int | None]:
    return [
        None if layer.num_batches_tracked is None else layer.num_batches_tracked.item()
        for layer in net
        if isinstance(layer, nn.BatchNorm1d)
    ]


def test_layers_count_nothing_and_are_brought_up_to_date():
    net = network()
    average, x = copy.deepcopy(net), torch.randn(4, 3)
    tensors = [layer.num_batches_tracked for layer in (net[0], net[4], average[0])]
    counters = BatchCounters([net], copies=[(net, average)])
    with counters.off():
        # It averages by its counter.
        assert [name for name, _ in net.named_buffers() if "tracked" in name] == ["2.num_batches_tracked"]
        with counters.watching("plain", num_steps=2):
            for _ in range(2):
                net(x), net(x), net[4](x)
        with counters.watching("other", num_steps=1):
            net(x)
    assert count(net) == [0, 5, None, 0]
    counters.add("plain", 10)
    counters.add("other")
    assert count(net)[0] == 0
    counters.write()
    counters.write()  # once only
    assert count(net) == [21, 5, None, 31]
    assert count(average) == [21, 0, None, 31]
    assert [layer.num_batches_tracked for layer in (net[0], net[4], average[0])] == tensors
    assert all(
        layer.num_batches_tracked is tensor for layer, tensor in zip((net[0], net[4], average[0]), tensors, strict=True)
    )


def test_running_statistics_are_those_of_a_layer_that_counts():
    net, x = network(), torch.randn(4, 3)
    other = copy.deepcopy(net)
    with BatchCounters([net]).off():
        net(x), net(x)
    other(x), other(x)
    assert torch.equal(net[0].running_mean, other[0].running_mean)
    assert torch.equal(net[2].running_var, other[2].running_var)


def test_a_frozen_layer_counts_nothing():
    net = network()
    net[0].eval()
    counters = BatchCounters([net])
    with counters.off(), counters.watching("plain", 1):
        net(torch.randn(4, 3))
    counters.add("plain", 3)
    counters.write()
    assert count(net) == [0, 1, None, 3]


def test_an_exception_leaves_the_counters_in_their_layers():
    net = network()
    counters = BatchCounters([net])
    try:
        with counters.off():
            raise KeyError
    except KeyError:
        pass
    assert count(net) == [0, 0, None, 0]


def test_a_pass_of_two_batches_counts_twice():
    plain, watched = nn.Sequential(BatchNorm2d(3)), nn.Sequential(BatchNorm2d(3))
    counters, x = BatchCounters([watched]), torch.randn(4, 3, 2, 2)

    def step(D):
        with in_parts(D, 2):
            D(x)
        D(x)

    step(plain)
    with counters.off(), counters.watching("step", num_steps=1):
        step(watched)
    counters.add("step")
    counters.write()
    assert plain[0].num_batches_tracked == watched[0].num_batches_tracked == 3
