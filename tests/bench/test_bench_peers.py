"""The baselines are the same training as fastgan's.

They have the same networks, and make the same update from the same weights, images and noise.
"""
import dataclasses
import functools

import gans
import pytest
import torch

from fastgan import models
from fastgan.bench import timing
from fastgan.bench.fastgan_loop import FastganLoop
from fastgan.bench.implementations import rung_config
from fastgan.bench.peers import networks
from fastgan.bench.peers.accelerated import AcceleratedLoop, WholeFunctions
from fastgan.bench.peers.choice import plain_loop
from fastgan.bench.peers.plain import PlainLoop
from fastgan.bench.step_cases import Case, make_case
from fastgan.bench.switches import present
from fastgan.config import presets, replace
from fastgan.data import ResidentFeed

CPU = torch.device("cpu")
RECIPES = ("wgan-gp-tiny", "stylegan2-tiny", "r3gan-tiny")  # whose plain loops run fastgan's own networks


@pytest.fixture(autouse=True)
def same_switches_afterwards():
    before = present()
    yield
    before.apply()


def tiny_case(preset):
    """Return a small case.

    Adam's eps lies far above the rounding of gradients, whose sign alone decides the first update
    with the usual one.
    """
    case = make_case(preset, {"gaussian1d": 200}.get(preset, 4), 16 if preset in ("dcgan", *RECIPES) else None)
    small = {"optim.eps": 1e-3, "model.ngf": 8, "model.ndf": 8, "model.channel_base": 128}
    return Case(functools.reduce(lambda config, each: replace(config, *each), small.items(), case.config), CPU)


def num_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("preset", gans.PLAIN)
def test_the_networks_have_the_parameters_of_the_preset(preset):
    model = make_case(preset).config.model
    for ours, theirs in zip(models.build(model), networks.build(model), strict=True):
        assert [parameter.shape for parameter in theirs.parameters()] == [
            parameter.shape for parameter in ours.parameters()
        ]
        assert num_parameters(theirs) > 0


@pytest.mark.parametrize("preset", gans.PLAIN)
def test_a_plain_step_is_a_step_of_fastgan(preset):
    compare_steps(preset, PlainLoop)


@pytest.mark.parametrize("preset", RECIPES)
def test_a_period_of_a_plain_loop_is_a_period_of_fastgan(preset):
    """Every phase of the rhythm once or more, with penalties, schedules and the moving average."""
    ours, theirs = compare_steps(
        preset, plain_loop(tiny_case(preset).config), num_calls=2 if preset == "r3gan-tiny" else 1
    )
    assert theirs.num_steps == {"wgan-gp-tiny": 5, "stylegan2-tiny": 16, "r3gan-tiny": 2}[preset]
    for our, their in zip(ours.state.G_ema.state_dict().values(), theirs.G_ema.state_dict().values(), strict=True):
        if our.is_floating_point():  # BatchNorm's counters are brought up to date for snapshots alone
            torch.testing.assert_close(their, our, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("preset", "kind"), [("mlp", PlainLoop), ("dcgan-tiny", PlainLoop), ("wgan-gp", "PlainWganGp"),
                                              ("wgan-gp-64", "PlainWganGp"), ("stylegan2", "PlainStylegan2"),
                                              ("wgan", None), ("sngan", None),
                                              ("lightweight-tiny", None),
                                              ("r3gan", None), ("acgan", None), ("cgan", None)])  # fmt: skip
def test_a_loop_is_for_the_recipe_that_it_was_written_for(preset, kind):
    found = plain_loop(presets.preset(preset))
    assert found is kind or found.__name__ == kind


@pytest.mark.parametrize("preset", gans.PLAIN)
def test_an_accelerated_step_is_a_step_of_fastgan(preset):
    compare_steps(preset, lambda config, device: AcceleratedLoop(config, device, torch.float32, compile=False))


