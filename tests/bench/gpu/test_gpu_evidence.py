"""Refusals with their tracebacks, generated code, and the archive of all of it."""

import random
import tarfile

import gans
import pytest
from torch import nn

from fastgan.bench import json_lines
from fastgan.bench.gpu import call, evidence
from fastgan.bench.gpu.evidence import EVIDENCE, REFUSALS
from fastgan.bench.recorded_graphs import RecordedGraphs
from fastgan.engine.system import Ladder


class WaitsForTheDevice(nn.Module):
    def forward(self, x):
        return x * float(x.mean().item() < 1e9)


def refused_engine():
    config, reasons, tracebacks = gans.tiny_config("mlp"), [], []
    state = gans.tiny_networks(config)
    state.D.layers.insert(1, WaitsForTheDevice())
    engine = gans.make_engine(config, state, ladder=Ladder(compile=False), graphs=RecordedGraphs(), report=reasons)
    engine.log.details = tracebacks.append
    engine.prepare()
    return config, engine, reasons, tracebacks


def test_a_refusal_is_a_row_and_its_traceback_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(EVIDENCE, str(tmp_path))
    evidence.note_refusals(*refused_engine())
    [row] = json_lines.rows_since(tmp_path / REFUSALS)
    assert (row["preset"], row["batch_size"], row["wanted"], row["got"], row["refused"]) == (
        "mlp",
        8,
        "captured",
        "eager",
        ["captured"],
    )
    assert "x.mean().item()" in row["tracebacks"][0]
    assert "x.mean().item()" in capsys.readouterr().err


def test_nothing_is_noted_where_nobody_collects_or_nothing_was_left(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(EVIDENCE, raising=False)
    config, engine, reasons, tracebacks = refused_engine()
    evidence.note_refusals(config, engine, reasons, tracebacks)
    assert evidence.keep_code(tmp_path, "compiled") == 0
    monkeypatch.setenv(EVIDENCE, str(tmp_path))
    evidence.note_refusals(config, engine, [], [])
    assert not (tmp_path / REFUSALS).exists()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("reason", "rungs"),
    [
        ("the compiled step (G_penalty) is not used, the eager one is: no", ["compiled"]),
        ("4 steps in one CUDA graph are not used: no", []),
        ("the penalty computes in fp32 inside the compiled step: no", []),
    ],
)
def test_the_rung_that_a_sentence_is_about(reason, rungs):
    assert evidence.refused([reason]) == rungs


def test_generated_code_is_kept_and_the_rest_of_a_cache_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv(EVIDENCE, str(tmp_path / "evidence"))
    for name in ("ab/cabc.py", "cd/kernel.cpp", "cd/kernel.so"):
        (tmp_path / "cache" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cache" / name).write_text("code")
    assert evidence.keep_code(tmp_path / "cache", "compiled") == 2
    assert sorted(path.name for path in (tmp_path / "evidence" / "code" / "compiled").iterdir()) == [
        "cabc.py",
        "kernel.cpp",
    ]


def write(path, num_bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(num_bytes).randbytes(num_bytes))  # as large compressed


@pytest.fixture
def run_folder(tmp_path):
    out, work, findings = tmp_path / "out", tmp_path / "work", tmp_path / "findings"
    write(out / "results.jsonl", 1000)
    write(findings / "times-cuda.json", 1000)
    write(work / "kernels" / "trace-captured.json.gz", 200_000)
    write(work / "kernels" / "code" / "compiled" / "c.py", 60_000)
    write(work / "smoke" / "refusals.jsonl", 1000)
    write(work / "smoke" / "said.txt", 1000)
    return out, work, findings


def names_in(out):
    with tarfile.open(out / call.ARCHIVE) as packed:
        return packed.getnames()


def test_everything_is_packed_the_most_important_first(run_folder):
    said = call.write_archive(*run_folder)
    assert names_in(run_folder[0]) == [
        "results.jsonl", "findings/times-cuda.json", "stages/smoke/refusals.jsonl", "stages/smoke/said.txt",
        "stages/kernels/code/compiled/c.py", "stages/kernels/trace-captured.json.gz",
    ]  # fmt: skip
    assert said.startswith("evidence: 6 files in ")
    assert "without" not in said


def test_the_least_important_is_left_out_and_that_is_said(run_folder):
    out, limit = run_folder[0], 200_000
    said = call.write_archive(*run_folder, limit)
    assert (out / call.ARCHIVE).stat().st_size <= limit
    assert "stages/kernels/trace-captured.json.gz" not in names_in(out)
    assert "stages/kernels/code/compiled/c.py" in names_in(out)
    assert "without 1 files that did not fit" in said
    with tarfile.open(out / call.ARCHIVE) as packed:
        assert packed.extractfile(call.LEFT_OUT).read() == b"stages/kernels/trace-captured.json.gz 200000 bytes\n"


def test_a_folder_that_is_gone_is_a_sentence(tmp_path):
    assert call.write_archive(tmp_path / "nowhere", tmp_path, tmp_path).startswith(
        "no archive was written: FileNotFoundError"
    )
