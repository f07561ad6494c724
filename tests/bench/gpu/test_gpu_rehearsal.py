"""The rehearsal: a short one in every run of the tests, all stages in a thorough one."""

import inspect
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from fastgan.bench import cli as command_line
from fastgan.bench import commands, json_lines
from fastgan.bench.gpu import call, plan, rehearse
from fastgan.bench.timing import interleave
from fastgan.errors import UserError

ROOT = Path(__file__).parents[3]  # of the checkout
RESULTS_BEFORE = {path.name: path.stat().st_mtime for path in (ROOT / "bench" / "results").iterdir()}


def rehearsed(out: Path, *arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess, list[dict]]:
    command = [sys.executable, "-m", "bench", "gpu", "--rehearse", "--out", str(out), *arguments]
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # the compiler's ninja
    environment = {**os.environ, **environment, "PATH": path}
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    return ended, json_lines.rows_since(out / plan.RESULTS)


def of_kind(found: list[dict], kind: str) -> list[dict]:
    return [row for row in found if row["kind"] == kind]


def check(out: Path, ended: subprocess.CompletedProcess, found: list[dict]) -> None:
    """Check the results of every rehearsal.

    They are a refused rung with its culprit, the table, the archive, and nothing among the results.
    """
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [refusal] = [row for row in of_kind(found, "refusal") if row["stage"] == rehearse.PROVOKED]
    assert refusal["refused"] == ["captured"]
    assert "Traceback" in refusal["tracebacks"][0]
    culprit = of_kind(found, "culprit")[0]
    assert culprit["culprit"] == "drawing the random numbers"
    assert ended.stdout.startswith(rehearse.HEAD)
    table = (out / "table.txt").read_text()
    assert table.startswith(rehearse.HEAD)
    assert "culprit mlp captured: drawing the random numbers" in table
    with tarfile.open(out / "evidence.tar.gz") as archive:
        assert {"results.jsonl", "log.txt", "table.txt", "stages/refused/refusals.jsonl"} <= set(archive.getnames())
    assert {path.name: path.stat().st_mtime for path in (ROOT / "bench" / "results").iterdir()} == RESULTS_BEFORE
    assert len(list(out.iterdir())) <= 8


def test_a_short_rehearsal_from_end_to_end(tmp_path):
    """A provoked refusal with its bisection, and a stage that measures in its turn."""
    # Without the operators' checks, which take a while.
    ended, found = rehearsed(tmp_path / "out", "--only", "chip", FASTGAN_OPS="reference")
    check(tmp_path / "out", ended, found)
    assert {row["stage"]: row["state"] for row in of_kind(found, "stage")} == {
        "refused": "failed",
        "bisect-1": "ok",
        "chip": "ok",
    }
    assert of_kind(found, "chip")


@pytest.mark.thorough
@pytest.mark.slow
def test_a_rehearsal_of_every_stage(tmp_path):
    out = tmp_path / "out"
    ended, found = rehearsed(out)
    check(out, ended, found)
    states = {row["stage"]: row["state"] for row in of_kind(found, "stage")}
    # The stand-in refuses a constant of stylegan2's, which CUDA has not
    bisected = {name for name in states if name.startswith("bisect-")}
    assert set(states) - bisected == {"refused", *plan.NAMES} - set(rehearse.NEEDS_A_GPU)
    assert {name for name, state in states.items() if state != "ok"} == {"refused"}
    steps = json_lines.rows_since(out / plan.STEP)
    assert {row["implementation"] for row in steps} >= {
        "plain",
        "accelerated",
        "eager",
        "compiled",
        "captured",
        "captured-1",
    }
    assert json.loads((out / plan.KERNELS).read_text().splitlines()[0])["kind"] == "total"
    with tarfile.open(out / "evidence.tar.gz") as archive:
        names = archive.getnames()
    assert any(name.startswith("stages/kernels/code/") for name in names)
    assert "stages/kernels/trace-captured-1.json.gz" in names


def test_what_a_rehearsal_leaves_out_is_said():
    assert rehearse.left_out(plan.STAGES).endswith("sweep-cuda, sweep-triton, tiles, sanitizer, ncu")
    assert rehearse.left_out(plan.chosen(["chip"])) == ""
    assert {stage.name for stage in rehearse.stages(plan.STAGES)} == {rehearse.PROVOKED, *plan.NAMES} - set(
        rehearse.NEEDS_A_GPU
    )


def test_a_rehearsal_is_not_written_among_the_results(tmp_path, monkeypatch):
    monkeypatch.setattr(call, "CHECKOUT", tmp_path)
    monkeypatch.setattr(call, "RESULTS", tmp_path / "results")
    with pytest.raises(UserError, match="among the results"):
        commands.gpu(
            command_line._parser("bench").parse_args(["gpu", "--rehearse", "--out", str(call.RESULTS / "gpu-x")])
        )
    assert not call.default_out(is_rehearsal=True).is_relative_to(call.RESULTS)


def test_the_short_timing_takes_what_the_whole_one_takes():
    """A keyword that it lacked ended the stage of the operators."""
    whole, short = (inspect.signature(function).parameters for function in (interleave, rehearse._short(interleave)))
    assert list(short) == list(whole)
