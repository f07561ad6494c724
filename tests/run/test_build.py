"""The engine of a configuration: its phases compiled and recorded against eager code.

A run also continues from the point where it was left.
"""
import copy

import plain_loop
import pytest
import torch
from plain_loop import D, G, Ours, config_of
from step_cases import CASES
from torch import nn

from fastgan.bench.recorded_graphs import RecordedGraphs
from fastgan.data.feeds.synthetic import MixtureFeed
from fastgan.engine.parity import restore, snapshot
from fastgan.gan.phases import PHASES
from fastgan.gan.train_state import make_train_state
from fastgan.nn.pair import inspect_pair
from fastgan.ops.dispatch import autotune, registry
from fastgan.run import build

TRACED = (
    "all of r3gan's", "path length, n_critic 2, lazy r1", "one-hot classes, gp, n_critic 2, fresh", "classifier, gp",
    "clipping", "reconstruction",
)  # fmt: skip


def ours_of(name: str, reports: list | None = None, seed: int = 17, **more) -> Ours:
    """Make the engine of a case of step_cases.py, always the same one for a seed."""
    overrides = CASES[name] | more
    make_G, make_D = overrides.pop("make_G", G), overrides.pop("make_D", D)
    torch.manual_seed(seed)
    return Ours(config_of(**overrides), make_G(), make_D(), reports)


@pytest.fixture
def references(monkeypatch):
    """Use the reference operators; which implementations run is tested elsewhere."""
    monkeypatch.setattr(autotune, "_forced", dict.fromkeys(registry.OPS, "reference"))


# --- compiled ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def traced_only(monkeypatch):
    """Make the compiled rung without Inductor.

    Dynamo's one graph and its derivatives by AOTAutograd are run as they are.
    """
    from torch._dynamo.backends.debugging import aot_eager

    monkeypatch.setattr(
        "torch._inductor.compile_fx.compile_fx", lambda graph, inputs, config_patches: aot_eager(graph, inputs)
    )
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("name", TRACED)
def test_every_phase_is_one_graph_that_does_what_eager_does(traced_only, references, name):
    reports = []
    compiled, eager = ours_of(name, reports, run__compile=True), ours_of(name)
    compiled.prepare()
    assert (compiled.engine.rung.name, reports) == ("compiled", [])
    assert len(compiled.engine.phases.graphs) == len(compiled.engine.system.phases)
    compiled.run(9)
    eager.run(9)
    assert_near(compiled, eager)
    compiled.engine.check_no_recompilation()


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("name", ["wgan-gp, n_critic 2"])
def test_a_batch_in_parts_is_one_graph_too(traced_only, references, name):
    reports = []
    compiled, eager = ours_of(name, reports, run__compile=True, run__batch_gpu=2), ours_of(name)
    compiled.prepare()
    assert (compiled.engine.rung.name, reports) == ("compiled", [])
    compiled.run(4)
    eager.run(4)
    assert_near(compiled, eager)


def assert_near(ours: Ours, theirs: Ours) -> None:
    for (group, tensors), others in zip(ours.state.tensors().items(), theirs.state.tensors().values(), strict=True):
        for name, tensor in tensors.items():
            torch.testing.assert_close(
                tensor, others[name], rtol=1e-4, atol=1e-5, msg=lambda text, at=(group, name): f"{at}: {text}"
            )


# --- recorded ---------------------------------------------------------------------------------------------------------

RECORDED = {"wgan-gp, n_critic 5": {}, "lazy r1": {}, "intro, later one for one, fresh": {}}
RECORDED_SLOWLY = {
    "wgan-gp, n_critic 5, fresh": {},
    "path length, n_critic 2, lazy r1": {},
    "intro of wgan": {},
    "all of r3gan's": {},
    "classes, r3gan, n_critic 2": {},
    "lazy r1 and r2 and gp": {"run__batch_gpu": 2},
}


def recorded(monkeypatch, name: str, size: int, reports: list, **more) -> tuple[Ours, RecordedGraphs]:
    graphs = RecordedGraphs()
    monkeypatch.setattr(build, "graphs_of", lambda device, generators: graphs)
    ours = ours_of(name, reports, run__graph_steps=size, **more)
    monkeypatch.undo()
    return ours, graphs


@pytest.mark.parametrize(
    "name",
    [*RECORDED, *(pytest.param(name, marks=(pytest.mark.slow, pytest.mark.thorough)) for name in RECORDED_SLOWLY)],
)
def test_recorded_steps_equal_eager_ones_to_the_bit(monkeypatch, name):
    reports, size, more = [], 3, (RECORDED | RECORDED_SLOWLY)[name]
    captured, graphs = recorded(monkeypatch, name, size, reports, **more)
    monkeypatch.setattr(autotune, "_forced", dict.fromkeys(registry.OPS, "reference"))
    eager = ours_of(name, **more)
    before = snapshot(captured.engine.system.state)
    captured.prepare()
    assert (captured.engine.rung.name, captured.engine.rung.steps_per_launch, reports) == ("captured", size, [])
    assert_same(before, captured.engine.system.state)  # the first trained step is the first
    graphs.replayed.clear()
    captured.run(15, at_once=3)
    captured.run(2)
    eager.run(17)
    assert len(graphs.replayed) < 17
    assert_same(snapshot(eager.engine.system.state), captured.engine.system.state)
    assert torch.equal(captured.generator.get_state(), eager.generator.get_state())


