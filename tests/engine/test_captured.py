"""The captured rung on a GPU, and those of its parts that need none."""
import contextlib
import gc

import gans
import numpy as np
import pytest
import torch
from torch import nn

from fastgan import Trainer
from fastgan.bench.recorded_graphs import RecordedGraphs
from fastgan.config import replace
from fastgan.device.cuda_graphs import CudaGraphs, waiting_forbidden
from fastgan.engine.captured import CapturedSteps, best_size
from fastgan.engine.parity import snapshot
from fastgan.engine.phase_schedule import Interval, PhaseSchedule
from fastgan.ops.dispatch import autotune


def images(num=96, side=16, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, side, side, channels), dtype=np.uint8)


class FakeSteps:
    def __init__(self, size, seconds_per_step, clock):
        self.size, self._seconds, self._clock = size, seconds_per_step, clock

    def run(self, first, num):
        assert num % self.size == 0
        self._clock[0] += num * self._seconds


@pytest.mark.parametrize(
    ("seconds", "size"),
    [
        ((1e-3, 1e-3, 1e-3), 16),  # fewer launches at no cost
        ((1e-3, 0.9e-3, 0.95e-3), 4),
        ((1e-3, 1.1e-3, 1.1e-3), 1),
        ((0.1, 0.05, 0.01), 16),  # 0.16 s a launch
        ((0.3, 0.29, 0.28), 1),  # no launch that could be stopped in time
    ],
)
def test_the_best_size_of_a_launch(monkeypatch, seconds, size):
    clock = [0.0]
    monkeypatch.setattr("fastgan.engine.captured.time.perf_counter", lambda: clock[0])
    candidates = [FakeSteps(each, per_step, clock) for each, per_step in zip((1, 4, 16), seconds, strict=True)]
    assert best_size(candidates, PhaseSchedule({"update": Interval(3, (0, 1, 2))}), lambda: None).size == size


def test_single_steps_are_recorded_once_for_all_sizes():
    graphs, weight = RecordedGraphs(), torch.zeros(())
    steps, phase_schedule = {("update",): lambda: weight.add_(1)}, PhaseSchedule({"update": Interval()})
    single = CapturedSteps(graphs, steps, phase_schedule, 1)
    CapturedSteps(graphs, steps, phase_schedule, 4, other=single)
    assert [len(operators) for operators in graphs.recordings] == [1, 4]


def test_without_cuda_nothing_is_forbidden():
    if not torch.cuda.is_available():
        with waiting_forbidden():
            assert torch.ones(()).item() == 1


class PlayedGenerator:
    renewed = False

    def clone_state(self):
        return PlayedGenerator()

    def graphsafe_set_state(self, other):
        self.renewed = True


class PlayedStream:
    def __init__(self, log, name):
        self.log, self.name = log, name

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def played(monkeypatch):
    """Return (CudaGraphs without CUDA, log of its calls).

    A failed recording fails again at its end, as CUDA's do.
    """
    log, graphs = [], object.__new__(CudaGraphs)
    graphs.device, graphs.generators, graphs.pool = torch.device("cuda", 0), [PlayedGenerator()], (0, 1)
    graphs.stream, current = PlayedStream(log, "side"), PlayedStream(log, "current")

    class Graph:
        def register_generator_state(self, generator):
            assert generator is graphs.generators[0]

        def replay(self):
            log.append("replayed")

    @contextlib.contextmanager
    def record(graph, pool, stream, capture_error_mode):
        try:
            yield
        except BaseException as error:
            raise RuntimeError("the recording is invalid") from error

    for name, stand_in in {
        "CUDAGraph": Graph,
        "graph": record,
        "stream": lambda stream: contextlib.nullcontext(),
        "current_stream": lambda device=None: current,
        "graph_pool_handle": lambda: (0, 2),
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.cuda, "default_generators", [PlayedGenerator()])
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: graphs.cleared.append(len(log)), raising=False)
    graphs.cleared = []
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.setattr(torch._C, name, lambda device, pool, name=name: log.append((name, device, pool)))
    return graphs, log


