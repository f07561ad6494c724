"""The fused operators one by one: the cases, the rows and their table."""
import dataclasses
import json

import pytest
import torch
from virtual_cuda import VirtualCuda

from fastgan.bench import cli as command_line
from fastgan.bench import json_lines
from fastgan.bench.names import OPS
from fastgan.bench.ops import deconv_cases, measure_ops, op_cases
from fastgan.bench.ops.op_rows import OpRow, op_table
from fastgan.ops.dispatch import autotune, timing

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Set layers that take microseconds, and limits that do too."""
    monkeypatch.setattr(deconv_cases, "DCGAN_LAYERS", ((8, 4, 2), (4, 3, 4)))
    monkeypatch.setattr(op_cases, "NORMS", ((3, 2),))
    monkeypatch.setattr(op_cases, "HEADS", (("mlp", (5,), 2), ("dcgan", (6, 4, 4), 1)))
    monkeypatch.setattr(measure_ops, "COPY_BYTES", {"cpu": 1 << 12})
    monkeypatch.setattr(measure_ops, "ROUND_S", 1e-4)
    product = (lambda: torch.ones(8, 8) @ torch.ones(8, 8), 1024)
    monkeypatch.setattr(measure_ops, "matmul", lambda dtype, device: product)
    monkeypatch.setattr(autotune, "_forced", {})


def test_every_operator_that_can_be_named_can_be_measured():
    assert set(OPS) == set(op_cases.CASES)


def test_flop_and_bytes_of_a_layer_in_closed_form():
    first = next(op_cases.all_cases(["deconv"], 2, ["bf16"], CPU))
    assert first.call == "up 8 -> 4 at 2 -> 4 batch 2"
    # Two a multiply-add; batch, channels, taps, pixels of the small image
    assert first.flop == 2 * 2 * 8 * 4 * 16 * 2 * 2
    assert first.bytes == 2 * (2 * 8 * 4 + 2 * 4 * 16 + 8 * 4 * 16)


@pytest.mark.parametrize("op", OPS)
def test_all_candidates_of_a_case_compute_the_same(op):
    torch.manual_seed(0)
    for case in op_cases.all_cases([op], 2, ["fp32"], CPU):
        assert next(iter(case.candidates)) == autotune.REFERENCE
        if op == "adam_ema":
            continue  # its candidates change what they are given
        results = {name: run() for name, run in case.candidates.items()}
        for each in results.values():
            torch.testing.assert_close(each, results[autotune.REFERENCE], check_stride=False, rtol=1e-4, atol=1e-4)
    autotune.force(dict.fromkeys(OPS, "auto"))


def test_rows_are_kept_and_shown(tmp_path, monkeypatch, capsys):
    rows = measure_ops.measure_ops(["deconv"], 2, ["fp32"], 2, say=lambda text: None)
    assert autotune._forced == {}
    first = rows[0]
    assert (first.implementation, first.ratio_to_reference, first.rounds, first.timed) == (
        "reference",
        1.0,
        2,
        "wall clock",
    )
    assert first.gflops == pytest.approx(2 * 2 * 8 * 4 * 16 * 4 / first.microseconds / 1e3)
    assert first.percent_of_limit > 0
    path = tmp_path / "ops.jsonl"
    json_lines.append_rows(path, rows)
    assert json_lines.read_rows(path, OpRow) == [json.loads(json.dumps(dataclasses.asdict(row))) for row in rows]
    assert command_line.main(["table", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.strip() == op_table(json_lines.read_rows(path, OpRow)).strip()
    assert shown.count("| deconv up 8 -> 4 at 2 -> 4 batch 2 | fp32 | reference |") == 1


def test_how_a_row_was_timed_is_shown_where_it_was_not_the_wall_clock(tmp_path):
    row = dataclasses.asdict(measure_ops.measure_ops(["deconv"], 2, ["fp32"], 2, say=lambda text: None)[0])
    old = {key: value for key, value in row.items() if key != "timed"}
    path = tmp_path / "ops.jsonl"
    path.write_text(json.dumps(old) + "\n")
    assert "timed by" not in op_table(json_lines.read_rows(path, OpRow))
    path.write_text(json.dumps(old) + "\n" + json.dumps(row | {"timed": "graph replays"}) + "\n")
    lines = op_table(json_lines.read_rows(path, OpRow)).splitlines()
    last = [line.split(" | ")[-1] for line in lines if line.startswith("| ") and "-:" not in line]
    assert last == ["timed by |", "wall clock |", "graph replays |"]


def test_on_cuda_the_host_is_not_measured(monkeypatch):
    """A case whose kernels are quicker than their launches, on a virtual device.

    A case that makes the host wait is left out and reported.
    """
    cuda = VirtualCuda(monkeypatch, timing)
    monkeypatch.setattr(measure_ops, "matmul", lambda dtype, device: (lambda: cuda.launch(1e-3), 10**9))
    monkeypatch.setattr(measure_ops, "large_copy", lambda device: (lambda: cuda.launch(1e-3), 10**9))
    candidates = {"reference": lambda: cuda.launch(40e-6), "triton": lambda: cuda.launch(10e-6, host_s=1e-3)}
    monkeypatch.setattr(measure_ops, "timer", lambda call, device_type: timing.timer(call, "cuda"))
    candidates = {"reference": lambda: cuda.launch(40e-6), "triton": lambda: cuda.launch(10e-6, host_s=1e-3)}
    quick = op_cases.OpCase("deconv", "up", "fp32", 10**6, 10**6, candidates)
    waiting = dataclasses.replace(
        quick, call="down", candidates=candidates | {"triton": lambda: (cuda.launch(1e-5), cuda.wait())}
    )
    monkeypatch.setattr(measure_ops, "all_cases", lambda *_: [waiting, quick])
    said = []
    reference, triton = measure_ops.measure_ops(["deconv"], 2, ["fp32"], 2, said.append)
    assert triton.timed == reference.timed == "graph replays"
    assert (triton.microseconds, triton.ratio_to_reference) == pytest.approx((10.0, 4.0))
    assert said[0].startswith("deconv down fp32 is left out: the host did not launch them within")
    timing._cycles_per_second.cache_clear()


def test_the_command_line_measures_and_saves(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fastgan.bench.ops.op_rows.OPS_RESULTS", tmp_path / "ops.jsonl")
    assert (
        command_line.main(["ops", "--op", "deconv", "--batch-size", "2", "--dtype", "fp32", "--rounds", "2", "--save"])
        == 0
    )
    assert "deconv weight 4 -> 3 at 4 -> 8 batch 2" in capsys.readouterr().out
    assert len(json_lines.read_rows(tmp_path / "ops.jsonl", OpRow)) > 6
