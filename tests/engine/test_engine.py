"""The execution ladder: agreement of the rungs, one compiled graph a run, and dropped rungs.

A rung that differs is dropped with a reason.
"""
import dataclasses
from collections import Counter

import gans
import pytest
import torch
from torch import nn

from fastgan import UserError
from fastgan.bench.recorded_graphs import RecordedGraphs
from fastgan.device.precision import Precision
from fastgan.engine.compiled import compile_step
from fastgan.engine.engine import Engine, RecompilationError
from fastgan.engine.parity import snapshot
from fastgan.engine.phase_schedule import Interval, PhaseSchedule
from fastgan.engine.system import Ladder, Phase, System, single_phase
from fastgan.gan.step import update
from fastgan.ops.dispatch import autotune, registry

EVERYTHING = {
    "loss__fresh_fakes": True,
    "loss__smooth_real": 0.1,
    "loss__flip_labels": 0.2,
    "loss__instance_noise": 0.1,
    "optim__ema_kimg": 1.0,
    "loss__instance_noise_kimg": 0.05,
}
SYSTEMS = [("mlp", {}), ("mlp", EVERYTHING | {"optim__name": "rmsprop"}), ("gaussian1d", {}), ("dcgan", EVERYTHING)]
EAGER = Ladder(compile=False)


def assert_close(ours, theirs):
    """Compare by the mean.

    Elements whose gradient is of rounding size may move by lr in the other direction.
    """
    for (group, tensors), others in zip(ours.tensors().items(), theirs.tensors().values(), strict=True):
        for name in tensors:
            difference = (tensors[name].double() - others[name].double()).abs().mean()
            assert difference <= 1e-5 + 1e-3 * others[name].double().abs().mean(), (group, name)


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "overrides"), SYSTEMS)
def test_compiled_equals_eager_in_one_graph(preset, overrides):
    config = gans.tiny_config(preset, **overrides)
    compiled_networks, eager_networks = gans.tiny_networks(config), gans.tiny_networks(config)
    reports = []
    compiled, eager = (
        gans.make_engine(config, compiled_networks, report=reports),
        gans.make_engine(config, eager_networks, ladder=EAGER),
    )
    before = snapshot(compiled_networks.tensors())
    compiled.prepare()
    eager.prepare()
    assert (compiled.rung.name, reports) == ("compiled", [])
    assert_same(before, compiled_networks.tensors())  # the first trained step is the first
    for step in range(5):
        compiled.run(step, 1)
        eager.run(step, 1)
        torch.testing.assert_close(compiled_networks.totals.tensor, eager_networks.totals.tensor, rtol=1e-3, atol=1e-4)
    assert_close(compiled_networks, eager_networks)
    compiled_networks.optimizer_D.lr.fill_(1e-5)  # a schedule
    compiled.run(5, 3)
    compiled.check_no_recompilation()


@pytest.mark.slow
def test_reduced_precision_agrees_within_twice_its_own_error():
    config = gans.tiny_config("mlp")
    state, reports = gans.tiny_networks(config), []
    engine = gans.make_engine(config, state, Precision("cpu", torch.bfloat16, "test"), report=reports)
    engine.prepare()
    assert (engine.rung.name, reports) == ("compiled", [])
    assert all(parameter.dtype == torch.float32 for parameter in state.G.parameters())


@pytest.mark.slow
def test_a_network_with_dropout_agrees_too():
    config = gans.tiny_config("mlp")
    state = gans.tiny_networks(config)
    state.D.layers.insert(2, nn.Dropout(0.3))
    reports = []
    engine = gans.make_engine(config, type(state)(**{**vars(state), "one_pass": False}), report=reports)
    engine.prepare()
    assert (engine.rung.name, reports) == ("compiled", [])


@pytest.mark.slow
def test_a_second_compilation_is_noticed():
    config = gans.tiny_config("mlp")
    engine = gans.make_engine(config, gans.tiny_networks(config))
    engine.prepare()
    engine.check_no_recompilation()
    larger = gans.random_inputs(gans.tiny_config("mlp", run__batch_size=12))
    engine.system.phases["update"].draw = lambda: larger
    engine.run(0, 1)
    with pytest.raises(RecompilationError, match="2 times"):
        engine.check_no_recompilation()


# --- the captured rung, with a substitute for CUDA graphs on the CPU ------------------------------


