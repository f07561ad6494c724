"""FLOPs from the shapes of a real profile, beside torch's own count."""
import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fastgan.bench.flops import call_flops


def images(*shape):
    return torch.randn(shape, requires_grad=True)


CALLS = {
    "convolution": lambda: F.conv2d(images(2, 3, 9, 7), images(5, 3, 4, 4), None, 2, 1),
    "convolution of no padding": lambda: F.conv2d(images(1, 4, 5, 5), images(2, 4, 2, 2)),
    "dilated and grouped": lambda: F.conv2d(images(1, 4, 12, 9), images(6, 2, 3, 3), images(6), 1, 2, 2, 2),
    "transposed": lambda: F.conv_transpose2d(images(2, 5, 3, 4), images(5, 3, 4, 4), images(3), 2, 1),
    "transposed to an odd size": lambda: F.conv_transpose2d(images(1, 2, 3, 1), images(2, 1, 4, 4), None, 2, 1, 1),
    "product": lambda: images(4, 5) @ images(5, 6),
    "product and sum": lambda: torch.addmm(images(5), images(5, 5), images(5, 5)),
    "products of a batch": lambda: torch.bmm(images(3, 4, 5), images(3, 5, 6)),
}


def count(run):
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True) as profiled:
        run()
    counts = [call_flops(event.name, event.input_shapes, event.concrete_inputs) for event in profiled.events()]
    return sum(filter(None, counts))


@pytest.mark.parametrize("name", CALLS)
def test_forward_the_same_as_torch_counts_and_each_gradient_again(name):
    with FlopCounterMode(display=False) as counter:
        CALLS[name]()
    assert count(CALLS[name]) == counter.get_total_flops() > 0
    # Torch itself counts too much backward with groups
    assert count(lambda: CALLS[name]().sum().backward()) == 3 * counter.get_total_flops()


def test_one_gradient_costs_half_of_two():
    small, big, weight = torch.randn(2, 5, 4, 4), torch.randn(2, 3, 8, 8), torch.randn(5, 3, 4, 4)

    def gradients(mask):
        return lambda: torch.ops.aten.convolution_backward(
            small, big, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [*mask, False]
        )

    assert 2 * count(gradients((True, False))) == 2 * count(gradients((False, True))) == count(gradients((True, True)))


@pytest.mark.parametrize("suffix", ["", "_triton"])
def test_the_three_operators_of_deconv_cost_the_same(suffix):
    small, big, weight = [2, 8, 5, 3], [2, 4, 11, 6], [8, 4, 4, 4]
    expected = 2 * (2 * 8 * 5 * 3) * 4 * 16
    up = [small, weight, [], [], [], [], []], [None, None, None, 11, 6, 0, 0.0]
    down = [big, weight, [], [], []], [None, None, None, 0, 0.0]
    assert call_flops(f"fastgan::deconv_up{suffix}", *up) == expected
    assert call_flops(f"fastgan::deconv_down{suffix}", *down) == expected
    assert call_flops(f"fastgan::deconv_weight{suffix}", [small, big], [None, None]) == expected


def test_what_is_neither_is_not_counted():
    assert call_flops("aten::relu", [[2, 3]], [None]) is None
