"""Normalisation of weights and of features, against closed forms and other implementations."""
import copy

import numpy as np
import pytest
import torch
from checking import check_gradients
from torch import nn

from fastgan.nn.layers import BatchNorm2d, Deconv, Projection, StridedConv
from fastgan.nn.norms import ImageNorm, Spectral, WeightNorm, class_batch_norm, normalisation, normalise_weights

# A layer, what it takes, and its weight as the matrix [outputs, everything else].
LAYERS = {
    "linear": (lambda: nn.Linear(5, 3), (2, 5), lambda w: w),
    "conv": (lambda: nn.Conv2d(3, 4, 3, padding=1), (2, 3, 5, 4), lambda w: w.flatten(1)),
    "pixel": (lambda: nn.Conv2d(1, 1, 1), (1, 1, 1, 1), lambda w: w.flatten(1)),
    "deconv": (lambda: nn.ConvTranspose2d(3, 4, 4, 2, 1), (2, 3, 3, 2), lambda w: w.transpose(0, 1).flatten(1)),
    "fused deconv": (lambda: Deconv(3, 4, act="tanh"), (2, 3, 3, 2), lambda w: w.transpose(0, 1).flatten(1)),
    "fused strided": (lambda: StridedConv(3, 4), (2, 3, 6, 4), lambda w: w.flatten(1)),
    "projection": (lambda: Projection(5, 3), (2, 5, 1, 1), lambda w: w.transpose(0, 1).flatten(1)),
    "embedding": (lambda: nn.Embedding(6, 3), None, lambda w: w),
}
layers = pytest.mark.parametrize("name", LAYERS)
compiled = torch._dynamo.config.patch(trace_autograd_ops=True)