@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.parametrize(("preset", "overrides"), SYSTEMS)
def test_captured_equals_eager_to_the_bit(monkeypatch, preset, overrides, size):
    """Twenty steps: whole launches, and single steps for the remainder.

    The recording contains everything that a step needs.
    """
    # The choice of operators is another matter.
    monkeypatch.setattr(autotune, "_forced", dict.fromkeys(registry.OPS, "reference"))
    config = gans.tiny_config(preset, **overrides)
    captured_networks, eager_networks, graphs, reports = (
        gans.tiny_networks(config),
        gans.tiny_networks(config),
        RecordedGraphs(),
        [],
    )
    captured = gans.make_engine(
        config, captured_networks, ladder=Ladder(compile=False, graph_steps=size), graphs=graphs, report=reports
    )
    eager = gans.make_engine(config, eager_networks, ladder=EAGER)
    before = snapshot(captured_networks.tensors())
    captured.prepare()
    eager.prepare()
    assert (captured.rung.name, captured.rung.steps_per_launch, reports) == ("captured", size, [])
    assert_same(before, captured_networks.tensors())
    graphs.replayed.clear()
    captured.run(0, 17)
    captured.run(17, 3)
    for step in range(20):
        eager.run(step, 1)
    assert len(graphs.replayed) == {1: 20, 8: 2 + 1 + 3}[size]
    for state in (captured_networks, eager_networks):
        state.counters.write()
    assert_same(snapshot(eager_networks.tensors()), captured_networks.tensors())
    assert torch.equal(captured.system.generators[0].get_state(), eager.system.generators[0].get_state())


def test_what_changes_on_the_device_is_seen_by_the_recording(monkeypatch):
    """A schedule writes into the tensor of the learning rate.

    A recording with a constant learning rate would not notice.
    """
    config = gans.tiny_config("mlp")
    state = gans.tiny_networks(config)
    engine = gans.make_engine(config, state, ladder=Ladder(compile=False, graph_steps=1), graphs=RecordedGraphs())
    engine.prepare()
    engine.run(0, 1)
    state.optimizer_D.lr.zero_()
    before = [parameter.clone() for parameter in state.D.parameters()]
    engine.run(1, 4)
    assert all(torch.equal(*pair) for pair in zip(before, state.D.parameters(), strict=True))


def test_launches_are_as_large_as_pays_and_as_the_data_allow(monkeypatch):
    config, seconds = gans.tiny_config("mlp"), {1: 2e-3, 4: 1e-3, 16: 0.999e-3}

    def steps_per_launch(**ladder):
        engine = gans.make_engine(
            config, gans.tiny_networks(config), ladder=Ladder(compile=False, **ladder), graphs=RecordedGraphs()
        )
        return engine.prepare().steps_per_launch

    monkeypatch.setattr(
        "fastgan.engine.captured._seconds_per_step",
        lambda candidates, *_: {each.size: seconds[each.size] for each in candidates},
    )
    assert (steps_per_launch(), steps_per_launch(max_graph_steps=5), steps_per_launch(max_graph_steps=1)) == (16, 4, 1)
    assert steps_per_launch(graph_steps=7) == 7
    seconds[16] = 1.01e-3  # slower than 4 at once
    assert steps_per_launch() == 4
    seconds.update({1: 0.1, 4: 0.09, 16: 0.08})  # 16 steps would take over a second, and 4 more than a third
    assert steps_per_launch() == 1
    with pytest.raises(UserError, match="more than the 5 batches"):
        steps_per_launch(graph_steps=6, max_graph_steps=5)


def test_where_nothing_is_recorded_the_size_of_a_launch_is_of_no_account():
    config = gans.tiny_config("mlp")
    few = Ladder(False, graph_steps=6, max_graph_steps=5)
    for ladder, graphs in ((few, None), (dataclasses.replace(few, cuda_graph="off"), RecordedGraphs())):
        assert (
            gans.make_engine(config, gans.tiny_networks(config), ladder=ladder, graphs=graphs).prepare().name == "eager"
        )


class WaitsForTheDevice(nn.Module):
    def forward(self, x):
        return x * float(x.mean().item() < 1e9)


@pytest.mark.parametrize("cuda_graph", ["auto", "on"])
def test_what_cannot_be_recorded_is_left_with_its_reason(cuda_graph):
    config, reports = gans.tiny_config("mlp"), []
    state = gans.tiny_networks(config)
    state.D.layers.insert(1, WaitsForTheDevice())
    before = snapshot(state.tensors())
    engine = gans.make_engine(
        config, state, ladder=Ladder(compile=False, cuda_graph=cuda_graph), graphs=RecordedGraphs(), report=reports
    )
    if cuda_graph == "on":
        with pytest.raises(UserError, match="cannot be a CUDA graph.*the host waits for"):
            engine.prepare()
    else:
        assert engine.prepare().name == "eager"
        assert len(reports) == 1
        assert "the captured step is not used, the eager one is: RuntimeError: the host waits for" in reports[0]
        engine.run(0, 2)
        assert state.totals.tensor.any()
    assert engine.rung.name == "eager"
    assert before.keys() == state.tensors().keys()


