"""Torch's algorithm settings, and deterministic runs that choose nothing by speed."""
import gans
import pytest
import torch
from torch import nn

from fastgan import Trainer, UserError
from fastgan.bench.recorded_graphs import RecordedGraphs
from fastgan.bench.switches import Switches, present
from fastgan.config import override, replace
from fastgan.config.presets import preset
from fastgan.config.validation import validate
from fastgan.device.determinism import refusals_said, settle_algorithms
from fastgan.ops.dispatch import autotune, self_checks, timing
from fastgan.run import build

slow = pytest.mark.slow
CPU, CUDA = torch.device("cpu"), torch.device("cuda")  # the settings of CUDA need no device


@pytest.fixture(autouse=True)
def settings_put_back(monkeypatch):
    before, fills = present(), torch.utils.deterministic.fill_uninitialized_memory
    Switches().apply()
    monkeypatch.setattr(autotune, "_is_fixed", False)
    monkeypatch.setattr(autotune, "_forced", {})
    yield
    before.apply()
    torch.utils.deterministic.fill_uninitialized_memory = fills


def test_by_default_cudnn_times_its_algorithms_and_a_cpu_is_left_alone():
    assert settle_algorithms(False, CPU) == ""
    assert present() == Switches()
    assert "--deterministic" in settle_algorithms(False, CUDA)
    assert present() == Switches(cudnn_benchmark=True)


@pytest.mark.parametrize("told", [Switches(cudnn_deterministic=True), Switches(deterministic_algorithms=True)])
def test_a_process_that_was_told_to_be_deterministic_stays_so(told):
    told.apply()
    assert "as set in torch before" in settle_algorithms(False, CUDA)
    assert present() == told


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_deterministic_algorithms_alone(device):
    Switches(cudnn_benchmark=True).apply()
    assert "algorithms: deterministic only" in settle_algorithms(True, device)
    is_cuda = device.type == "cuda"
    expected = Switches(cudnn_benchmark=not is_cuda, cudnn_deterministic=is_cuda, deterministic_algorithms=True)
    assert present() == expected
    assert not torch.utils.deterministic.fill_uninitialized_memory


class Puts(torch.autograd.Function):
    """An operation that torch refuses to differentiate deterministically, even on a CPU."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, dy):
        return torch.zeros_like(dy).put_(torch.arange(dy.numel()).view(dy.shape), dy)


class Refused(nn.Module):
    def forward(self, x):
        return Puts.apply(x)


def test_what_torch_refuses_is_named_in_one_sentence():
    settle_algorithms(True, CPU)
    words = (
        "^--deterministic: torch .* has no deterministic put_, which this run needs: leave out --deterministic, "
        "or what needs it$"
    )
    with pytest.raises(UserError, match=words), refusals_said():
        Puts.backward(None, torch.ones(3))
    with pytest.raises(RuntimeError, match="^something else$"), refusals_said():
        raise RuntimeError("something else")
    G, D = nn.Linear(6, 4), nn.Sequential(nn.Linear(4, 4), Refused(), nn.Linear(4, 1))
    options = {"batch_size": 8, "compile": False, "amp": False, "progress": False}
    trainer = Trainer(G, D, torch.randn(32, 4), deterministic=True, **options)
    with pytest.raises(UserError, match=words):
        trainer.fit(steps=1)


def test_nothing_else_is_chosen_by_its_speed():
    config = override(override(preset("dcgan"), "run.deterministic=true"), "run.autotune=true")
    with pytest.raises(
        UserError, match="--autotune lets the compiler choose kernels by their speed, which --deterministic"
    ):
        validate(config)


def trainer_of_dcgan(**overrides):
    options = {"data__source": "fashion-mnist-10k", "run__amp": False, "run__compile": False} | overrides
    config = gans.tiny_config("dcgan", **options)
    config = replace(replace(config, "run.epochs", None), "run.steps", 3)
    return Trainer.from_config(config, progress=False)


def state_after(trainer):
    trainer.fit(steps=3)
    return {
        f"{group}/{name}": t.clone() for group, named in trainer.state.tensors().items() for name, t in named.items()
    }


@pytest.mark.parametrize("rung", ["eager", pytest.param("captured", marks=slow), pytest.param("compiled", marks=slow)])
def test_a_deterministic_run_times_no_operator_and_repeats_to_the_bit(monkeypatch, rung):
    """Holds even if the kept table lists another implementation as faster."""

    def timed(*_):
        raise AssertionError("an operator was timed")

    class Table(dict):
        def __contains__(self, key):
            return True

        def __getitem__(self, key):
            return {"chosen": "subpixel"}

    if rung == "captured":
        monkeypatch.setattr(build, "graphs_of", lambda device, generators: RecordedGraphs())
    monkeypatch.setattr(timing, "timer", timed)
    # Checks take seconds.
    monkeypatch.setattr(self_checks, "_failed_check", lambda op, implementation, device_type: None)
    states = []
    for table in ({}, Table()):
        monkeypatch.setattr(autotune, "_table", lambda device_type, table=table: table)
        trainer = trainer_of_dcgan(run__deterministic=True, run__graph_steps=2, run__compile=rung == "compiled")
        states.append(state_after(trainer))
        assert trainer.engine.rung.name == rung
        assert "deconv: reference" in autotune.used()
        assert "subpixel" not in autotune.used()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    monkeypatch.setattr(autotune, "_table", lambda device_type: {})
    trainer = trainer_of_dcgan()
    with pytest.raises(AssertionError, match="an operator was timed"):  # without the option they are
        trainer.fit(steps=1)


def test_a_forced_operator_is_kept_and_the_next_trainer_measures_again(monkeypatch):
    assert autotune._is_fixed is False
    trainer_of_dcgan(run__deterministic=True, ops__deconv="subpixel")
    assert autotune._is_fixed
    assert autotune.pick("deconv", "up", {"reference": None, "subpixel": None}, "cpu") == "subpixel"
    assert autotune.pick("adam_ema", "step", {"reference": None, "cpu": None}, "cpu") == "reference"
    trainer_of_dcgan()
    assert autotune._is_fixed is False


@pytest.mark.gpu
@slow
@pytest.mark.parametrize("compiled", [False, True])
def test_deterministic_runs_on_a_gpu_are_the_same_to_the_bit(compiled):
    """The runs train in bf16, on whichever rung agrees with eager."""
    states = []
    for _ in range(2):
        trainer = trainer_of_dcgan(run__deterministic=True, run__compile=compiled, run__amp=True, run__device="cuda")
        states.append(state_after(trainer))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
