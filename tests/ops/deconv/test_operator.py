"""deconv, strided_conv and project against torch's own layers.

The tests compare values and both orders of gradient, compile the operators, and check their errors.
"""
import pytest
import torch
import torch.nn.functional as F
from checking import assert_close_to_truth, check_gradients
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastgan.errors import UserError
from fastgan.ops.deconv import implementations
from fastgan.ops.deconv.operator import ACTIVATIONS, deconv, project, strided_conv
from fastgan.ops.dispatch import autotune, registry, self_checks

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
HERE = ("reference", *(name for name in registry.OPS["deconv"] if registry.unavailable(name, "cpu") is None))


@pytest.fixture(autouse=True)
def nothing_forced(monkeypatch):
    monkeypatch.setattr(autotune, "_forced", {})


@pytest.fixture(params=HERE)
def implementation(request):
    """Run a test with every implementation of this machine."""
    autotune.force({"deconv": request.param})
    return request.param


def random(*shape, dtype=torch.float64, layout="contiguous", seed=0):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=torch.float64)
    return x.to(dtype).contiguous(memory_format=LAYOUTS[layout] if len(shape) == 4 else torch.contiguous_format)


def activated(y, act):
    return {"linear": lambda y: y, "relu": F.relu, "leaky_relu": lambda y: F.leaky_relu(y, 0.2), "tanh": torch.tanh}[
        act
    ](y)


def torch_deconv(x, weight, bias=None, act="linear"):
    return activated(F.conv_transpose2d(x, weight, bias, 2, 1), act)


def torch_strided_conv(x, weight, bias=None, act="linear"):
    return activated(F.conv2d(x, weight, bias, 2, 1), act)


def test_one_pixel_becomes_the_middle_of_the_kernel(implementation):
    """The padding removes the rim of the 4x4 kernel around a pixel; computed by hand."""
    weight = torch.arange(16.0).view(1, 1, 4, 4)
    assert deconv(torch.ones(1, 1, 1, 1), weight)[0, 0].tolist() == [[5.0, 6.0], [9.0, 10.0]]
    assert deconv(torch.full((1, 1, 1, 1), -1.0), weight, torch.tensor([7.0]), "relu")[0, 0].tolist() == [
        [2.0, 1.0],
        [0.0, 0.0],
    ]
    assert strided_conv(torch.ones(1, 1, 2, 2), weight)[0, 0].tolist() == [[5.0 + 6 + 9 + 10]]


def test_they_are_each_other_s_adjoint(implementation):
    """<deconv(x, w), y> = <x, strided_conv(y, w)> for every x, y and w."""
    x, y, weight = random(2, 5, 3, 4), random(2, 3, 6, 8), random(5, 3, 4, 4)
    torch.testing.assert_close((deconv(x, weight) * y).sum(), (x * strided_conv(y, weight)).sum())