def test_a_recording_that_does_something_else_is_found():
    """A network counts its calls on the host; the recording repeats the recorded call."""

    class Alternates(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x * (1.0 if self.calls % 6 < 3 else 3.0)

    config, reports = gans.tiny_config("mlp"), []
    state = gans.tiny_networks(config)
    state.D.layers.insert(1, Alternates())
    engine = gans.make_engine(config, state, ladder=Ladder(compile=False), graphs=RecordedGraphs(), report=reports)
    assert engine.prepare().name == "eager"
    assert "the captured step is not used" in reports[0]


def test_the_whole_traceback_of_a_refused_rung_goes_to_the_details():
    config, reports, details = gans.tiny_config("mlp"), [], []
    state = gans.tiny_networks(config)
    state.D.layers.insert(1, WaitsForTheDevice())
    engine = gans.make_engine(config, state, ladder=Ladder(compile=False), graphs=RecordedGraphs(), report=reports)
    engine.log.details = details.append
    engine.prepare()
    assert len(reports) == len(details) == 1
    assert "\n" not in reports[0]
    assert details[0].startswith("Traceback (most recent call last):")
    assert "x.mean().item()" in details[0]
    assert details[0].splitlines()[-1] in reports[0]


class FailsOnTheWay(RecordedGraphs):
    """Graphs that cannot record many operators, as with a full memory."""

    def record(self, body):
        replay = super().record(body)
        if self.recordings and len(self.recordings[-1]) > 2 * len(self.recordings[0]):
            raise RuntimeError("no memory left")
        return replay


def test_single_steps_are_launched_where_several_cannot_be_recorded():
    config, reports, graphs = gans.tiny_config("mlp"), [], FailsOnTheWay()
    engine = gans.make_engine(
        config, gans.tiny_networks(config), ladder=Ladder(compile=False), graphs=graphs, report=reports
    )
    assert (engine.prepare().name, engine.rung.steps_per_launch) == ("captured", 1)
    assert reports == ["4 steps in one CUDA graph are not used: RuntimeError: no memory left"]
    graphs.replayed.clear()
    engine.run(0, 3)
    assert len(set(graphs.replayed)) == 1  # the one that was recorded after the failure
    assert graphs.replayed[0] == len(graphs.recordings) - 1


class ForgetsAStep(RecordedGraphs):
    """Graphs that, for several steps, run the first of them twice."""

    def record(self, body):
        replay, operators = super().record(body), self.recordings[-1]
        if len(operators) > 2 * len(self.recordings[0]):
            half = len(operators) // 2
            operators[half:] = operators[:half] * 2
        return replay


def test_a_graph_of_several_steps_that_differs_from_single_ones_is_not_used():
    config, reports = gans.tiny_config("mlp"), []
    engine = gans.make_engine(
        config,
        gans.tiny_networks(config),
        ladder=Ladder(compile=False, graph_steps=4),
        graphs=ForgetsAStep(),
        report=reports,
    )
    assert (engine.prepare().name, engine.rung.steps_per_launch) == ("captured", 1)
    assert len(reports) == 1
    assert reports[0].startswith("4 steps in one CUDA graph are not used: ")


def toy_system(phase_schedule: PhaseSchedule) -> System:
    """Return a system of one weight: `add` adds 1, `double` doubles, `triple` triples it."""
    weight, totals, generator = torch.ones(1), torch.zeros(1), torch.Generator()
    changes = {"add": lambda: weight.add_(1), "double": lambda: weight.mul_(2), "triple": lambda: weight.mul_(3)}

    def phase_of(name):
        def step(inputs):
            changes[name]()
            totals.add_(weight)

        return Phase(lambda: (), step)

    state = {"D": {"weight": weight}, "totals": {"totals": totals}}
    return System({name: phase_of(name) for name in phase_schedule.intervals}, state, [generator], phase_schedule)


@pytest.mark.parametrize("intro", [(0, {}), (5, {"add": Interval(), "triple": Interval(2)})], ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_phases_that_are_due_now_and_then_come_in_their_rhythm(size, intro):
    phase_schedule = PhaseSchedule({"add": Interval(), "double": Interval(4), "triple": Interval(6)}, intro)
    captured = Engine(toy_system(phase_schedule), Ladder(compile=False, graph_steps=size), RecordedGraphs())
    assert captured.prepare().name == "captured"
    expected, step = 1.0, 0
    for num in (1, 3, 8, 17):
        captured.run(step, num)
        for number in range(step, step + num):
            doubles, triples = (number % 4 == 0, number % 6 == 0) if number >= intro[0] else (False, number % 2 == 0)
            expected = (expected + 1) * (2 if doubles else 1) * (3 if triples else 1)
        step += num
        assert captured.system.state["D"]["weight"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_phase_that_cannot_be_compiled_stays_eager_alone():
    phase_schedule, reports = PhaseSchedule({"add": Interval(), "double": Interval(2)}), []
    system = toy_system(phase_schedule)
    plain = system.phases["double"].step

    def breaks(inputs):
        torch._dynamo.graph_break()
        return plain(inputs)

    system.phases["double"].step = breaks
    engine = Engine(system, Ladder(), report=reports.append)
    assert engine.prepare().name == "compiled"
    assert len(reports) == 1
    assert "the compiled step (double) is not used" in reports[0]
    engine.run(0, 3)
    assert system.state["D"]["weight"].item() == ((1 + 1) * 2 + 1 + 1) * 2
    engine.check_no_recompilation()


@pytest.mark.slow
def test_a_penalty_that_cannot_be_compiled_in_the_lower_precision_computes_in_fp32():
    system, reports = toy_system(PhaseSchedule({"add": Interval()})), []
    careful = system.phases["add"].step

    def breaks(inputs):
        torch._dynamo.graph_break()
        return careful(inputs)

    system.phases["add"].step, system.phases["add"].precise_step, system.phases["add"].careful_step = (
        breaks,
        careful,
        careful,
    )
    engine = Engine(system, Ladder(), report=reports.append)
    assert engine.prepare().name == "compiled"
    assert len(reports) == 1
    assert reports[0].startswith("the penalty computes in fp32 inside the compiled step: ")
    engine.run(0, 3)
    assert system.state["D"]["weight"].item() == 4
    engine.check_no_recompilation()


# --- a compiled rung that differs -----------------------------------------------------------------


class DiffersWhenCompiled(nn.Module):
    """A linear layer that applies `change` to its output while it is being compiled."""

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
    from fastgan.gan.optim import Adam

    torch.manual_seed(0)
    network = DiffersWhenCompiled(change)
    optimizer = Adam(list(network.parameters()), 1e-5, 0.5, 0.9, 1e-8)
    x = torch.randn(6, 4)

    totals = torch.zeros(1)

    def step(inputs):
        loss = network(x).square().mean()
        optimizer.step(list(torch.autograd.grad(loss, optimizer.parameters)))
        totals.add_(loss.detach())
        return totals

    reports = []
    state = {"D": dict(network.named_parameters()), "optimizer": optimizer.state(), "totals": {"totals": totals}}
    before = snapshot(state)
    engine = Engine(single_phase(Phase(lambda: (), step), state, []), Ladder(), report=reports.append)
    engine.prepare()
    assert engine.rung.name == "eager"
    assert len(reports) == 1
    assert reason in reports[0]
    assert_same(before, state)
    engine.run(0, 1)
    assert not torch.equal(network.layer.weight, before["D"]["layer.weight"])


def test_without_compile_the_step_is_eager_and_nothing_is_reported():
    config = gans.tiny_config("mlp")
    reports = []
    engine = gans.make_engine(config, gans.tiny_networks(config), ladder=EAGER, report=reports)
    assert engine.prepare().name == "eager"
    assert reports == []


def test_the_compiled_graph_holds_no_wasted_convolution(monkeypatch):
    """The counts are those of the eager step, taken from the graph that the compiler receives."""
    # Whatever was measured before, torch's operations are counted.
    monkeypatch.setattr(autotune, "_forced", {"deconv": "reference"})
    from torch._dynamo.backends.common import aot_autograd

    config = gans.tiny_config("dcgan")
    state, inputs, counts = gans.tiny_networks(config), gans.random_inputs(config), Counter()

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
        return update(state, inputs)

    with torch._dynamo.config.patch(trace_autograd_ops=True):
        torch.compile(step, backend=aot_autograd(fw_compiler=count), fullgraph=True)(inputs)
    assert counts == gans.NO_WASTE


@pytest.mark.skipif(registry.native_problem("cpu") is not None, reason=str(registry.native_problem("cpu")))
def test_images_of_one_channel_between_a_kernel_of_ours_and_the_library_s_compile(monkeypatch):
    """They lie in both memory formats at once.

    The compiler must foresee which of the two the library assumes.
    """
    monkeypatch.setattr(
        autotune,
        "pick",
        lambda op, call, forms, device_type: "cpu" if call.startswith("up") and "cpu" in forms else "reference",
    )
    config, reports = gans.tiny_config("dcgan"), []
    engine = gans.make_engine(
        config, gans.tiny_networks(config), Precision("cpu", torch.bfloat16, "test"), report=reports
    )
    assert engine.prepare().name == "compiled", reports


def test_the_private_setting_of_dynamo_is_there():
    """A release that renames trace_autograd_ops fails here, not in a user's run."""
    assert isinstance(torch._dynamo.config.trace_autograd_ops, bool)
    compile_step(lambda: None, [], {})
    assert torch._dynamo.config.trace_autograd_ops is True


def assert_same(before, state):
    for group, tensors in before.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, state[group][name]), (group, name)
