"""Convolutions that can be differentiated to any order, in every geometry.

Values are compared with the library's, gradients in both orders.
"""
import pytest
import torch
import torch.nn.functional as F
from checking import assert_close_to_truth

from fastgan.nn.convolutions import Conv2d, ConvTranspose2d
from fastgan.ops import conv
from fastgan.ops.dispatch import autotune

# Stride, padding, taps, groups, height and width of the big image: 1x1 and whole images, odd ends,
# groups of one channel, strides without and with samples that no filter reaches.
GEOMETRIES = [
    (1, 0, 1, 1, 3, 1), (1, 2, 3, 1, 5, 4), (1, 2, 2, 2, 4, 5),
    (1, 1, 3, 1, 5, 6), (1, 1, 3, 2, 4, 4), (1, 1, 3, 4, 4, 3), (2, 2, 5, 1, 6, 8), (2, 2, 5, 1, 7, 5),
    (2, 1, 3, 1, 5, 6), (2, 0, 3, 1, 7, 9), (2, 0, 3, 1, 8, 8), (2, 1, 4, 2, 6, 6), (2, 0, 1, 1, 5, 4),
    (3, 1, 3, 1, 7, 8), (1, 0, 4, 1, 4, 4),
]  # fmt: skip
DOUBLE = {"dtype": torch.float64, "requires_grad": True}