@pytest.mark.parametrize("lazy", [{}, {"penalty__D_reg_interval": 2}], ids=str)
def test_samples_that_are_drawn_as_they_are_needed(monkeypatch, references, lazy):
    """The feed of samples is read outside of the compiled step, from the run's own generator.

    Penalties use the last batch again.
    """
    config = config_of(
        loss__name="wasserstein",
        penalty__gp_weight=1.0,
        loss__n_critic=3,
        loss__instance_noise=0.1,
        run__graph_steps=2,
        **lazy,
    )
    systems = []
    for graphs in (RecordedGraphs(), None):
        torch.manual_seed(0)
        G, D = nn.Linear(5, 2), nn.Sequential(nn.Linear(2, 8), nn.Softplus(), nn.Linear(8, 1))
        signature = inspect_pair.inspect(G, D, 5, 4, plain_loop.CPU)
        state = make_train_state(G, D, config, signature, plain_loop.CPU, plain_loop.FP32)
        generator = torch.Generator().manual_seed(1)
        feed = MixtureFeed(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), 0.1, 4, generator)
        monkeypatch.setattr(build, "graphs_of", lambda device, generators, graphs=graphs: graphs)
        reports = []
        engine = build.make_engine(config, signature, state, feed, generator, reports.append)
        assert (engine.prepare().name, reports) == ("captured" if graphs else "eager", [])
        engine.run(0, 9)
        systems.append(engine.system)
    assert_same(snapshot(systems[1].state), systems[0].state)
    assert torch.isfinite(state.totals.tensor).all()
    assert state.totals.means(state.totals.tensor.tolist())["gradient_penalty"] > 0


# --- a run that goes on -----------------------------------------------------------------------------------------------

LEFT = ("lazy r1 and r2 and gp", "intro of wgan", "path length, n_critic 2, lazy r1", "all of r3gan's",
        "average of a share", "a linear gamma, lazy", "classes, r3gan, n_critic 2", "warm-up")  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_a_run_goes_on_where_it_was_left(references, name):
    """The resumption of a run in the middle of an interval.

    Networks of another start, the state put back in place, the feed sent to its place.
    """
    whole, first, second = ours_of(name), ours_of(name), ours_of(name, seed=99)
    whole.run(13)
    first.run(7)
    saved = copy.deepcopy(snapshot(first.state.tensors()))
    second.run(2)  # somewhere else
    restore(second.state.tensors(), saved)
    second.generator.set_state(first.generator.get_state())
    second.feed.seek(first.feed.nimg)
    second.step = first.step
    second.run(6)
    assert_same(snapshot(whole.engine.system.state), second.engine.system.state)


def assert_same(before, state) -> None:
    for group, tensors in before.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, state[group][name]), (group, name)


# --- what a phase is given --------------------------------------------------------------------------------------------


def source_of(**overrides) -> build.InputSource:
    config = config_of(**overrides)
    torch.manual_seed(0)
    ours = Ours(config, G("numbers" if config.model.c_dim else "none"), D("numbers" if config.model.c_dim else "none"))
    return build.InputSource(
        config, ours.signature, ours.state, plain_loop.make_feed(config), torch.Generator().manual_seed(0)
    )


def drawn(source: build.InputSource, phase: str) -> set[str]:
    """Return the inputs that a phase draws."""
    return {name for name, value in source.draw(PHASES[phase])._asdict().items() if value is not None}


def test_a_phase_draws_what_it_needs_and_nothing_else():
    plain = source_of()
    assert drawn(plain, "update") == {"z"}
    tricky = source_of(loss__fresh_fakes=True, loss__flip_labels=0.1, loss__instance_noise=0.1, data__mirror=True)
    assert drawn(tricky, "update") == {"z", "fresh_z", "flips", "noise", "mirror"}
    assert drawn(tricky, "D") == {"z", "flips", "noise", "mirror"}
    assert drawn(tricky, "G") == {"z", "noise"}
    assert drawn(tricky, "D_penalty") == {"z", "noise", "mirror"}
    between = source_of(penalty__gp_weight=1.0)
    assert ("between" in drawn(between, "D"), "between" in drawn(between, "G")) == (True, False)
    lazily = source_of(penalty__gp_weight=1.0, penalty__D_reg_interval=2)
    assert ("between" in drawn(lazily, "D"), "between" in drawn(lazily, "D_penalty")) == (False, True)
    assert drawn(source_of(penalty__pl_weight=1.0), "G_penalty") == {"z", "path_noise"}


@pytest.mark.parametrize(("batch", "num"), [(0.5, 2), (0.1, 1), (1.0, 4)])
def test_path_lengths_are_taken_of_a_part_of_the_batch(batch, num):
    inputs = source_of(penalty__pl_weight=1.0, penalty__pl_batch_fraction=batch).draw(PHASES["G_penalty"])
    assert (len(inputs.z), inputs.path_noise.shape) == (num, (num, 1, 16, 16))


def test_parts_of_the_inputs_are_parts_of_every_batch():
    source = source_of(
        loss__flip_labels=0.1, loss__instance_noise=0.1, loss__hinge_margin=0.5, loss__name="hinge", data__mirror=True
    )
    inputs = source.draw(PHASES["update"])._replace(real_img=torch.arange(4.0), labels=torch.arange(4))
    parts = [inputs.part(index, 2) for index in range(2)]
    for name, whole in inputs._asdict().items():
        of_parts = [getattr(part, name) for part in parts]
        if whole is None:
            assert of_parts == [None, None]
        else:
            dim = 1 if name in ("flips", "noise", "margin", "augment") else 0
            assert torch.equal(torch.cat(of_parts, dim), whole), name
            assert of_parts[0].shape[dim] == 2