def breaks_off():
    raise ZeroDivisionError("in the step")


def test_a_recording_that_breaks_off_gives_back_what_it_took(played):
    graphs, log = played
    with pytest.raises(ZeroDivisionError, match="in the step"):
        graphs.record(breaks_off)
    assert log == [("_cuda_endAllocateToPool", 0, (0, 1)), ("_cuda_releasePool", 0, (0, 1))]
    assert graphs.pool == (0, 2)  # the allocator would refuse to record into the unfinished one
    assert graphs.generators[0].renewed
    assert torch.cuda.default_generators[0].renewed
    graphs.cleared.clear()
    graphs.record(lambda: log.append("recorded"))()
    assert log[2:] == ["recorded", "replayed"]
    assert graphs.cleared == [2, 3]  # before the recording, and after it


def test_a_pool_whose_recording_ended_is_released_once(played, monkeypatch):
    graphs, log = played

    def refuse(device, pool):
        raise RuntimeError("not currently recording to mempool_id")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", refuse)
    with pytest.raises(ZeroDivisionError):
        graphs.record(breaks_off)
    assert log == []


def test_what_follows_a_warm_up_that_broke_off_waits_for_its_steps(played):
    graphs, log = played
    with pytest.raises(ZeroDivisionError):
        graphs.warm_up(breaks_off)
    assert log == ["side waits for current", "current waits for side"]


# --- on a GPU -------------------------------------------------------------------------------------


def trainer_on_gpu(preset: str, cuda_graph: str, compile: bool, **overrides) -> Trainer:
    options = {
        "run__amp": False,
        "run__device": "cuda",
        "run__cuda_graph": cuda_graph,
        "run__compile": compile,
        "run__tick_kimg": 128.0,
    }
    config = gans.tiny_config(preset, **options, **overrides)
    if preset != "gaussian1d":
        config = replace(config, "data.source", "fashion-mnist-10k")
    return Trainer.from_config(replace(replace(config, "run.epochs", None), "run.kimg", 100.0), progress=False)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")  # the compiler's, where they are not used
@pytest.mark.parametrize("preset", ["mlp", "dcgan", "gaussian1d"])
def test_all_rungs_end_with_the_same_parameters_after_twenty_steps(monkeypatch, preset):
    """The runs use fp32 without TF32.

    Parameters are equal to the bit where nothing is compiled, and up to the compiler's other order
    of sums where something is.
    """
    monkeypatch.setattr(autotune, "_forced", {})  # the implementations forced by the trainers end here
    references = dict.fromkeys(("ops__deconv", "ops__leaky_relu_bce", "ops__adam_ema"), "reference")
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    states = {}
    rungs = {"eager": ("off", False, None), "captured 1": ("on", False, 1), "captured 8": ("on", False, 8),
             "compiled": ("off", True, None), "compiled and captured": ("on", True, 8)}  # fmt: skip
    for name, (cuda_graph, compile, graph_steps) in rungs.items():
        trainer = trainer_on_gpu(
            preset, cuda_graph, compile, run__graph_steps=graph_steps, optim__ema_kimg=1.0, **references
        )
        torch.set_float32_matmul_precision("highest")
        trainer.fit(steps=20)
        assert trainer.engine.rung.name == ("captured" if cuda_graph == "on" else "compiled" if compile else "eager")
        states[name] = (snapshot(trainer.state.tensors()), trainer.generator.get_state(), trainer.feed.state())
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = False, True
    eager, place, position = states["eager"]
    for name, (state, generator_state, feed_state) in states.items():
        assert torch.equal(generator_state, place), name
        assert all(torch.equal(feed_state[key], position[key]) for key in position), name
        tolerance = 2e-2 if "compiled" in name else 0.0 if preset == "mlp" else 1e-4
        for group in ("G", "D"):
            for key, tensor in state[group].items():
                difference = (tensor - eager[group][key]).norm() / eager[group][key].norm()
                assert difference <= tolerance, (name, group, key)


