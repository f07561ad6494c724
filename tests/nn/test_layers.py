"""Blocks that several models share."""
import copy

import pytest
import torch
from checking import check_gradients
from torch import nn

from fastgan.nn.layers import (
    SLOPES,
    BatchNorm1d,
    BatchNorm2d,
    ClassifierHead,
    ClassProjection,
    ConvDown,
    Deconv,
    Head,
    NormedConv,
    Projection,
    StridedConv,
    UpConv,
    activation,
    dcgan_init,
    linear,
    linear_critic,
    linear_stack,
)


@pytest.mark.parametrize(
    ("name", "at_minus_one"), [("relu", 0.0), ("leaky_relu", -0.2), ("elu", torch.expm1(torch.tensor(-1.0)).item())]
)
def test_activations(name, at_minus_one):
    assert activation(name)(torch.tensor([-1.0, 0.0, 2.0])).tolist() == pytest.approx([at_minus_one, 0, 2])


def test_a_stack_has_an_activation_between_its_layers_and_none_behind():
    stack = linear_stack((3, 4, 5, 2), "relu", "torch")
    assert [type(layer) for layer in stack] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [tuple(layer.weight.shape) for layer in stack if isinstance(layer, nn.Linear)] == [(4, 3), (5, 4), (2, 5)]


@pytest.mark.parametrize("hidden", [(), (6,), (6, 7)])
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu"])
def test_a_critic_is_the_stack_of_the_same_names_and_logits(name, hidden):
    """Snapshots of the plain stack load."""
    torch.manual_seed(0)
    stack = linear_stack((5, *hidden, 1), name, "torch")
    torch.manual_seed(0)
    critic = linear_critic((5, *hidden), name, "torch")
    assert list(critic.state_dict()) == list(stack.state_dict())
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(critic.state_dict().values(), stack.state_dict().values(), strict=True)
    )
    x = torch.randn(4, 5)
    assert torch.equal(critic(x), stack(x).squeeze(1))
    assert critic[-1].slope == (SLOPES[name] if hidden and name in SLOPES else 1)


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kind", "sizes", "shape"), [(nn.Linear, (6, 1), (3, 6)), (nn.Conv2d, (2, 1, 4), (3, 2, 4, 4))]
)
def test_a_head_is_an_activation_and_its_layer(kind, sizes, shape, bias, slope):
    layer = kind(*sizes, bias=bias)
    head, features = Head(layer, slope), torch.randn(shape)
    logits = layer(torch.where(features > 0, features, slope * features)).flatten()
    assert list(head.state_dict()) == list(layer.state_dict())
    torch.testing.assert_close(head(features), logits)
    loss, same = head.loss(features, 0.9)
    torch.testing.assert_close(same, logits)
    torch.testing.assert_close(
        loss, nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.9), reduction="none")
    )


def test_the_logits_of_a_loss_are_float32_whatever_computes():
    head, features = Head(nn.Linear(6, 1), 0.2), torch.randn(3, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss, logits = head.loss(features, torch.rand(3))
        assert head(features).dtype == torch.bfloat16
    assert loss.dtype == logits.dtype == torch.float32


def test_xavier_relu_weights():
    torch.manual_seed(0)
    layer = linear(200, 300, "xavier_relu")
    assert layer.weight.std().item() == pytest.approx(0.1, rel=0.02)  # 1 / sqrt(200 / 2)
    assert not layer.bias.any()


def test_torchs_own_weights_are_left_alone():
    torch.manual_seed(0)
    ours = linear(20, 30, "torch")
    torch.manual_seed(0)
    assert torch.equal(ours.weight, nn.Linear(20, 30).weight)
    assert ours.bias.any()


def test_dcgan_init_is_about_convolutions_and_batchnorm():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 64, 4), nn.BatchNorm2d(64), nn.Linear(4, 4), Head(nn.Conv2d(512, 1, 4), 0.2))
    network[1].bias.data.fill_(1)
    before = network[2].weight.clone()
    dcgan_init(network)
    for layer in (network[0], network[3]):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert 0.01 < network[1].weight.std() < 0.03
    assert network[1].weight.mean().item() == pytest.approx(1, abs=0.02)
    assert not network[1].bias.any()
    assert torch.equal(network[2].weight, before)


