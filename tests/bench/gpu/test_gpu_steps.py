"""The stages that run steps of their own: smoke, choices, sweep.

The steps are tiny, with a stand-in for CUDA graphs.
"""

import dataclasses

import pytest
import torch

from fastgan.bench import flops, json_lines, step_cases, timing
from fastgan.bench.gpu import operators, smoke, sweep
from fastgan.bench.recorded_graphs import RecordedGraphs
from fastgan.bench.switches import present
from fastgan.config import replace
from fastgan.ops.dispatch import autotune
from fastgan.run import build

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Set tiny uncompiled mlp steps, short rounds and the stand-in."""
    monkeypatch.setattr(autotune, "_forced", {})
    monkeypatch.setattr(build, "graphs_of", lambda device, generators: RecordedGraphs())
    monkeypatch.setattr(flops, "MATMUL_SIZE", {"cpu": 16})
    interleave, before = timing.interleave, present()
    monkeypatch.setattr(timing, "interleave", lambda calls, before: interleave(calls, 2, round_s=0.001, before=before))
    yield
    before.apply()


def small_case():
    case = step_cases.make_case("mlp", 8, 8, 1)
    return dataclasses.replace(case, config=replace(case.config, "model.G_hidden", (16,)), device=CPU)


def uncompiled(monkeypatch, module):
    """Build the rungs of a module without the compiler, which takes a while."""
    make = module.rung_config
    monkeypatch.setattr(
        module, "rung_config", lambda config, amp, name: replace(make(config, False, name), "run.compile", False)
    )


def test_every_step_of_smoke_has_a_row_and_the_first_ones_work_on_a_cpu(tmp_path):
    tried = smoke.steps(small_case())
    assert list(tried)[:3] == ["versions", "a kernel", "a graph that draws numbers"]
    quick = {name: step for name, step in tried.items() if "compiled" not in name}
    assert smoke.run(quick, tmp_path / "rows.jsonl")
    found = json_lines.rows_since(tmp_path / "rows.jsonl")
    assert [row["step"] for row in found] == list(quick)
    assert all(row["problem"] is None for row in found)
    assert found[-1]["found"].startswith("captured, ")


def test_a_step_of_smoke_that_fails_has_its_whole_traceback_and_ends_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        build, "graphs_of", lambda device, generators: RecordedGraphs(frozenset(["aten::rand", "aten::randn"]))
    )
    tried = {
        name: step
        for name, step in smoke.steps(small_case()).items()
        if name in ("a graph that draws numbers", "captured mlp", "eager mlp")
    }
    assert not smoke.run(tried, tmp_path / "rows.jsonl")
    found = {row["step"]: row for row in json_lines.rows_since(tmp_path / "rows.jsonl")}
    assert found["eager mlp"]["problem"] is None
    for name in ("a graph that draws numbers", "captured mlp"):
        assert "cannot be recorded" in found[name]["problem"]
        assert "__torch_dispatch__" in found[name]["problem"]  # where it was raised, not where it was caught
    assert "the captured step was asked for, and the eager one runs" in found["captured mlp"]["problem"]


def test_a_graph_that_draws_other_numbers_is_found(monkeypatch):
    class Baked(RecordedGraphs):
        def record(self, body):
            super().record(body)
            return lambda: None

    monkeypatch.setattr(build, "graphs_of", lambda device, generators: Baked())
    with pytest.raises(AssertionError, match="replay 0 drew other numbers"):
        smoke.a_graph(CPU)


def test_what_was_chosen_is_a_row_a_kind_of_call(tmp_path, monkeypatch):
    case = small_case()
    monkeypatch.setattr(step_cases, "make_case", lambda preset, batch_size: case)
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "cache"))
    autotune._table.cache_clear()
    try:
        assert operators.main(["choose", "--cases", "mlp:8", "--rows", str(tmp_path / "rows.jsonl")]) == 0
        found = json_lines.rows_since(tmp_path / "rows.jsonl")
        assert {row["call"]: row["chosen"] for row in found} == {
            call: times.chosen for call, times in autotune.table().items()
        }
        assert operators.choose("mlp", 8, tmp_path / "rows.jsonl") == []  # known by now
    finally:
        autotune._table.cache_clear()


def test_all_settings_of_an_implementation_take_turns(tmp_path, monkeypatch):
    uncompiled(monkeypatch, sweep)
    seen, build = [], sweep.build

    def noted(case, setting):
        loop, switches = build(case, setting)
        seen.append((setting, switches.cudnn_benchmark, loop._config.run.combo_kernels, autotune.forced("deconv")))
        return loop, switches

    monkeypatch.setattr(sweep, "build", noted)
    found = sweep.sweep(small_case(), "subpixel", tmp_path / "rows.jsonl")
    assert json_lines.rows_since(tmp_path / "rows.jsonl") == found
    assert [(row["cudnn_benchmark"], row["combo_kernels"]) for row in found] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]
    for setting, benchmark, combo, implementation in seen:
        assert (benchmark, combo, implementation) == (setting.cudnn_benchmark, setting.combo_kernels, "subpixel")
    assert all(row["imgs_per_sec"] > 0 and row["rung"] == "captured" and row["deconv"] == "subpixel" for row in found)
    assert autotune.forced("deconv") is None


def test_a_setting_that_the_engine_overrules_is_no_row(monkeypatch):
    uncompiled(monkeypatch, sweep)
    prepare = sweep.FastganLoop.prepare

    def overrules(loop):
        torch.backends.cudnn.benchmark = True
        return prepare(loop)

    monkeypatch.setattr(sweep.FastganLoop, "prepare", overrules)
    with pytest.raises(RuntimeError, match="cudnn_benchmark=True.*cudnn_benchmark=False"):
        sweep.build(small_case(), sweep.Setting("auto", False, False))


def test_an_implementation_that_is_not_there_is_a_sentence(tmp_path, capsys):
    assert (
        sweep.main(
            ["--preset", "mlp", "--batch-size", "8", "--deconv", "nonsense", "--rows", str(tmp_path / "rows.jsonl")]
        )
        == 2
    )
    assert "nonsense is unknown" in capsys.readouterr().err