@pytest.mark.gpu
def test_no_host_synchronisation_inside_a_tick(monkeypatch):
    trainer = trainer_on_gpu("dcgan", "on", False)
    trainer._prepare_step(gans.SilentProgress(), 100)
    with waiting_forbidden():
        for _ in range(50):
            trainer._launch(100)


class WaitsForTheDevice(nn.Module):
    def forward(self, x):
        return x * float(x.mean().item() < 1e9)


class WaitsUnseen(nn.Module):
    """A network that is illegal while recording, but that the warm-up does not see as waiting."""

    def forward(self, x):
        if x.is_cuda:
            torch.cuda.synchronize()
        return x


@pytest.mark.gpu
@pytest.mark.parametrize("what", [WaitsForTheDevice, WaitsUnseen])
def test_training_goes_on_after_a_recording_that_failed(what):
    """Random numbers, memory and streams work as before."""
    G = nn.Sequential(nn.Linear(8, 768), nn.Tanh())
    D = nn.Sequential(nn.Linear(768, 16), what(), nn.Dropout(0.2), nn.Linear(16, 1))
    trainer = Trainer(G, D, images(), z_dim=8, batch_size=8, compile=False, amp=False, device="cuda", progress=False)
    stream = torch.cuda.current_stream()
    last = trainer.fit(steps=5)
    assert last["rung"] == "eager"
    assert torch.cuda.current_stream() == stream
    assert torch.isfinite(trainer.sample(3)).all()
    torch.rand(3, device="cuda")


@pytest.mark.gpu
def test_a_recording_that_breaks_off_leaves_usable_generators():
    generator = torch.Generator("cuda").manual_seed(1)
    graphs, out = CudaGraphs(torch.device("cuda"), [generator]), torch.zeros(4, device="cuda")

    def breaks_off():
        out.copy_(torch.rand(4, generator=generator, device="cuda"))
        torch.rand(4, device="cuda")
        out.sum().item()

    with pytest.raises(RuntimeError):
        graphs.record(breaks_off)
    torch.rand(4, device="cuda")
    expected = torch.rand(4, generator=torch.Generator("cuda").manual_seed(1), device="cuda")
    generator.manual_seed(1)
    assert torch.equal(torch.rand(4, generator=generator, device="cuda"), expected)
    replay = graphs.record(lambda: out.copy_(torch.rand(4, generator=generator, device="cuda")))
    generator.manual_seed(1)
    replay()
    assert torch.equal(out, expected)


@pytest.mark.gpu
def test_a_replay_leaves_alone_what_others_put_where_workspaces_lay():
    a, out = torch.randn(512, 512, device="cuda"), torch.empty(512, 512, device="cuda")
    graphs = CudaGraphs(torch.device("cuda"), [])
    graphs.warm_up(lambda: torch.mm(a, a, out=out))
    replay = graphs.record(lambda: torch.mm(a, a, out=out))
    torch._C._cuda_clearCublasWorkspaces()
    others = [torch.full((1 << 22,), 7.0, device="cuda") for _ in range(64)]
    replay()
    assert all(bool((other == 7).all()) for other in others)
    torch.testing.assert_close(out, a @ a)


@pytest.mark.gpu
def test_memory_of_the_captured_rung():
    """The captured rung takes at most 15 % more memory than the eager one.

    It keeps the eager rung's intermediate tensors in a pool of its own, and has its own workspaces.
    """
    peaks = {}
    for cuda_graph in ("off", "on"):
        gc.collect()  # trainers are cycles
        torch.cuda.empty_cache()
        trainer = trainer_on_gpu(
            "dcgan", cuda_graph, False, run__batch_size=64, model__ngf=64, model__ndf=64, model__img_resolution=32
        )
        trainer._prepare_step(gans.SilentProgress(), 100)
        torch.cuda.reset_peak_memory_stats()
        trainer._launch(1)
        torch.cuda.synchronize()
        peaks[cuda_graph] = torch.cuda.memory_reserved()
        del trainer
    assert peaks["on"] <= 1.15 * peaks["off"] + (160 << 20)  # cuBLAS: 32 MiB a thread, forward and backward
