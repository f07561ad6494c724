"""The ladder: eager and compiled agree, one graph for a whole run, and a rung that differs is left with its reason."""
from collections import Counter

import gans
import pytest
import torch
from torch import nn

from fastgan import ops
from fastgan.engine import Engine, RecompilationError, compile_step
from fastgan.ops import choice
from fastgan.parity import snapshot
from fastgan.precision import Precision
from fastgan.step import gan_step

EVERYTHING = {"loss__fresh_fakes": True, "loss__smooth_real": 0.1, "loss__flip_labels": 0.2, "loss__instance_noise": 0.1, "optim__ema_kimg": 1.0}
SYSTEMS = [("mlp", {}), ("mlp", EVERYTHING | {"optim__name": "rmsprop"}), ("gaussian1d", {}), ("dcgan", EVERYTHING)]


def train(engine: Engine, config, steps: int) -> torch.Tensor:
    return torch.stack([engine.run(gans.random_inputs(config, seed)).clone() for seed in range(steps)])


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "overrides"), SYSTEMS)
def test_compiled_equals_eager_in_one_graph(preset, overrides):
    config = gans.tiny_config(preset, **overrides)
    compiled_networks, eager_networks = gans.tiny_networks(config), gans.tiny_networks(config)
    reports = []
    compiled, eager = gans.make_engine(compiled_networks, report=reports), gans.make_engine(eager_networks, compile=False)
    before = snapshot(compiled_networks.state())
    compiled.prepare([(gans.random_inputs(config, 90),), (gans.random_inputs(config, 91),)])
    assert (compiled.rung.name, reports) == ("compiled", [])
    assert_same(before, compiled_networks.state())  # the first trained step is the first
    torch.testing.assert_close(train(compiled, config, 5), train(eager, config, 5), rtol=1e-3, atol=1e-4)
    for (group, ours), theirs in zip(compiled_networks.state().items(), eager_networks.state().values(), strict=True):
        for name in ours:
            # Elements whose gradient is of rounding size may go the other way by a step of lr, hence the mean.
            difference = (ours[name].double() - theirs[name].double()).abs().mean()
            assert difference <= 1e-5 + 1e-3 * theirs[name].double().abs().mean(), (group, name)
    compiled_networks.optimizer_D.lr.fill_(1e-5)  # a schedule
    train(compiled, config, 3)
    compiled.check_no_recompilation()


@pytest.mark.slow
def test_reduced_precision_agrees_within_twice_its_own_error():
    config = gans.tiny_config("mlp")
    networks, reports = gans.tiny_networks(config), []
    engine = gans.make_engine(networks, Precision("cpu", torch.bfloat16, "test"), report=reports)
    engine.prepare([(gans.random_inputs(config, 90),), (gans.random_inputs(config, 91),)])
    assert (engine.rung.name, reports) == ("compiled", [])
    assert all(parameter.dtype == torch.float32 for parameter in networks.G.parameters())


@pytest.mark.slow
def test_a_network_with_dropout_agrees_too():
    config = gans.tiny_config("mlp")
    networks = gans.tiny_networks(config)
    networks.D.layers.insert(2, nn.Dropout(0.3))
    reports = []
    engine = gans.make_engine(type(networks)(**{**vars(networks), "one_pass": False}), report=reports)
    engine.prepare([(gans.random_inputs(config, 90),), (gans.random_inputs(config, 91),)])
    assert (engine.rung.name, reports) == ("compiled", [])


@pytest.mark.slow
def test_a_second_compilation_is_noticed():
    config = gans.tiny_config("mlp")
    engine = gans.make_engine(gans.tiny_networks(config))
    engine.prepare([(gans.random_inputs(config, 0),), (gans.random_inputs(config, 1),)])
    engine.check_no_recompilation()
    engine.run(gans.random_inputs(gans.tiny_config("mlp", run__batch_size=12)))
    with pytest.raises(RecompilationError, match="2 times"):
        engine.check_no_recompilation()


class DiffersWhenCompiled(nn.Module):
    """A linear layer that does `change` to its output while it is being compiled."""

    def __init__(self, change):
        super().__init__()
        self.layer, self.change = nn.Linear(4, 1), change

    def forward(self, x):
        y = self.layer(x)
        return self.change(y) if torch.compiler.is_compiling() else y


