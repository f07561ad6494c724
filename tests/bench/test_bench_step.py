"""A whole measurement, short, and the command line around it."""
import functools
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastgan.bench import cli as command_line
from fastgan.bench import flops, implementations, step, step_cases
from fastgan.bench.implementations import build_accelerated
from fastgan.bench.names import NAMES, UNFUSED
from fastgan.bench.step_cases import make_case
from fastgan.bench.switches import Switches, present
from fastgan.bench.timing import MIN_ROUNDS
from fastgan.errors import UserError
from fastgan.ops.dispatch import autotune, registry

CPU = torch.device("cpu")
NO_BF16 = step.choose_precision(False, CPU)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Set little to time, and restore the switches."""
    before = present()
    monkeypatch.setattr(flops, "MATMUL_SIZE", {"cpu": 64})
    monkeypatch.setattr(step_cases, "POOL_BATCHES", 2)
    yield
    before.apply()


def measure(names, preset="mlp", dtype="fp32", **options):
    return {
        row.implementation: row
        for row in step.measure_step(make_case(preset, 100), dtype, names, rounds=3, round_s=0.01, **options)
    }


def test_rows_are_consistent():
    rows = measure(("plain", "eager"))
    plain, eager = rows["plain"], rows["eager"]
    assert (plain.ratio_to_plain, plain.ratio_to_plain_quartiles) == (1.0, (1.0, 1.0))
    assert eager.ratio_to_plain_quartiles[0] <= eager.ratio_to_plain <= eager.ratio_to_plain_quartiles[1]
    assert eager.ratio_to_accelerated is None
    for row in rows.values():
        assert (row.preset, row.resolution, row.channels, row.batch_size, row.rounds) == ("mlp", 28, 1, 100, 3)
        assert row.gflops == pytest.approx(row.imgs_per_sec * row.gflop_per_image)
        assert row.percent_of_matmul == pytest.approx(100 * row.gflops / row.matmul_gflops)
        assert row.imgs_per_sec_quartiles[0] <= row.imgs_per_sec <= row.imgs_per_sec_quartiles[1]
        assert (row.compile_s, row.paid_after_images) == (0.0, None)
        json.dumps(vars(row))


def test_samples_are_measured_too():
    rows = measure(("plain", "eager"), preset="gaussian1d")
    assert (rows["eager"].resolution, rows["eager"].channels) == (None, None)
    assert "--resolution" not in rows["eager"].command


def test_a_baseline_that_cannot_be_compiled_is_measured_eager(monkeypatch):
    said = []
    break_compiler(monkeypatch)
    rows = measure(("accelerated", "eager"), say=said.append)
    assert "not compiled: RuntimeError: no compiler here" in rows["accelerated"].note
    assert rows["accelerated"].compile_s == 0.0
    assert rows["eager"].ratio_to_accelerated > 0
    assert rows["eager"].ratio_to_plain is None
    assert any("compiler" in text for text in said)


def test_a_rung_that_was_left_gives_its_reason_in_the_row_of_the_one_below(monkeypatch):
    break_compiler(monkeypatch)
    rows = step.measure_step(make_case("mlp", 100), "fp32", ("eager", "compiled"), rounds=3, round_s=0.01)
    assert [row.implementation for row in rows] == ["eager"]
    assert "no compiler here" in rows[0].note


def test_the_accelerated_baseline_has_its_cuda_graphs(monkeypatch):
    """The form that its warm-up settles on is timed and reported."""
    def warm_up(loop, real_img):
        loop.note, loop.step = "a step in CUDA graphs", lambda real_img: timed.append(real_img)
        return 1.5

    timed = []
    monkeypatch.setattr("fastgan.bench.peers.accelerated.AcceleratedLoop.warm_up", warm_up)
    built = build_accelerated(make_case("mlp", 8), amp=False)
    built.step()
    assert (built.compile_s, built.note, len(timed)) == (1.5, "a step in CUDA graphs", 1)


def break_compiler(monkeypatch):
    """Let every compiled function fail at its first call, as with a missing C++ compiler."""

    def compile(function, **options):
        def run(*inputs):
            raise RuntimeError("no compiler here\nand more")

        return run

    monkeypatch.setattr(torch, "compile", compile)


def test_every_implementation_runs_under_its_own_switches(monkeypatch):
    seen = []
    case = make_case("mlp", 100)
    fast = Switches(matmul_tf32=True, cudnn_benchmark=True)
    built = [
        implementations.Implementation(
            "plain", "fp32", False, lambda: seen.append(("plain", present())), Switches(), 0.0
        ),
        implementations.Implementation("eager", "fp32", False, lambda: seen.append(("eager", present())), fast, 0.0),
    ]
    monkeypatch.setattr(step, "builders", lambda *arguments: [lambda each=each: each for each in built])
    monkeypatch.setattr(step.timing, "_calls_in_a_round", lambda *arguments: 2)
    step.measure_step(case, "fp32", ("plain", "eager"), rounds=2, round_s=0.01)
    assert set(seen) == {("plain", Switches()), ("eager", fast)}


def test_nobody_starts_with_the_switches_of_another():
    Switches(matmul_tf32=True, cudnn_tf32=False, cudnn_benchmark=False).apply()
    case = make_case("mlp", 100)
    assert implementations.build_plain(case).switches == Switches(cudnn_benchmark=True)
    assert implementations.build_rung(case, False, "eager").switches == Switches()


@pytest.mark.parametrize(("compile_s", "rate", "eager_rate"), [(10.0, 200.0, 100.0), (33.3, 64.1, 61.7)])
def test_images_until_compiling_has_paid(compile_s, rate, eager_rate):
    num = step.images_until_paid(compile_s, rate, eager_rate)
    assert compile_s + num / rate <= num / eager_rate * (1 + 1e-12)
    assert compile_s + (num - 2) / rate > (num - 2) / eager_rate


def test_the_command_of_a_row_says_that_kernels_were_timed():
    case = make_case("mlp", 100)
    assert not case.config.run.autotune
    assert "--autotune" not in step.step_command(case, "fp32", NAMES, MIN_ROUNDS, 0.0)
    tuned = step_cases.with_autotune(case)
    assert step.step_command(tuned, "fp32", NAMES, MIN_ROUNDS, 0.0).endswith("--dtype fp32 --autotune")


def test_the_command_of_a_row_says_everything_that_was_asked_for():
    case = make_case("mlp", 100)
    size = "--batch-size 100 --resolution 28 --channels 1"
    assert (
        step.step_command(case, "both", ["plain", "eager"], 9, 20.0)
        == f"fastgan bench step --preset mlp {size} --dtype both --only plain eager --rounds 9 --seconds 20"
    )
    asked = step.step_command(case, "bf16", NAMES, MIN_ROUNDS, 0.0)
    assert asked == f"fastgan bench step --preset mlp {size} --dtype bf16"


def test_what_is_not_faster_never_pays():
    assert step.images_until_paid(1.0, 100.0, 100.0) is None
    assert step.images_until_paid(1.0, 99.0, 100.0) is None


def test_bf16_is_left_out_or_refused_where_the_chip_has_none(monkeypatch):
    monkeypatch.setattr(step, "choose_precision", lambda amp, device: NO_BF16)
    said = []
    assert step.usable_amp_choices("both", CPU, said.append) == [False]
    assert len(said) == 1
    assert step.usable_amp_choices("fp32", CPU, said.append) == [False]
    assert len(said) == 1  # nobody asked for it
    with pytest.raises(UserError, match="--dtype bf16"):
        step.usable_amp_choices("bf16", CPU, said.append)


# --- cases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "low", "channels"), [("mlp", -1.0, 1), ("mlp-tf", 0.0, 1), ("dcgan", -1.0, 3)])
def test_everybody_gets_the_same_images(preset, low, channels):
    case = make_case(preset, batch_size=3, resolution=16, channels=channels)
    for integers, floats in zip(case.uint8_batches, case.float_batches, strict=True):
        assert integers.shape == floats.shape == (3, channels, 16, 16)
        assert integers.dtype == torch.uint8
        assert integers.is_contiguous(memory_format=torch.channels_last)
        assert floats.is_contiguous()
        assert low <= floats.min() < floats.max() <= 1
        assert torch.allclose(low + integers / 255 * (1 - low), floats, atol=1e-6)


def test_a_batch_larger_than_the_embedded_set_is_possible():
    assert make_case("mlp", batch_size=8000, resolution=4).uint8_batches[1].shape == (8000, 1, 4, 4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "dcgam"}, "'dcgan'"),
        ({"name": "gaussian1d", "batch_size": 150}, "multiple of 100"),
        ({"name": "gaussian1d", "channels": 1}, "--resolution and --channels"),
        ({"name": "dcgan", "resolution": 48}, "--resolution 48"),
        ({"name": "mlp", "channels": 2}, "img_channels is 2"),
        ({"name": "mlp", "batch_size": 0}, "batch_size is 0"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        make_case(**arguments)


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_writes_a_json_list_and_appends_on_request(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fastgan.bench.step_rows.STEP_RESULTS", tmp_path / "step.jsonl")
    monkeypatch.setattr(step, "measure_step", functools.partial(step.measure_step, round_s=0.01))
    arguments = [
        "step",
        "--preset",
        "gaussian1d",
        "--dtype",
        "fp32",
        "--only",
        "plain",
        "eager",
        "--json",
        str(tmp_path / "rows.json"),
        "--save",
    ]
    assert command_line.main(arguments) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["implementation"] for row in rows] == ["plain", "eager"]
    assert all(row["rounds"] >= 7 and math.isfinite(row["imgs_per_sec"]) for row in rows)
    assert [json.loads(line) for line in (tmp_path / "step.jsonl").read_text().splitlines()] == rows
    assert "fastgan's fastest is eager fp32" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--preset", "mpl"], "'mlp'"),
        (["--preset", "mlp", "--rounds", "3"], "at least 7"),
        (["--preset", "dcgan", "--resolution", "7"], "--resolution 7"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, sentence, capsys):
    assert command_line.main(["step", *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) == 1


def test_python_m_bench_ends_with_that_code():
    run = subprocess.run(
        [sys.executable, "-m", "bench", "step", "--preset", "nothing-of-the-sort"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("bench: there is no preset 'nothing-of-the-sort'")


def test_without_fused_operators_means_the_reference_while_compiling_and_nothing_forced_afterwards(monkeypatch):
    forced = []

    def build_rung(case, amp, name):
        forced.append(dict(autotune._forced))
        return implementations.Implementation("compiled", "fp32", amp, lambda: None, present(), 1.0)

    monkeypatch.setattr(implementations, "build_rung", build_rung)
    built = [build() for build in implementations.builders(make_case("mlp", 100), [False], ("compiled", UNFUSED))]
    assert [each.label for each in built] == ["compiled fp32", "compiled-reference fp32"]
    assert forced == [{}, dict.fromkeys(registry.OPS, "reference")]
    assert autotune._forced == {}


def test_the_gain_of_the_fused_operators_is_in_the_note_of_the_compiled_rung():
    compiled, unfused = (
        implementations.Implementation(name, "fp32", False, None, present(), 1.0)
        for name in ("compiled", UNFUSED)
    )
    measured = step.Measured(
        [compiled, unfused], {compiled.label: [1.0, 2.0, 4.0], unfused.label: [1.5, 3.0, 6.0]}, {}, {}, 1.0
    )
    assert step._gain_of_fusion(measured, compiled) == "1.500 (1.500-1.500) times the same without fused operators"
    assert step._gain_of_fusion(measured, unfused) == ""