@pytest.mark.parametrize("bias", [True, False])
def test_layers_of_the_convolutions_that_they_are(bias):
    torch.manual_seed(0)
    for layer, plain, x in (
        (Deconv(3, 5, bias=bias), nn.ConvTranspose2d(3, 5, 4, 2, 1, bias=bias), torch.randn(2, 3, 2, 3)),
        (StridedConv(3, 5, bias=bias), nn.Conv2d(3, 5, 4, 2, 1, bias=bias), torch.randn(2, 3, 4, 6)),
        (Projection(3, 5, bias=bias), nn.ConvTranspose2d(3, 5, 4, bias=bias), torch.randn(2, 3, 1, 1)),
    ):
        plain.load_state_dict(layer.state_dict())
        torch.testing.assert_close(layer(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_class_projection(bias):
    torch.manual_seed(0)
    head, h, c = ClassProjection(4, 3, bias), torch.randn(2, 4), torch.tensor([2, 0])
    plain = head.linear(h).squeeze(1)
    torch.testing.assert_close(head(h, c), plain + (head.embed.weight[c] * h).sum(1))
    assert (head.linear.bias is not None) == bias
    without = ClassProjection(4, 0, bias)
    assert without(h).shape == (2,)
    assert torch.equal(without(h, c), without(h))


def test_a_classifier_says_how_real_and_which_class():
    torch.manual_seed(0)
    head, h = ClassifierHead(4, 3), torch.randn(2, 4)
    logits, class_logits = head(h)
    torch.testing.assert_close(logits, head.linear(h).squeeze(1))
    torch.testing.assert_close(class_logits, head.classify(h))
    assert ClassifierHead(4, 3, bias=False).classify.bias is None


@pytest.mark.parametrize("head", [ClassProjection(6, 3), ClassifierHead(6, 3)], ids=["projection", "classifier"])
def test_logits_are_float32_under_autocast(head):
    h, c = torch.randn(2, 6).bfloat16(), torch.tensor([0, 2])
    expected = head(h.float(), c)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(head(h, c), expected)


def test_dcgan_init_has_zero_biases_and_leaves_norms_without_weights_alone():
    network = nn.Sequential(StridedConv(2, 3, bias=True), nn.BatchNorm2d(3, affine=False))
    dcgan_init(network)
    assert not network[0].bias.any()


@pytest.mark.parametrize("shape", [(2, 3, 2, 4), (1, 1, 6, 2), (3, 5, 4, 4)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_convolution_together_with_doubling_or_halving(shape, channels_last):
    torch.manual_seed(0)
    format = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(shape).to(memory_format=format)
    up, down, plain = (
        kind(shape[1], 4).to(memory_format=format)
        for kind in (UpConv, ConvDown, lambda *sizes: nn.Conv2d(*sizes, 3, padding=1))
    )
    for layer in (up, down):
        assert list(layer.state_dict()) == list(plain.state_dict())
        layer.load_state_dict(plain.state_dict())
    torch.testing.assert_close(up(x), plain(nn.functional.interpolate(x, scale_factor=2)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(down(x), nn.functional.avg_pool2d(plain(x), 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [UpConv, ConvDown])
def test_gradients_of_a_convolution_together_with_doubling_or_halving(kind):
    torch.manual_seed(0)
    layer = kind(1, 2).double()

    def call(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    check_gradients(call, (torch.randn(2, 1, 2, 2), *layer.parameters()))


@pytest.mark.parametrize("act", ["linear", "relu", "leaky_relu"])
@pytest.mark.parametrize("is_training", [True, False])
def test_batchnorm_is_torchs_and_an_activation_to_the_bit(act, is_training):
    torch.manual_seed(0)
    ours, torchs, x = BatchNorm2d(3, act), nn.BatchNorm2d(3), 2 + torch.randn(4, 3, 5, 2)
    for layer in (ours, torchs):
        nn.init.uniform_(layer.weight, generator=torch.Generator().manual_seed(0))
        layer.train(is_training)
    behind = nn.Identity() if act == "linear" else activation(act)
    assert torch.equal(ours(x), behind(torchs(x)))
    assert list(ours.state_dict()) == list(torchs.state_dict())
    assert all(
        torch.equal(*each) for each in zip(ours.state_dict().values(), torchs.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("is_training", [True, False], ids=["training", "evaluation"])
def test_batchnorm_of_vectors_is_torch_s(is_training):
    ours, torchs, x = (
        BatchNorm1d(5, "relu").train(is_training),
        nn.BatchNorm1d(5).train(is_training),
        2 + torch.randn(6, 5),
    )
    torch.testing.assert_close(ours(x), torchs(x).relu())
    torch.testing.assert_close(ours.state_dict(), torchs.state_dict())


def test_batchnorm_of_parts_takes_each_for_a_batch():
    torch.manual_seed(0)
    one, many, x = BatchNorm2d(3, "relu"), BatchNorm2d(3, "relu"), 2 + torch.randn(6, 3, 5, 2)
    one.parts = 3
    assert torch.equal(one(x), torch.cat([many(part) for part in x.chunk(3)]))
    assert all(torch.equal(*each) for each in zip(one.state_dict().values(), many.state_dict().values(), strict=True))
    assert torch.equal(one.eval()(x), many.eval()(x))


@pytest.mark.parametrize(
    "call", [lambda one, x: one(x), lambda one, x: one[1](x, one[0])], ids=["as on a CPU", "as on CUDA"]
)
@pytest.mark.parametrize("make", [Deconv, StridedConv], ids=["up", "down"])
def test_a_convolution_and_its_batch_norm_are_a_sequential_to_the_bit(make, call):
    torch.manual_seed(0)
    layers = [make(4, 3), BatchNorm2d(3, "relu"), nn.Identity()]
    one, apart = NormedConv(*layers), nn.Sequential(*copy.deepcopy(layers))
    x = torch.randn(4, 4, 6, 6)
    for is_training in (True, False):
        one.train(is_training), apart.train(is_training)
        for norm in (one[1], apart[1]):
            norm.parts = 2 if is_training else 1
        assert torch.equal(call(one, x), apart(x))
        states = zip(one.state_dict().values(), apart.state_dict().values(), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in states)
    assert one[1].num_batches_tracked == 2