def breaks_the_graph(y):
    torch._dynamo.graph_break()
    return y


CHANGES = [
    (lambda y: y * 1.5, "losses or logits differ"),
    (lambda y: y * float("nan"), "losses or logits differ"),
    (lambda y: y.detach() + 0 * y, "did not change"),
    (lambda y: y.detach() + 0.5 * (y - y.detach()), "change of optimizer differs"),
    (breaks_the_graph, "graph_break"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("change", "reason"), CHANGES)
def test_a_rung_that_differs_is_left_with_its_reason(change, reason):
    from fastgan.optim import Adam

    torch.manual_seed(0)
    network = DiffersWhenCompiled(change)
    optimizer = Adam(list(network.parameters()), 1e-5, 0.5, 0.9, 1e-8)
    x = torch.randn(6, 4)

    def step(scale):
        loss = (network(x) * scale).square().mean()
        optimizer.step(list(torch.autograd.grad(loss, optimizer.parameters)))
        return loss.detach().reshape(1)

    reports = []
    state = {"D": dict(network.named_parameters()), "optimizer": optimizer.state()}
    before = snapshot(state)
    engine = Engine(step, state, report=reports.append)
    engine.prepare([(torch.tensor(1.0),), (torch.tensor(2.0),)])
    assert engine.rung.name == "eager"
    assert len(reports) == 1
    assert reason in reports[0]
    assert_same(before, state)
    engine.run(torch.tensor(1.0))
    assert not torch.equal(network.layer.weight, before["D"]["layer.weight"])


def test_without_compile_the_step_is_eager_and_nothing_is_reported():
    config = gans.tiny_config("mlp")
    reports = []
    engine = gans.make_engine(gans.tiny_networks(config), compile=False, report=reports)
    assert engine.prepare([(gans.random_inputs(config),)]).name == "eager"
    assert reports == []


def test_the_compiled_graph_holds_no_wasted_convolution(monkeypatch):
    """The same counts as in the eager step, read off the graph that the compiler is given."""
    monkeypatch.setattr(choice, "_forced", {"deconv": "reference"})  # whatever was measured before: torch's operations are what is counted
    from torch._dynamo.backends.common import aot_autograd

    config = gans.tiny_config("dcgan")
    networks, inputs, counts = gans.tiny_networks(config), gans.random_inputs(config), Counter()

    def count(graph, example_inputs):
        for node in graph.graph.nodes:
            if node.target == torch.ops.aten.convolution.default:
                counts["convolution" + " transposed" * node.args[6]] += 1
            elif node.target == torch.ops.aten.convolution_backward.default:
                counts[f"convolution_backward input={node.args[-1][0]} weight={node.args[-1][1]}"] += 1
            elif node.target == torch.ops.aten.mm.default:
                counts["mm"] += 1
        return graph.forward

    def step(inputs):
        return gan_step(networks, gans.FP32, inputs)

    with torch._dynamo.config.patch(trace_autograd_ops=True):
        torch.compile(step, backend=aot_autograd(fw_compiler=count), fullgraph=True)(inputs)
    assert counts == gans.NO_WASTE


@pytest.mark.skipif(ops.native_problem("cpu") is not None, reason=str(ops.native_problem("cpu")))
def test_images_of_one_channel_between_a_kernel_of_ours_and_the_library_s_compile(monkeypatch):
    """They lie in both memory formats at once, and the compiler must foresee which of them the library takes them for."""
    monkeypatch.setattr(choice, "pick", lambda op, call, forms, device_type: "cpu" if call.startswith("up") and "cpu" in forms else "reference")
    config, reports = gans.tiny_config("dcgan"), []
    engine = gans.make_engine(gans.tiny_networks(config), Precision("cpu", torch.bfloat16, "test"), report=reports)
    assert engine.prepare([(gans.random_inputs(config, seed),) for seed in range(2)]).name == "compiled", reports


def test_the_private_setting_of_dynamo_is_there():
    """A release that renames trace_autograd_ops fails here, not in a user's run."""
    assert isinstance(torch._dynamo.config.trace_autograd_ops, bool)
    compile_step(lambda: None, [])
    assert torch._dynamo.config.trace_autograd_ops is True


def assert_same(before, state):
    for group, tensors in before.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, state[group][name]), (group, name)
