"""Verdicts, each from a process of its own, kept where fastgan looks for them."""
import sys

import pytest

from bench.gpu import checks, rows
from fastgan import ops
from fastgan.ops import trust
from fastgan.ops.findings import Findings


@pytest.fixture(autouse=True)
def no_verdicts_yet(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "cache"))
    trust._failed_check.cache_clear()
    yield
    trust._failed_check.cache_clear()


def test_every_implementation_has_a_row_and_fastgan_knows_the_verdicts(tmp_path, monkeypatch):
    monkeypatch.setattr(ops, "OPS", {"deconv": ("subpixel", "triton"), "bias_act": ("cpu",)})
    verdicts = {"subpixel": None, "cpu": "it is off by 1"}
    monkeypatch.setattr(checks, "_verdict", lambda command, seconds: verdicts[command[command.index("--check") + 2]])
    found = checks.check_all("cpu", tmp_path / "rows.jsonl")
    assert sorted(found, key=str) == sorted(rows.since(tmp_path / "rows.jsonl"), key=str)
    missing = ops.unavailable("cpu", "cpu")
    expected = {("deconv", "subpixel"): None, ("bias_act", "cpu"): missing or "it is off by 1"}
    assert {(row["op"], row["implementation"]): row["problem"] for row in found} == expected
    assert trust.problem("deconv", "subpixel", "cpu") is None
    if not missing:
        with pytest.warns(UserWarning, match="bias_act"):
            assert trust.problem("bias_act", "cpu", "cpu") == "it failed its check: it is off by 1"
    assert set(Findings("verdicts", "cpu", lambda verdict: True)) >= {"deconv subpixel"}


def test_what_is_not_available_is_a_problem_and_no_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(ops, "OPS", {"deconv": ("subpixel",)})
    monkeypatch.setattr(ops, "unavailable", lambda implementation, device_type: "it was not built")
    [row] = checks.check_all("cpu", tmp_path / "rows.jsonl")
    assert row["problem"] == "it was not built"
    assert not Findings("verdicts", "cpu", lambda verdict: True)


def test_a_check_in_a_process_of_its_own():
    assert checks._verdict([sys.executable, "-m", "bench.gpu.checks", "--check", "deconv", "subpixel", "--device", "cpu"], 60) is None


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("print('begun'); print('\"it is off\"')", "it is off"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "the process that checked it ended with code -11: it said nothing"),
        ("raise ValueError('no such kernel')", "the process that checked it ended with code 1: ValueError: no such kernel"),
        ("import time; time.sleep(60)", "its check took more than 0.5 s"),
    ],
)
def test_how_a_check_can_end(code, problem):
    assert checks._verdict([sys.executable, "-c", code], 0.5 if "sleep" in code else 30) == problem
