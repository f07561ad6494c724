"""Strides of torch's results, and templates that the compiler allocates without writing them."""
import itertools

import pytest
import torch
from torch._inductor.debug import DebugContext
from torch._inductor.graph import GraphLowering
from torch._inductor.virtualized import V
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from fastgan.ops import conv
from fastgan.ops.deconv import implementations
from fastgan.ops.memory_formats import in_format, uninitialised

FORMATS = (torch.contiguous_format, torch.channels_last)


def conv_weight(small, big):
    return conv._weight(small, big, conv._Geometry(2, 1, 1), (4, 4))


@pytest.mark.parametrize("before", FORMATS)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("num_channels", [1, 3])
def test_an_image_is_put_into_a_format_with_the_strides_of_torch(num_channels, memory_format, before):
    x = torch.randn(2, num_channels, 4, 5)
    ours = in_format(torch.empty_like(x, memory_format=before).copy_(x), memory_format)
    assert torch.equal(ours, x)
    assert ours.stride() == torch.empty(x.shape, memory_format=memory_format).stride()
    assert in_format(ours, memory_format) is ours


@pytest.mark.parametrize("memory_format", FORMATS)
def test_strides_are_those_of_torch(memory_format):
    for shape in itertools.product((1, 3, 8), (1, 2, 16), (1, 3), (1, 4)):
        for dtype in (torch.float32, torch.bfloat16):
            ours = uninitialised(shape, memory_format, torch.zeros(1, dtype=dtype))
            theirs = torch.empty(shape, dtype=dtype, memory_format=memory_format)
            assert (ours.shape, ours.stride(), ours.dtype) == (theirs.shape, theirs.stride(), theirs.dtype)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(
    "weight_gradient", [implementations.weight_reference, implementations.weight_subpixel, conv_weight]
)
def test_a_weight_gradient_does_not_depend_on_what_lies_in_its_template(weight_gradient, memory_format):
    torch.manual_seed(0)
    small, big = (
        torch.randn(2, 6, 5, 4).to(memory_format=memory_format),
        torch.randn(2, 3, 10, 8).to(memory_format=memory_format),
    )
    weight = torch.zeros(6, 3, 4, 4).to(memory_format=memory_format)
    arguments = (small, big, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False])
    expected = torch.ops.aten.convolution_backward(*arguments)[1]
    ours = weight_gradient(small, big)
    assert ours.stride() == expected.stride()
    torch.testing.assert_close(ours, expected)


def test_the_compiler_allocates_templates_and_fills_none():
    """On the CPU, Inductor's kernel for torch.empty writes NaN; on CUDA it writes as much.

    Nothing else here writes NaN.
    """

    def gradients(small, big):
        return (
            implementations.weight_reference(small, big),
            conv_weight(small, big),
            implementations.weight_subpixel(small, big),
        )

    code = generated_code(
        gradients,
        *(torch.randn(2, num, size, size).to(memory_format=torch.channels_last) for num, size in ((8, 4), (4, 8))),
    )
    assert code.count("convolution_backward.default(") == 3
    assert "quiet_NaN" not in code


def generated_code(function, *inputs):
    """Return the code that Inductor writes for a function, without the build of ten seconds."""
    graph = GraphLowering(make_fx(function)(*inputs))
    mode = FakeTensorMode()
    with V.set_graph_handler(graph), V.set_fake_mode(mode), V.set_debug_handler(DebugContext()):
        graph.run(*map(mode.from_tensor, inputs))
        return graph.codegen()[0].value