@given(
    batch=st.sampled_from([1, 2, 3]),
    channels=st.sampled_from([1, 2, 3, 5, 17]),
    others=st.sampled_from([1, 3, 4, 5, 9]),
    height=st.sampled_from([1, 2, 3, 5]),
    width=st.sampled_from([1, 2, 4, 7]),
    odd=st.booleans(),
    layout=st.sampled_from(sorted(LAYOUTS)),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    act=st.sampled_from(ACTIVATIONS),
    with_bias=st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_values_and_gradients_at_any_size(
    implementation, batch, channels, others, height, width, odd, layout, dtype, act, with_bias
):
    small, weight = random(batch, channels, height, width), random(channels, others, 4, 4)
    big = random(batch, others, 2 * height + odd, 2 * width + odd)
    for ours, reference, x, num_biases in (
        (deconv, torch_deconv, small, others),
        (strided_conv, torch_strided_conv, big, channels),
    ):
        inputs = [x, weight] + ([random(num_biases)] if with_bias else [])
        compare(ours, reference, inputs, dtype, layout, act)


def compare(ours, reference, inputs, dtype, layout, act):
    def results(function, dtype):
        leaves = [
            tensor.to(dtype).contiguous(memory_format=LAYOUTS[layout]) if tensor.ndim == 4 else tensor.to(dtype)
            for tensor in inputs
        ]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        y = function(*leaves, None, act) if len(leaves) == 2 else function(*leaves, act)
        direction = random(*y.shape, seed=1).to(dtype)
        return [y, *torch.autograd.grad(y, leaves, direction)]

    inputs = [tensor.to(dtype).double() for tensor in inputs]
    for each, library, truth in zip(
        results(ours, dtype), results(reference, dtype), results(reference, torch.float64), strict=True
    ):
        # relu and leaky_relu may fall on the other side of zero after another order of sums:
        # nothing close to zero decides more than one rounding.
        assert_close_to_truth(each, library, truth, atol=4 * torch.finfo(dtype).eps * (1 + truth.abs().max().item()))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_gradients_of_both_orders(implementation, act, layout):
    x, weight, bias = random(1, 2, 1, 2, layout=layout), random(2, 2, 4, 4, layout=layout), random(2)
    check_gradients(lambda x, weight, bias: deconv(x, weight, bias, act), (x, weight, bias))
    y, other_bias = random(1, 2, 3, 2, layout=layout), random(2)
    check_gradients(lambda y, weight, bias: strided_conv(y, weight, bias, act), (y, weight, other_bias))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_memory_format_of_the_input_is_kept(implementation, layout):
    x, weight = (
        random(2, 3, 4, 5, dtype=torch.float32, layout=layout),
        random(3, 2, 4, 4, dtype=torch.float32, layout=layout),
    )
    assert deconv(x, weight).is_contiguous(memory_format=LAYOUTS[layout])
    assert strided_conv(x, weight.transpose(0, 1)).is_contiguous(memory_format=LAYOUTS[layout])


def test_images_of_one_channel_count_as_channels_last(implementation):
    """They lie in both formats at once, and only meaningless strides tell them apart."""
    image, weight = random(2, 1, 4, 4, dtype=torch.float32), random(3, 1, 4, 4, dtype=torch.float32)
    for x in (image, image.contiguous(memory_format=torch.channels_last), image.as_strided(image.shape, (16, 1, 4, 1))):
        y = strided_conv(x, weight)
        assert y.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(y, torch_strided_conv(image, weight))


def test_views_that_are_not_dense_are_handled(implementation):
    wide = random(2, 3, 8, 10, dtype=torch.float32)
    weight = random(8, 3, 4, 4, dtype=torch.float32)[::2]
    torch.testing.assert_close(
        strided_conv(wide[:, :, ::2, 1:7], weight), torch_strided_conv(wide[:, :, ::2, 1:7], weight)
    )
    turned = wide.transpose(2, 3)[..., ::3]
    torch.testing.assert_close(deconv(turned, weight.transpose(0, 1)), torch_deconv(turned, weight.transpose(0, 1)))


def test_an_empty_batch_has_an_empty_result_and_zero_gradients():
    weight = random(3, 2, 4, 4, dtype=torch.float32).requires_grad_()
    y = deconv(torch.zeros(0, 3, 2, 2), weight)
    assert y.shape == (0, 2, 4, 4)
    assert not torch.autograd.grad(y.sum(), weight)[0].any()


def test_a_gradient_penalty_through_both_equals_torch_s(implementation):
    x, down, up = random(3, 2, 6, 4), random(5, 2, 4, 4).requires_grad_(), random(5, 3, 4, 4).requires_grad_()

    def penalty_gradients(conv, transposed):
        leaf = x.clone().requires_grad_()
        out = transposed(conv(leaf, down, act="leaky_relu"), up, act="tanh").square().sum()
        (grad,) = torch.autograd.grad(out, leaf, create_graph=True)
        return torch.autograd.grad((grad.flatten(1).norm(dim=1) - 1).square().sum(), (down, up))

    for ours, theirs in zip(
        penalty_gradients(strided_conv, deconv), penalty_gradients(torch_strided_conv, torch_deconv), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_only_the_gradients_that_are_asked_for_are_computed(monkeypatch):
    called = []
    for direction in ("up", "down", "weight"):
        reference = getattr(implementations, f"{direction}_reference")
        monkeypatch.setattr(
            implementations,
            f"{direction}_reference",
            lambda *args, d=direction, f=reference: called.append(d) or f(*args),
        )
    x, weight = random(2, 3, 4, 4).requires_grad_(), random(3, 2, 4, 4).requires_grad_()
    for inputs, expected in (((x,), ["down"]), ((weight,), ["weight"]), ((x, weight), ["down", "weight"])):
        y = deconv(x, weight).sum()
        called.clear()
        torch.autograd.grad(y, inputs)
        assert called == expected
        y = deconv(x * 2, weight * 2).sum()  # the same where neither is a leaf
        called.clear()
        torch.autograd.grad(y, inputs)
        assert called == expected
    deconv(x, weight).sum().backward()
    torch.testing.assert_close(x.grad, torch.autograd.grad(torch_deconv(x, weight).sum(), x)[0])


def test_autocast_computes_in_its_dtype_and_gradients_come_back_in_that_of_the_leaves(implementation):
    x, weight = (
        random(2, 3, 4, 4, dtype=torch.float32).requires_grad_(),
        random(3, 2, 4, 4, dtype=torch.float32).requires_grad_(),
    )
    with torch.autocast("cpu", torch.bfloat16):
        y, z = deconv(x, weight), project(x[:, :, :1, :1], weight)
    assert y.dtype == z.dtype == torch.bfloat16
    assert {gradient.dtype for gradient in torch.autograd.grad(y.float().sum() + z.float().sum(), (x, weight))} == {
        torch.float32
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_projection_is_the_transposed_convolution_of_one_pixel(layout):
    z, weight = random(3, 5, 1, 1), random(5, 2, 4, 4, layout=layout)
    torch.testing.assert_close(project(z, weight), F.conv_transpose2d(z, weight))
    assert project(z, weight).is_contiguous(memory_format=LAYOUTS[layout])
    bias = random(2)
    torch.testing.assert_close(
        project(z, weight, bias, "leaky_relu"), activated(F.conv_transpose2d(z, weight, bias), "leaky_relu")
    )
    check_gradients(lambda z, weight, bias: project(z, weight, bias, "tanh"), (z, weight, bias))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_whole_update_with_a_penalty_in_one_graph(implementation, backend):
    """The graph contains gradients of both orders, as in a step with a penalty on real images."""
    z, real_img = (
        random(2, 4, 3, 3, dtype=torch.float32),
        random(2, 3, 6, 6, dtype=torch.float32, seed=1).requires_grad_(),
    )
    weights = [random(4, 3, 4, 4, dtype=torch.float32), random(5, 3, 4, 4, dtype=torch.float32)]
    up, down = (weight.contiguous(memory_format=torch.channels_last).requires_grad_() for weight in weights)

    def update(z, real_img):
        img = deconv(z, up, act="tanh")
        (grad,) = torch.autograd.grad(strided_conv(real_img, down).relu().square().sum(), real_img, create_graph=True)
        d_loss = strided_conv(img.detach(), down).mean() + grad.square().sum()
        g_loss = strided_conv(img, down).square().mean()
        return *torch.autograd.grad(d_loss, [down]), *torch.autograd.grad(g_loss, [up])

    # The form is chosen while tracing, so a graph of the last implementation would pass for this
    # one.
    torch._dynamo.reset()
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(update, fullgraph=True, backend=backend)(z, real_img)
    for ours, eager in zip(compiled, update(z, real_img), strict=True):
        assert (ours - eager).norm() < 1e-5 * eager.norm()  # sums of another order; single elements cancel to anything


def test_function_transforms_and_forward_mode_get_the_right_derivatives():
    x, weight, tangent = random(2, 3, 4, 4), random(3, 2, 4, 4), random(2, 3, 4, 4, seed=1)
    for ours, theirs, w in ((deconv, torch_deconv, weight), (strided_conv, torch_strided_conv, weight.transpose(0, 1))):
        gradients = [torch.func.grad(lambda x, f=f, w=w: f(x, w).sum())(x) for f in (ours, theirs)]
        torch.testing.assert_close(*gradients)
        torch.testing.assert_close(
            torch.func.jvp(lambda x, f=ours, w=w: f(x, w), (x,), (tangent,))[1], theirs(tangent, w)
        )


@pytest.mark.skipif("cpu" not in HERE, reason=str(registry.native_problem("cpu")))
def test_torch_registers_the_native_operators_correctly():
    small, big, weight = (
        random(*shape, dtype=torch.float32, layout="channels_last")
        for shape in ((2, 4, 3, 5), (2, 3, 6, 10), (4, 3, 4, 4))
    )
    native = torch.ops.fastgan
    torch.library.opcheck(native.deconv_up, (small, weight, torch.randn(3), 6, 10, 3, 0.2))
    torch.library.opcheck(native.deconv_up, (small, weight, None, 7, 11, 0, 0.2))
    torch.library.opcheck(native.deconv_down, (big, weight, torch.randn(4), 2, 0.2))
    torch.library.opcheck(native.deconv_weight, (small, big))


@pytest.mark.skipif("cpu" not in HERE, reason=str(registry.native_problem("cpu")))
def test_the_native_weight_gradient_runs_inside_the_autograd_of_deconv(monkeypatch):
    assert self_checks.problem("deconv", "cpu", "cpu") is None  # before: it calls the kernel, too
    called = []
    monkeypatch.setattr(
        implementations,
        "weight_native",
        lambda *args: called.append("weight") or implementations.weight_reference(*args),
    )
    autotune.force({"deconv": "cpu"})
    x, weight = random(2, 3, 4, 4, dtype=torch.float32), random(3, 2, 4, 4, dtype=torch.float32).requires_grad_()
    torch.autograd.grad(deconv(x, weight).sum(), weight)
    assert called == ["weight"]


@pytest.mark.gpu
def test_the_compiler_knows_what_the_triton_operators_return():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        small, big, weight = (
            torch.empty(shape, device="cuda", dtype=torch.bfloat16)
            for shape in ((2, 4, 3, 5), (2, 3, 7, 10), (4, 3, 4, 4))
        )
        y = implementations.up_triton(small, weight, None, (7, 10), "tanh", 0.2)
        assert (y.shape, y.dtype, y.is_contiguous()) == (big.shape, torch.bfloat16, True)
        assert implementations.down_triton(big, weight, None, "linear", 0.2).shape == small.shape
        assert implementations.weight_triton(small, big).shape == weight.shape


X, W = torch.zeros(2, 3, 4, 4), torch.zeros(3, 5, 4, 4)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((X[0], W), r"not \[3, 4, 4\]"),
        ((X, W[..., :3]), r"\[3, 5, 4, 3\]"),
        ((X[:, :2], W), r"x \[2, 2, 4, 4\] and weight \[3, 5, 4, 4\] do not fit: 3 channels"),
        ((X[:, :0], W[:0]), "do not fit"),
        ((X[:, :, :0], W), "do not fit"),
        ((X, W, torch.zeros(3)), r"bias must be \[5\]"),
        ((X, W, None, "gelu"), "gelu"),
        ((X.int(), W.int()), "torch.int32"),
        ((X, W.double()), "torch.float32, torch.float64"),
        ((X, W.to("meta")), "one device, not on cpu, meta"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_shapes(arguments, named):
    with pytest.raises(UserError, match=named):
        deconv(*arguments)


def test_the_mirror_images_are_refused_alike():
    with pytest.raises(UserError, match=r"x \[2, 3, 4, 4\] and weight \[3, 5, 4, 4\] do not fit: 5 channels"):
        strided_conv(X, W)
    with pytest.raises(UserError, match=r"x is \[2, 5, 1, 4\]; its height and width must be 2 or more"):
        strided_conv(torch.zeros(2, 5, 1, 4), W)
    with pytest.raises(UserError, match=r"z is \[2, 3, 4, 4\]"):
        project(X, W)