def made(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Return (layer, an input for it)."""
    torch.manual_seed(0)
    make, shape, _ = LAYERS[name]
    return make(), torch.tensor([0, 5, 5]) if shape is None else torch.randn(shape)


def with_weight(layer: nn.Module, weight: torch.Tensor) -> nn.Module:
    """Return a copy of the layer with another weight."""
    other = copy.deepcopy(layer)
    other.weight.data.copy_(weight)
    return other


# --- spectral ---------------------------------------------------------------------------------------------------------


@layers
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_weight_is_divided_by_its_largest_singular_value(name, channels_last):
    layer, x = made(name)
    sigma = np.linalg.svd(LAYERS[name][2](layer.weight.detach()).double().numpy(), compute_uv=False)[0]
    expected = with_weight(layer, layer.weight.detach() / sigma)(x)
    spectral = Spectral(layer)
    if channels_last:
        spectral = spectral.to(memory_format=torch.channels_last)
    for _ in range(300):
        spectral(x)
    torch.testing.assert_close(spectral(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "conv", "deconv", "embedding"])
def test_a_pass_and_its_gradient_equal_torchs(name):
    """Torch iterates in the other order.

    After the same v, its u and then its v are ours one step later.
    """
    layer, x = made(name)
    theirs = torch.nn.utils.parametrizations.spectral_norm(copy.deepcopy(layer), eps=1e-12)
    ours = Spectral(layer)
    matrix = LAYERS[name][2](layer.weight.detach())
    torch_buffers = theirs.parametrizations.weight[0]
    v = torch.nn.functional.normalize(matrix.T @ ours.u, dim=0)
    torch_buffers._v.copy_(v)
    torch_buffers._u.copy_(torch.nn.functional.normalize(matrix @ v, dim=0))
    theirs.eval()  # sigma of exactly these vectors
    y = ours(x)
    torch.testing.assert_close(ours.u, torch_buffers._u)
    torch.testing.assert_close(y, theirs(x))
    dy = torch.randn_like(y)
    (ours_grad,) = torch.autograd.grad(y, layer.weight, dy)
    (theirs_grad,) = torch.autograd.grad(theirs(x), theirs.parametrizations.weight.original, dy)
    torch.testing.assert_close(ours_grad, theirs_grad, rtol=1e-4, atol=1e-5)


def test_gradients_of_both_orders_with_the_iteration_held():
    torch.manual_seed(0)
    layer = Spectral(nn.Conv2d(2, 3, (1, 2))).double().eval()
    # A converged vector: finite differences move the iteration as well, which the gradient leaves
    # out, and which vanishes here to first order.
    layer.train()
    for _ in range(200):
        layer.normalised_weight()
    layer.eval()
    check_gradients(lambda x: layer(x), (torch.randn(1, 2, 2, 3),))

    def first_order(weight):
        return torch.func.functional_call(
            layer, {"layer.weight": weight}, (torch.ones(1, 2, 2, 3, dtype=torch.float64),)
        )

    torch.autograd.gradcheck(first_order, (layer.layer.weight.detach().clone().requires_grad_(),))


@layers
def test_the_vector_moves_while_training_and_in_no_other_case(name):
    layer, x = made(name)
    spectral = Spectral(layer)
    before = spectral.u.clone()
    spectral.eval()(x)
    assert torch.equal(spectral.u, before)
    spectral.train()(x)
    assert torch.equal(spectral.u, before) == (spectral.u.numel() == 1)
    assert "u" in spectral.state_dict()
    assert spectral.u.norm().item() == pytest.approx(1, abs=1e-5)


def test_several_passes_before_the_gradient():
    """D runs on real images, then on fakes, and is differentiated afterwards.

    The buffer that has changed meanwhile is not part of either graph.
    """
    layer, x = made("conv")
    spectral = Spectral(layer)
    (spectral(x).sum() + spectral(2 * x).sum()).backward()
    assert layer.weight.grad.isfinite().all()


def test_sums_are_float32_under_autocast():
    layer, x = made("conv")
    spectral = Spectral(layer).eval()
    expected = spectral.normalised_weight()
    with torch.autocast("cpu", torch.bfloat16):
        assert spectral(x).dtype == torch.bfloat16
        assert torch.equal(spectral.normalised_weight(), expected)


# --- weight norm ------------------------------------------------------------------------------------------------------


@layers
def test_weight_norm_starts_as_the_layer_and_then_has_the_lengths_of_its_gain(name):
    layer, x = made(name)
    expected = layer(x)
    norm = WeightNorm(layer)
    torch.testing.assert_close(norm(x), expected)
    norm.gain.data.mul_(2)
    torch.testing.assert_close(norm(x), with_weight(layer, 2 * layer.weight.detach())(x))
    layer.weight.data.mul_(7)  # the length of the direction is ignored
    torch.testing.assert_close(norm(x), with_weight(layer, 2 / 7 * layer.weight.detach())(x))


def test_gradients_of_weight_norm():
    torch.manual_seed(0)
    norm = WeightNorm(nn.ConvTranspose2d(2, 1, 2)).double()

    def call(x, weight, gain):
        return torch.func.functional_call(norm, {"layer.weight": weight, "gain": gain}, (x,))

    check_gradients(call, (torch.randn(1, 2, 1, 2), torch.randn(2, 1, 2, 2), torch.randn(1)))


@pytest.mark.parametrize(("name", "kind"), [("spectral", Spectral), ("weight", WeightNorm)])
def test_every_layer_of_a_network_is_wrapped_once(name, kind):
    inner = nn.Sequential(nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 2, 2))
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), inner, nn.Flatten(), nn.Linear(8, 1))
    wrapped = normalise_weights(normalise_weights(network, name), name)
    assert wrapped is network
    assert [type(network[i]) for i in (0, 4)] == [type(network[2][1])] * 2 == [kind] * 2
    assert isinstance(network[0].layer, nn.Conv2d)
    assert isinstance(normalise_weights(nn.Linear(2, 2), name), kind)
    embedding = nn.Sequential(nn.Embedding(2, 2))
    assert isinstance(normalise_weights(embedding, name, embeddings=False)[0], nn.Embedding)
    assert isinstance(normalise_weights(embedding, name)[0], kind)


# --- features ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 6), (3, 5, 2, 1)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_normalised_features_equal_torchs(shape, channels_last):
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(shape)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    layer, instance = normalisation("layer", shape[1]), normalisation("instance", shape[1])
    for norm in (layer, instance):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    per_channel = (layer.weight[:, None, None], layer.bias[:, None, None])
    torch.testing.assert_close(
        layer(x), nn.functional.layer_norm(x, shape[1:]) * per_channel[0] + per_channel[1], rtol=1e-4, atol=1e-5
    )
    expected = nn.functional.instance_norm(x, weight=instance.weight, bias=instance.bias)
    torch.testing.assert_close(instance(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", [(1, 2, 3), (2, 3)])
def test_gradients_of_normalised_features(dims):
    torch.manual_seed(0)
    norm = ImageNorm(2, dims).double()

    def call(x, weight, bias):
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    check_gradients(call, (torch.randn(2, 2, 1, 3), torch.randn(2), torch.randn(2)))


def test_features_keep_their_dtype_and_statistics_their_precision():
    x = (1000 + torch.randn(2, 3, 8, 8)).bfloat16()
    y = normalisation("layer", 3)(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(
        y.float(), nn.functional.layer_norm(x.double(), x.shape[1:]).float(), rtol=0.01, atol=0.01
    )


def test_normalisation_by_name():
    assert type(normalisation("none", 3)) is nn.Identity
    assert type(normalisation("batch", 3)) is BatchNorm2d
    assert normalisation("batch", 3).num_features == 3


def test_class_batchnorm_starts_as_batchnorm_and_then_tells_classes_apart_before_a_relu():
    torch.manual_seed(0)
    x, c = torch.randn(3, 2, 4, 4), torch.tensor([0, 2, 2])
    norm = class_batch_norm(2, 3)
    plain = nn.BatchNorm2d(2, affine=False)
    torch.testing.assert_close(norm(x, c), plain(x).relu())
    torch.testing.assert_close(norm.running_var, plain.running_var)
    norm.class_gain.weight.data[2] = torch.tensor([1.0, -1.0])
    norm.class_bias.weight.data[2] = torch.tensor([0.0, 5.0])
    expected = (
        plain(x) * torch.tensor([[1, 1], [2, 0], [2, 0]])[..., None, None]
        + torch.tensor([[0, 0], [0, 5], [0, 5]])[..., None, None]
    )
    torch.testing.assert_close(norm(x, c), expected.relu())


# --- the compiler -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "features"), [("spectral", "none"), ("spectral", "layer"), ("weight", "instance")])
def test_a_penalised_step_is_one_graph(kind, features):
    """The graph has two passes, a penalty on the gradient of one, an update and a third pass.

    The update is in place, and the third pass runs through the updated weights, as in eager.
    """
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), normalisation(features, 4), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(16, 1)
    )
    D = normalise_weights(layers, kind)
    twin = copy.deepcopy(D)
    img, grad_probe = torch.randn(2, 3, 4, 4), torch.zeros(2, 3, 4, 4, requires_grad=True)

    def step(D):
        parameters = list(D.parameters())
        (slope,) = torch.autograd.grad(D(img + grad_probe).sum(), grad_probe, create_graph=True)
        loss = D(img).mean() + slope.square().sum()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            torch._foreach_add_(parameters, gradients, alpha=-0.1)
        return D(img)

    with compiled:
        traced = torch.compile(step, fullgraph=True, dynamic=False, backend="aot_eager")
        for _ in range(2):
            torch.testing.assert_close(traced(D), step(twin))
    torch.testing.assert_close(D.state_dict(), twin.state_dict())
