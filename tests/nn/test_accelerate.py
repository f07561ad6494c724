"""Fused layers in the place of torch's: which are replaced, and that nothing else changes."""
import copy
import io
import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.utils.parametrizations as parametrizations
from checking import assert_close_to_truth
from torch import nn

import fastgan
from fastgan import models
from fastgan.config.presets import PRESETS
from fastgan.engine.batchnorm_counters import BatchCounters
from fastgan.nn import convolutions, layers, sequential
from fastgan.nn.sequential import FusedSequential


def make_G(bias: bool = False) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(6, 32, 4, 1, 0, bias=bias), nn.BatchNorm2d(32), nn.ReLU(True),
        nn.ConvTranspose2d(32, 8, 4, 2, 1, bias=bias), nn.BatchNorm2d(8), nn.ReLU(True),
        nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=bias), nn.Tanh(),
    )  # fmt: skip


def make_D(bias: bool = False) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1, bias=bias), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(8, 32, 4, 2, 1, bias=bias), nn.BatchNorm2d(32), nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(32, 1, 4, 1, 0, bias=bias),
    )  # fmt: skip


class Pair(nn.Module):
    """D(G(z)) of both networks."""

    def __init__(self, bias: bool):
        super().__init__()
        self.G, self.D = make_G(bias), make_D(bias)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.D(self.G(z)).view(-1)


