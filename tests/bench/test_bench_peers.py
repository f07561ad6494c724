"""The baselines are the same training as fastgan's: the same networks, and the same update from the same weights, images and noise."""
from functools import partial

import gans
import pytest
import torch

from bench import timing
from bench.cases import Case, make_case
from bench.fastgan_loop import FastganLoop
from bench.implementations import rung_config
from bench.peers import networks
from bench.peers.accelerated import AcceleratedLoop, WholeFunctions
from bench.peers.plain import PlainLoop
from bench.switches import present
from fastgan import models
from fastgan.config import replace
from fastgan.inputs import StepInputs

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_switches_afterwards():
    before = present()
    yield
    before.apply()


def tiny_case(preset):
    """A small case. Adam's eps lies far above the rounding of gradients, whose sign alone decides the first update with the usual one."""
    case = make_case(preset, {"gaussian1d": 200}.get(preset, 4), 16 if preset == "dcgan" else None)
    config = replace(case.config, "optim.eps", 1e-3)
    for key in ("model.ngf", "model.ndf"):
        config = replace(config, key, 8)
    return Case(config, CPU)


def num_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("preset", gans.PLAIN)
def test_the_networks_have_the_parameters_of_the_preset(preset):
    model = make_case(preset).config.model
    for ours, theirs in zip(models.build(model), networks.build(model), strict=True):
        assert [parameter.shape for parameter in theirs.parameters()] == [parameter.shape for parameter in ours.parameters()]
        assert num_parameters(theirs) > 0


@pytest.mark.parametrize("preset", gans.PLAIN)
def test_a_plain_step_is_a_step_of_fastgan(preset):
    compare_steps(preset, PlainLoop)


@pytest.mark.parametrize("preset", gans.PLAIN)
def test_an_accelerated_step_is_a_step_of_fastgan(preset):
    compare_steps(preset, lambda config, device: AcceleratedLoop(config, device, torch.float32, compile=False))


@pytest.mark.parametrize("preset", gans.PLAIN)
def test_a_step_of_whole_functions_is_a_step_of_fastgan(preset, monkeypatch):
    """The functions that are compiled, with what the compiler does left out."""
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
    assert (loop.functions, loop.note) == (None, "without D compiled with its losses, in CUDA graphs: RuntimeError: no graphs here")
    assert all(parameter.requires_grad for parameter in loop.D.parameters())
    loop.step(case.float_batches[0])


@pytest.mark.parametrize(("graphed_s", "kept"), [(0.5, True), (2.0, False)])
def test_the_faster_form_stays(graphed_s, kept, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(timing, "interleave", lambda steps, **options: ({"without": [1.0, 1.5], "with": [graphed_s, 3.0]}, {}))
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
    """Two loops from the same weights and noise, one in CUDA graphs, which are recorded and then replayed."""
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


def compare_steps(preset, make_loop):
    """Two updates of each, side by side."""
    case = tiny_case(preset)
    torch.manual_seed(0)
    ours, theirs = FastganLoop(rung_config(case.config, False, "eager"), CPU, case.images), make_loop(case.config, CPU)
    start = [parameter.detach().clone() for parameter in both_networks(ours)]
    take_weights(theirs, ours)
    noise = [networks.draw_z(case.config.model, case.config.run.batch_size, CPU) for _ in range(4)]
    our_noise, theirs.draw_z = iter([z.flatten(1) for z in noise]), iter(noise).__next__
    for index in range(2):
        z, fresh_z = next(our_noise), next(our_noise) if case.config.loss.fresh_fakes else None
        ours.engine.system.phases["update"].draw = partial(StepInputs, case.uint8_batches[index], z, fresh_z)
        ours.run()
        theirs.step(case.float_batches[index])
    for before, our, their in zip(start, both_networks(ours), both_networks(theirs), strict=True):
        moved = (our - before).norm()
        assert moved > 0
        assert (our - their).norm() < 1e-3 * moved


def both_networks(loop):
    return [*loop.G.parameters(), *loop.D.parameters()]


def take_weights(theirs, ours):
    """Copy weights and BatchNorm statistics, which both state dicts hold in the order of the layers."""
    for to, source in ((theirs.G, ours.G), (theirs.D, ours.D)):
        to.load_state_dict(dict(zip(to.state_dict(), source.state_dict().values(), strict=True)))


@pytest.mark.parametrize("preset", gans.PLAIN)
def test_noise_has_the_distribution_of_the_preset(preset):
    model = make_case(preset).config.model
    torch.manual_seed(0)
    z = networks.draw_z(model, 4000, CPU).flatten(1)
    assert z.shape == (4000, model.z_dim)
    low, mean, std = {"normal": (None, 0, 1), "uniform": (-1, 0, 3**-0.5), "unit_uniform": (0, 0.5, 12**-0.5)}[model.z_distribution]
    assert z.mean().item() == pytest.approx(mean, abs=0.05)
    assert z.std().item() == pytest.approx(std, rel=0.05)
    assert low is None or (z.min() >= low and z.max() <= 1)


def test_the_plain_loop_computes_gradients_of_D_in_the_G_step_and_the_accelerated_one_does_not():
    case = tiny_case("mlp")
    plain, accelerated = PlainLoop(case.config, CPU), AcceleratedLoop(case.config, CPU, torch.float32, compile=False)
    assert gradients_change_after_use(plain, case)
    assert not gradients_change_after_use(accelerated, case)


def gradients_change_after_use(loop, case):
    """Whether D's gradients change after D's optimiser has used them."""
    used = []
    original = loop.optimizer_D.step
    loop.optimizer_D.step = lambda: (original(), used.extend(parameter.grad.clone() for parameter in loop.D.parameters()))
    loop.step(case.float_batches[0])
    return any(not torch.equal(old, parameter.grad) for old, parameter in zip(used, loop.D.parameters(), strict=True))