@pytest.fixture(autouse=True, params=("reference", "subpixel", "flipped"))
def form(request, monkeypatch):
    """Force one form of the transposed convolution, where it fits."""
    forms = conv._up_forms
    monkeypatch.setattr(
        conv,
        "_up_forms",
        lambda *arguments: {"reference": forms(*arguments).get(request.param, forms(*arguments)["reference"])},
    )


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_conv2d_is_the_library_s_with_gradients_of_both_orders(geometry):
    stride, padding, taps, groups, height, width = geometry
    x, weight = torch.randn(2, 4, height, width, **DOUBLE), torch.randn(8, 4 // groups, taps, taps, **DOUBLE)
    bias = torch.randn(8, **DOUBLE)

    def ours(x, weight, bias):
        return conv.conv2d(x, weight, bias, stride, padding, groups)

    torch.testing.assert_close(ours(x, weight, bias), F.conv2d(x, weight, bias, stride, padding, groups=groups))
    assert torch.autograd.gradcheck(ours, (x, weight, bias), fast_mode=True)
    assert torch.autograd.gradgradcheck(ours, (x, weight, bias), fast_mode=True)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_conv_transpose2d_is_the_library_s_with_gradients_of_both_orders(geometry):
    stride, padding, taps, groups, height, width = geometry
    size = [(length + 2 * padding - taps) // stride + 1 for length in (height, width)]
    left = (height + 2 * padding - taps) % stride
    x, weight = torch.randn(2, 4, *size, **DOUBLE), torch.randn(4, 8 // groups, taps, taps, **DOUBLE)
    bias = torch.randn(8, **DOUBLE)

    def ours(x, weight, bias):
        return conv.conv_transpose2d(x, weight, bias, stride, padding, left, groups)

    torch.testing.assert_close(
        ours(x, weight, bias), F.conv_transpose2d(x, weight, bias, stride, padding, left, groups)
    )
    assert torch.autograd.gradcheck(ours, (x, weight, bias), fast_mode=True)
    assert torch.autograd.gradgradcheck(ours, (x, weight, bias), fast_mode=True)


def penalty_gradients(img, weights, conv2d):
    """Return the weight gradients of the mean squared input gradient of two layers."""
    img, weights = img.requires_grad_(), [weight.requires_grad_() for weight in weights]
    h = F.leaky_relu(conv2d(img, weights[0], None, 1, 1), 0.2)
    logits = F.softplus(conv2d(h, weights[1], None, 2, 2, groups=3)).sum()
    (slope,) = torch.autograd.grad(logits, img, create_graph=True)
    return torch.autograd.grad(slope.square().sum(), weights)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_penalty_has_the_library_s_gradients(memory_format):
    torch.manual_seed(0)
    tensors = torch.randn(3, 3, 8, 6), torch.randn(6, 3, 3, 3) / 5, torch.randn(9, 2, 5, 5) / 7

    def gradients(dtype, conv2d):
        img, *weights = (tensor.to(dtype, memory_format=memory_format) for tensor in tensors)
        return penalty_gradients(img, weights, conv2d)

    truth = gradients(torch.float64, F.conv2d)
    for ours, reference, exact in zip(
        gradients(torch.float32, conv.conv2d), gradients(torch.float32, F.conv2d), truth, strict=True
    ):
        assert_close_to_truth(ours, reference, exact, atol=4e-6 * exact.abs().max().item())
        assert ours.is_contiguous(memory_format=memory_format)


def test_an_image_of_one_channel_gives_channels_last_whatever_its_strides_say():
    """The compiler does not keep these strides, and the library guesses the format by them.

    The next layer, and its gradients, would be in another format.
    """
    weight = torch.randn(5, 1, 3, 3, requires_grad=True)
    for img in (torch.randn(2, 1, 6, 4), torch.randn(2, 6, 4, 1).permute(0, 3, 1, 2)):
        y = conv.conv2d(img, weight, padding=1)
        assert y.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(y, F.conv2d(img, weight, padding=1))
        (dweight,) = torch.autograd.grad(y.square().sum(), weight)
        torch.testing.assert_close(
            dweight, torch.autograd.grad(F.conv2d(img, weight, padding=1).square().sum(), weight)[0]
        )


@pytest.mark.parametrize("implementation", sorted(conv.CHECKED))
def test_the_self_check_finds_what_is_wrong(monkeypatch, implementation):
    device = torch.device("cpu")
    monkeypatch.undo()  # the forms as they are
    assert conv.self_check(implementation, device) is None
    function = getattr(conv, f"up_{implementation}")
    monkeypatch.setattr(conv, f"up_{implementation}", lambda *arguments: function(*arguments) * 1.001)
    assert "a transposed convolution" in conv.self_check(implementation, device)


def test_the_weight_s_second_order_has_no_convolution_with_filters_as_large_as_images():
    """The library's is slow for this reason: it exchanges batch and channels."""
    img, weights = torch.randn(3, 3, 8, 6), [torch.randn(6, 3, 3, 3), torch.randn(9, 2, 5, 5)]
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True, acc_events=True
    ) as profile:
        penalty_gradients(img, weights, conv.conv2d)
    filters = [event.input_shapes[1] for event in profile.events() if event.name == "aten::convolution"]
    assert {tuple(shape[2:]) for shape in filters} <= {(3, 3), (5, 5)}
    assert len(filters) > 4


def test_autocast_computes_in_its_dtype_and_gradients_come_back_in_that_of_the_parameters():
    x, weight = torch.randn(2, 3, 6, 6, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = conv.conv2d(x, weight, padding=1)
        z = conv.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    assert y.dtype == z.dtype == torch.bfloat16
    assert {gradient.dtype for gradient in torch.autograd.grad(y.sum() + z.sum(), (x, weight))} == {torch.float32}


@pytest.mark.parametrize("output_padding", [0, 1])
def test_the_layers_are_torch_s_with_their_state(output_padding):
    x = torch.randn(2, 4, 7, 5)
    for ours, theirs in (
        (Conv2d(4, 6, 3, 2, 1, groups=2), torch.nn.Conv2d(4, 6, 3, 2, 1, groups=2)),
        (
            ConvTranspose2d(4, 6, 5, 2, 2, output_padding),
            torch.nn.ConvTranspose2d(4, 6, 5, 2, 2, output_padding),
        ),
    ):
        ours.load_state_dict(theirs.state_dict())
        torch.testing.assert_close(ours(x), theirs(x))


def test_it_is_traced_as_one_graph_with_its_second_order():
    img, weight = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3, requires_grad=True)
    grad_probe = torch.zeros(2, 3, 6, 6, requires_grad=True)

    def penalty(img, weight):
        (slope,) = torch.autograd.grad(
            conv.conv2d(img + grad_probe, weight, stride=2, padding=1).square().sum(), grad_probe, create_graph=True
        )
        return torch.autograd.grad(slope.square().sum(), weight)[0]

    torch._dynamo.reset()
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(penalty, backend="aot_eager", fullgraph=True, dynamic=False)
        torch.testing.assert_close(compiled(img, weight), penalty(img, weight))


def test_reference_means_the_library_s_operator_with_its_own_gradients(monkeypatch):
    x, weight = torch.randn(1, 1, 4, 4, requires_grad=True), torch.randn(1, 1, 3, 3)
    assert conv.conv2d(x, weight, padding=1).grad_fn.name() == "_DownBackward"
    monkeypatch.setattr(autotune, "_forced", {"conv": autotune.REFERENCE})
    assert conv.conv2d(x, weight, padding=1).grad_fn.name() == "ConvolutionBackward0"