@pytest.mark.parametrize("preset", gans.PLAIN)
def test_a_step_of_whole_functions_is_a_step_of_fastgan(preset, monkeypatch):
    """The functions that are compiled, without the compiler."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)

    def make_loop(config, device):
        loop = AcceleratedLoop(config, device, torch.float32, compile=True)
        loop.functions = WholeFunctions(loop.G, loop.D, on_cuda=False)
        return loop

    compare_steps(preset, make_loop)


def test_functions_that_cannot_be_compiled_are_a_note_and_the_loop_goes_on(monkeypatch):
    def compile(function, mode=None, dynamic=None):
        def fail(*inputs):
            raise RuntimeError("no graphs here\nand more")

        return fail if mode == "reduce-overhead" else function

    monkeypatch.setattr(torch, "compile", compile)
    case = tiny_case("mlp")
    loop = AcceleratedLoop(case.config, CPU, torch.float32, compile=True)
    loop.on_cuda = True
    assert loop.try_functions(case.float_batches[0], 1.5) == 1.5
    assert (loop.functions, loop.note) == (
        None,
        "without D compiled with its losses, in CUDA graphs: RuntimeError: no graphs here",
    )
    assert all(parameter.requires_grad for parameter in loop.D.parameters())
    loop.step(case.float_batches[0])


@pytest.mark.parametrize(("graphed_s", "kept"), [(0.5, True), (2.0, False)])
def test_the_faster_form_stays(graphed_s, kept, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(
        timing, "interleave", lambda steps, **options: ({"without": [1.0, 1.5], "with": [graphed_s, 3.0]}, {})
    )
    case = tiny_case("mlp")
    loop = AcceleratedLoop(case.config, CPU, torch.float32, compile=True)
    ready_s = loop.try_functions(case.float_batches[0], 1234.5)
    assert (loop.functions is not None) == kept
    assert (ready_s == 1234.5) != kept
    assert loop.note.startswith(f"a step with D compiled with its losses is {2.0 if kept else 0.5:.2f} times")


def test_nothing_is_compiled_where_it_is_not_asked_for():
    case = tiny_case("mlp")
    loop = AcceleratedLoop(case.config, CPU, torch.float32, compile=False)
    assert loop.warm_up(case.float_batches[0]) > 0
    assert (loop.functions, loop.note) == (None, "")


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("preset", ["mlp", "dcgan"])
def test_graphs_make_the_same_steps_on_a_gpu(preset):
    """Two loops from the same weights and noise.

    One runs in CUDA graphs, which are recorded and then replayed.
    """
    case = tiny_case(preset)
    device = torch.device("cuda")
    plain, graphed = (AcceleratedLoop(case.config, device, torch.float32, compile=True) for _ in range(2))
    for to, source in ((graphed.G, plain.G), (graphed.D, plain.D)):
        to.load_state_dict(source.state_dict())
    graphed.functions = WholeFunctions(graphed.G, graphed.D, on_cuda=True)
    start = [parameter.detach().clone() for parameter in both_networks(plain)]
    for loop in (plain, graphed):
        torch.manual_seed(0)
        for index in range(6):
            loop.step(case.float_batches[index].to(device))
    for before, ours, theirs in zip(start, both_networks(plain), both_networks(graphed), strict=True):
        assert (ours - theirs).norm() < 0.05 * (ours - before).norm()


def compare_steps(preset, make_loop, num_calls=2):
    """Run two calls of fastgan's loop, periods of its rhythm, and as many steps of the other.

    Returns both.
    """
    case = tiny_case(preset)
    torch.manual_seed(0)
    ours, theirs = FastganLoop(rung_config(case.config, False, "eager"), CPU, case.images), make_loop(case.config, CPU)
    start = [parameter.detach().clone() for parameter in both_networks(ours)]
    take_weights(theirs, ours)
    drawn = record_inputs(ours)
    batches = batches_of(case, drawn)
    give_the_same_numbers(theirs, drawn)
    for _ in range(num_calls):
        torch.manual_seed(1)
        ours.run()
        torch.manual_seed(1)  # for what the networks draw themselves
        for _ in range(ours.steps_per_call):
            theirs.step(case.as_float(next(batches)))
    assert_moved_alike(start, both_networks(ours), both_networks(theirs))
    return ours, theirs


def record_inputs(loop):
    """Return a list to which every phase of the loop appends (its name, its StepInputs)."""
    drawn, phases = [], loop.engine.system.phases

    def recording(name, draw):
        def record():
            drawn.append((name, draw()))
            return drawn[-1][1]

        return record

    loop.engine.system.phases = {
        name: dataclasses.replace(phase, draw=recording(name, phase.draw)) for name, phase in phases.items()
    }
    return drawn


def batches_of(case, drawn):
    """Yield the real images of one step after the other, as fastgan's step got them.

    They come from a feed like its own, or from what was drawn.
    """
    if case.images is None:
        yield from (inputs.real_img for _, inputs in drawn)
    feed = ResidentFeed(case.images.permute(0, 2, 3, 1), case.images_per_step, 0)
    while True:
        yield feed.next_batch().img


def give_the_same_numbers(loop, drawn):
    """Let the loop draw the numbers that fastgan drew, in the same order, whatever it asks for."""
    z_shape = loop.draw_z().shape[1:]
    kinds = {"draw_z": ("z", "fresh_z"), "draw_uniform": ("between",), "draw_normal": ("path_noise",)}

    def numbers(fields):
        for phase, inputs in drawn:  # grows meanwhile
            if phase != "D_penalty":  # R1 alone needs none of what is drawn for it
                yield from (value for value in (getattr(inputs, field) for field in fields) if value is not None)

    for name, fields in kinds.items():
        values, is_z = numbers(fields), name == "draw_z"
        setattr(
            loop,
            name,
            lambda *shape, values=values, is_z=is_z: next(values).unflatten(1, z_shape) if is_z else next(values),
        )


def assert_moved_alike(start, ours, theirs):
    """Assert equal movement, to a thousandth of the way.

    A bias before BatchNorm goes nowhere, or where rounding takes it.
    """
    for before, our, their in zip(start, ours, theirs, strict=True):
        moved = (our - before).norm()
        assert moved > 0 or our.ndim < 2
        assert (our - their).norm() < 1e-3 * moved + 1e-6 * our.numel() ** 0.5


def both_networks(loop):
    return [*loop.G.parameters(), *loop.D.parameters()]


def take_weights(theirs, ours):
    """Copy weights and BatchNorm statistics.

    Both state dicts hold them in the order of the layers.
    """
    pairs = [(theirs.G, ours.G), (theirs.D, ours.D)] + ([(theirs.G_ema, ours.G)] if hasattr(theirs, "G_ema") else [])
    for to, source in pairs:
        to.load_state_dict(dict(zip(to.state_dict(), source.state_dict().values(), strict=True)))


@pytest.mark.parametrize("preset", gans.PLAIN)
def test_noise_has_the_distribution_of_the_preset(preset):
    model = make_case(preset).config.model
    torch.manual_seed(0)
    z = networks.draw_z(model, 4000, CPU).flatten(1)
    assert z.shape == (4000, model.z_dim)
    low, mean, std = {"normal": (None, 0, 1), "uniform": (-1, 0, 3**-0.5), "unit_uniform": (0, 0.5, 12**-0.5)}[
        model.z_distribution
    ]
    assert z.mean().item() == pytest.approx(mean, abs=0.05)
    assert z.std().item() == pytest.approx(std, rel=0.05)
    assert low is None or (z.min() >= low and z.max() <= 1)


def test_the_plain_loop_computes_gradients_of_D_in_the_G_step_and_the_accelerated_one_does_not():
    case = tiny_case("mlp")
    plain, accelerated = PlainLoop(case.config, CPU), AcceleratedLoop(case.config, CPU, torch.float32, compile=False)
    assert gradients_change_after_use(plain, case)
    assert not gradients_change_after_use(accelerated, case)


def gradients_change_after_use(loop, case):
    """Return True where D's gradients change after D's optimiser has used them."""
    used = []
    original = loop.optimizer_D.step
    loop.optimizer_D.step = lambda: (
        original(),
        used.extend(parameter.grad.clone() for parameter in loop.D.parameters()),
    )
    loop.step(case.float_batches[0])
    return any(not torch.equal(old, parameter.grad) for old, parameter in zip(used, loop.D.parameters(), strict=True))