def two_orders(network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the output, its gradients, and those of the squared norm of the input gradient."""
    x, parameters = x.detach().requires_grad_(), list(network.parameters())
    y = network(x)
    first = torch.autograd.grad(y.square().sum(), [x, *parameters], create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), [x, *parameters], allow_unused=True)
    return [y.detach(), *(each.detach() for each in first), *(each for each in second if each is not None)]


def check(network: nn.Module, x: torch.Tensor) -> fastgan.nn.Accelerated:
    """Assert that an accelerated copy computes what the network does, as exactly as torch does."""
    fused = copy.deepcopy(network)
    found = fastgan.accelerate(fused)
    ours = two_orders(fused, x)
    truths = two_orders(copy.deepcopy(network).double(), x.double())
    theirs = two_orders(network, x)
    for each, reference, truth in zip(ours, theirs, truths, strict=True):
        scale = torch.finfo(each.dtype).eps * truth.abs().max().item()
        assert_close_to_truth(each, reference, truth, atol=16 * scale)  # sums in another order
    for name, buffer in fused.named_buffers():
        torch.testing.assert_close(buffer, network.get_buffer(name))
    return found


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
def test_a_pair_computes_the_same_in_both_orders_of_gradient(bias, memory_format):
    torch.manual_seed(0)
    pair = Pair(bias).to(memory_format=memory_format)
    found = check(pair, torch.randn(5, 6, 1, 1))
    assert sorted(set(found.replaced.values())) == ["BatchNorm2d", "Conv2d", "ConvTranspose2d"]
    assert len(found.replaced) == 9
    assert found.left == {}
    assert str(found) == "9 layers run fused operators (3 BatchNorm2d, 3 Conv2d, 3 ConvTranspose2d)"


def test_a_compiled_pair_computes_the_same_as_one_graph():
    torch.manual_seed(0)
    pair, z = Pair(False), torch.randn(4, 6, 1, 1)
    fused = copy.deepcopy(pair)
    fastgan.accelerate(fused)
    outputs = [torch.compile(fused, fullgraph=True, backend="aot_eager")(z), pair(z)]
    torch.testing.assert_close(*outputs)
    grads = [torch.autograd.grad(y.square().sum(), list(net.parameters()))
             for y, net in zip(outputs, (fused, pair), strict=True)]  # fmt: skip
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 8, 4, 2, 1), (2, 3, 9, 7)),
        (nn.Conv2d(6, 8, 4, 2, 1, groups=2), (2, 6, 8, 8)),
        (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 7, 5)),
        (nn.Conv2d(3, 8, 1), (2, 3, 5, 4)),
        (nn.Conv2d(3, 8, (3, 5), 2, 2), (2, 3, 9, 8)),
        (nn.Conv2d(4, 1, (3, 5)), (2, 4, 3, 5)),
        (nn.ConvTranspose2d(4, 3, 4, 2, 1), (2, 4, 5, 3)),
        (nn.ConvTranspose2d(4, 3, 4, 2, 1, output_padding=1), (2, 4, 5, 3)),
        (nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2), (2, 4, 5, 3)),
        (nn.ConvTranspose2d(4, 3, 4), (2, 4, 1, 1)),
        (nn.ConvTranspose2d(4, 3, 4), (2, 4, 2, 2)),
        (nn.ConvTranspose2d(4, 3, 5, 2, 2, 1), (2, 4, 4, 3)),
        (nn.Linear(6, 1), (5, 6)),
        (nn.BatchNorm1d(6), (5, 6)),
        (nn.BatchNorm1d(6), (5, 6, 3)),
        (nn.BatchNorm2d(6, affine=False), (5, 6, 3, 2)),
        (nn.BatchNorm2d(6, track_running_stats=False), (5, 6, 3, 2)),
    ],
    ids=str,
)
def test_a_layer_computes_the_same_in_both_orders_of_gradient(layer, shape):
    torch.manual_seed(0)
    found = check(nn.Sequential(layer, nn.Softplus()), torch.randn(shape))
    assert found.replaced == {"0": type(layer).__name__}


@pytest.mark.parametrize("formats", list(itertools.product([torch.contiguous_format, torch.channels_last], repeat=2)))
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(1, 8, 4, 2, 1), (2, 1, 8, 8)),
        (nn.Conv2d(3, 8, 4, 2, 1), (2, 3, 8, 8)),
        (nn.Conv2d(1, 8, 3, padding=1), (2, 1, 8, 8)),
        (nn.Conv2d(3, 8, 1), (2, 3, 8, 8)),
        (nn.ConvTranspose2d(1, 8, 4, 2, 1), (2, 1, 4, 4)),
        (nn.ConvTranspose2d(6, 8, 4, 2, 1), (2, 6, 4, 4)),
        (nn.ConvTranspose2d(6, 8, 3, 1, 1), (2, 6, 4, 4)),
        (nn.ConvTranspose2d(6, 8, 4), (2, 6, 1, 1)),
        (nn.ConvTranspose2d(6, 1, 4, 2, 1), (2, 6, 4, 4)),
        (nn.ConvTranspose2d(6, 1, 3, 2, 1, 1), (2, 6, 4, 4)),
    ],
    ids=str,
)
def test_a_result_lies_in_memory_as_that_of_torch(layer, shape, formats):
    """A view() behind the layer works wherever it did."""
    weight_format, format = formats
    layer, x = copy.deepcopy(layer).to(memory_format=weight_format), torch.randn(shape).to(memory_format=format)
    with_tanh, expected = nn.Sequential(copy.deepcopy(layer), nn.Tanh()), layer(x)
    fastgan.accelerate(layer)
    fastgan.accelerate(with_tanh)
    assert layer(x).stride() == expected.stride()
    strides = zip(expected.shape, expected.stride(), with_tanh(x).stride(), strict=True)
    assert all(theirs == ours for length, theirs, ours in strides if length > 1)  # torch's tanh forgets the others


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (nn.Conv2d(3, 4, 3, dilation=2), (2, 3, 8, 8), "dilation is (2, 2)"),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (2, 3, 8, 8), "padding_mode is 'reflect'"),
        (nn.Conv2d(3, 4, 3, padding="same"), (2, 3, 8, 8), "padding is 'same'"),
        (nn.Conv2d(3, 4, 3, stride=(1, 2)), (2, 3, 8, 8), "stride is (1, 2), not the same for height and width"),
        (nn.BatchNorm2d(3, momentum=None), (2, 3, 8, 8), "momentum=None averages over all batches"),
        (parametrizations.spectral_norm(nn.Conv2d(3, 4, 4, 2, 1)), (2, 3, 8, 8), "its weight is parametrized"),
        (nn.utils.spectral_norm(nn.Conv2d(3, 4, 4, 2, 1)), (2, 3, 8, 8), "a hook computes its weight"),
        (type("Scaled", (nn.Conv2d,), {})(3, 4, 4, 2, 1), (2, 3, 8, 8), "Scaled may compute anything else"),
    ],
)
def test_what_no_operator_computes_is_left_and_said(layer, shape, reason):
    network = nn.Sequential(layer)
    kind = type(layer)
    found = fastgan.accelerate(network)
    assert found.replaced == {}
    assert found.left == {"0": reason}
    assert type(network[0]) is kind
    assert str(found) == f"0 layers run fused operators; 1 are left to torch (0: {reason})"
    network(torch.randn(shape))


def test_the_public_layers_compute_what_torch_does_outside_of_the_operators():
    """Their signatures are torch's, and a call that no operator takes is the library's."""
    for ours, theirs, arguments, shape in (
        (convolutions.Conv2d, nn.Conv2d, {"kernel_size": 3, "dilation": 2, "padding": "same"}, (2, 3, 8, 8)),
        (convolutions.Conv2d, nn.Conv2d, {"kernel_size": (4, 3), "stride": (2, 1)}, (2, 3, 8, 8)),
        (convolutions.Conv2d, nn.Conv2d, {"kernel_size": 3, "padding_mode": "circular", "padding": 1}, (3, 8, 8)),
        (convolutions.ConvTranspose2d, nn.ConvTranspose2d, {"kernel_size": 3, "dilation": 2}, (2, 3, 5, 5)),
        (convolutions.ConvTranspose2d, nn.ConvTranspose2d, {"kernel_size": 4, "stride": 2}, (3, 5, 5)),
    ):  # fmt: skip
        layer, plain, x = ours(3, 4, **arguments), theirs(3, 4, **arguments), torch.randn(shape)
        plain.load_state_dict(layer.state_dict())
        torch.testing.assert_close(layer(x), plain(x))
    layer = convolutions.ConvTranspose2d(3, 4, 3, stride=2)
    assert layer(torch.randn(2, 3, 5, 5), output_size=[12, 12]).shape == (2, 4, 12, 12)


def test_a_wrong_input_is_refused_by_torch():
    layer = convolutions.Conv2d(3, 4, 4, 2, 1)
    with pytest.raises(RuntimeError, match="expected input.* to have 3 channels"):
        layer(torch.randn(2, 5, 8, 8))
    with pytest.raises(RuntimeError, match="[Ii]nput type|same"):
        layer(torch.randn(2, 3, 8, 8, dtype=torch.float64))


def test_parameters_state_and_references_stay_the_same():
    network = make_D()
    first, parameters, buffers = network[0], dict(network.named_parameters()), dict(network.named_buffers())
    plain = copy.deepcopy(network)
    fastgan.accelerate(network)
    assert network[0] is first
    assert isinstance(first, nn.Conv2d)
    assert all(network.get_parameter(name) is each for name, each in parameters.items())
    assert all(network.get_buffer(name) is each for name, each in buffers.items())
    assert list(network.state_dict()) == list(plain.state_dict())
    network(torch.randn(2, 3, 16, 16)).sum().backward()
    plain.load_state_dict(network.state_dict())
    torch.testing.assert_close(plain.eval()(torch.ones(1, 3, 16, 16)), network.eval()(torch.ones(1, 3, 16, 16)))


def test_tied_layers_and_copies_and_pickles_are_fused_too():
    shared = nn.Conv2d(3, 3, 4, 2, 1)
    network = nn.ModuleDict({"one": shared, "other": nn.Sequential(shared, nn.ReLU())})
    found = fastgan.accelerate(network)
    assert found.replaced == {"one": "Conv2d"}
    assert network["other"][0] is network["one"]
    stored = io.BytesIO()
    torch.save(network, stored)
    stored.seek(0)
    for each in (copy.deepcopy(network), torch.load(stored, weights_only=False)):
        assert type(each["one"]) is convolutions.Conv2d
        assert type(each["other"]) is FusedSequential
        assert type(each["other"][:1]) is FusedSequential


def test_a_hook_sees_the_input_and_output_of_its_layer():
    """A layer with a hook is no part of a longer operator."""
    network, seen = make_G(), {}
    fastgan.accelerate(network)
    for index, layer in enumerate(network):
        layer.register_forward_hook(lambda layer, args, output, index=index: seen.update({index: (args, output)}))
    image = network(torch.randn(2, 6, 1, 1))
    assert sorted(seen) == list(range(len(network)))
    assert torch.equal(seen[7][0][0], seen[6][1])
    assert torch.equal(seen[7][0][0].tanh(), image)


def test_neighbours_run_as_one_operator_without_hooks(monkeypatch):
    calls = []
    monkeypatch.setattr(nn.Tanh, "forward", lambda self, x: calls.append("tanh") or x.tanh())
    monkeypatch.setattr(nn.LeakyReLU, "forward", lambda self, x: calls.append("leaky") or x)
    G, D = make_G(), make_D()
    fastgan.accelerate(G)
    fastgan.accelerate(D)
    D(G(torch.randn(2, 6, 1, 1)))
    assert calls == ["leaky"]  # the first one of D: the last one is a part of the map to the logit


def test_on_cuda_a_batch_norm_runs_with_its_convolution_and_activation(monkeypatch):
    """A hook that only counts, as that of BatchCounters, does not keep them apart."""
    calls, pair, z = [], Pair(False), torch.randn(3, 6, 1, 1)
    fused = copy.deepcopy(pair)
    fastgan.accelerate(fused)
    monkeypatch.setattr(sequential, "device_type", lambda x: "cuda")
    counters, expected = BatchCounters([fused]), pair(z)
    with monkeypatch.context() as patch, counters.watching("step", 1):
        for kind in (nn.ReLU, nn.LeakyReLU, nn.Tanh):
            patch.setattr(kind, "forward", lambda self, x, run=kind.forward: calls.append(self) or run(self, x))
        ours = fused(z)
    assert calls == [fused.D[1]]
    torch.testing.assert_close(ours, expected)
    assert counters._passes["step"] == {0: 1, 1: 1, 2: 1}
    for name, buffer in fused.named_buffers():
        torch.testing.assert_close(buffer, pair.get_buffer(name))


@pytest.mark.parametrize("name", [name for name in PRESETS if name == "mlp" or name.endswith("-tiny")])
def test_the_networks_of_presets_have_their_fused_layers_already(name):
    c_dim = 3 if PRESETS[name].model.cond else 0
    for network in models.build(replace(PRESETS[name].model, img_resolution=32, img_channels=3, c_dim=c_dim)):
        classes = [type(module) for module in network.modules()]
        found = fastgan.accelerate(network)
        assert (found.replaced, found.left) == ({}, {})
        assert [type(module) for module in network.modules()] == classes


def test_layers_of_fastgan_inside_a_network_are_left_as_they_are():
    network = nn.ModuleList([layers.Deconv(3, 4), fastgan.nn.Spectral(nn.Conv2d(3, 4, 4, 2, 1))])
    fastgan.accelerate(network)
    assert type(network[1].layer) is nn.Conv2d
    again = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert len(fastgan.accelerate(again).replaced) == 1
    assert len(fastgan.accelerate(again).replaced) == 0


def test_nothing_is_replaced_where_the_operators_are_turned_off(monkeypatch):
    monkeypatch.setenv("FASTGAN_OPS", "reference")
    network = make_D()
    assert fastgan.accelerate(network).replaced == {}
    assert type(network) is nn.Sequential


def test_parts_of_a_batch_have_statistics_of_their_own():
    norm = nn.BatchNorm1d(4)
    fastgan.accelerate(norm)
    x = torch.randn(6, 4, 5)
    with layers.in_parts(norm, 2):
        both = norm(x)
    torch.testing.assert_close(both, torch.cat([nn.BatchNorm1d(4)(part) for part in x.chunk(2)]))
    assert norm.num_batches_tracked == 2


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("network", [make_G(), make_D()], ids=["G", "D"])
def test_a_trace_holds_torchs_own_operators(network):
    """Exporters know these alone."""
    x = torch.randn(2, 6, 1, 1) if isinstance(network[0], nn.ConvTranspose2d) else torch.randn(2, 3, 16, 16)
    fastgan.accelerate(network.eval())
    graph = str(torch.jit.trace(network, x).inlined_graph)
    assert "PythonOp" not in graph
    assert "aten::_convolution" in graph
