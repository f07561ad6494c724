"""Verdicts, each from a process of its own, kept where fastgan looks for them."""
import pytest

from fastgan.bench import json_lines
from fastgan.bench.gpu import operators
from fastgan.ops.dispatch import registry, self_checks
from fastgan.ops.dispatch.cache import Findings
from fastgan.ops.dispatch.check_subprocess import Verdict


@pytest.fixture(autouse=True)
def no_verdicts_yet(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "cache"))
    self_checks._failed_check.cache_clear()
    yield
    self_checks._failed_check.cache_clear()


def test_every_implementation_has_a_row_and_fastgan_knows_the_verdicts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(registry, "OPS", {"deconv": ("subpixel", "triton"), "bias_act": ("cpu",)})
    verdicts = {
        "deconv subpixel": Verdict(None),
        "bias_act cpu": Verdict("it is off by 1", details="where it went wrong"),
    }
    monkeypatch.setattr(
        operators, "check_elsewhere", lambda keys, device_type, seconds: [(key, verdicts[key]) for key in keys]
    )
    found = operators.check_all("cpu", tmp_path / "rows.jsonl")
    assert sorted(found, key=str) == sorted(json_lines.rows_since(tmp_path / "rows.jsonl"), key=str)
    missing = registry.unavailable("cpu", "cpu")
    expected = {("deconv", "subpixel"): None, ("bias_act", "cpu"): missing or "it is off by 1"}
    assert {(row["op"], row["implementation"]): row["problem"] for row in found} == expected
    assert self_checks.problem("deconv", "subpixel", "cpu") is None
    if not missing:
        assert "where it went wrong" in capsys.readouterr().err
        with pytest.warns(UserWarning, match="bias_act: the implementation 'cpu' is not used"):
            assert self_checks.problem("bias_act", "cpu", "cpu").startswith("it failed its check: it is off by 1")


def test_what_is_not_there_gets_a_row_and_no_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "OPS", {"deconv": ("subpixel",)})
    monkeypatch.setattr(registry, "unavailable", lambda implementation, device_type: "it was not built")
    [row] = operators.check_all("cpu", tmp_path / "rows.jsonl")
    assert row["problem"] == "it was not built"
    assert not Findings("verdicts", "cpu", lambda verdict: True)


def test_a_check_in_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "OPS", {"deconv": ("subpixel",)})
    assert operators.main(["check", "--device", "cpu", "--rows", str(tmp_path / "rows.jsonl")]) == 0
    assert Findings("verdicts", "cpu", lambda verdict: True) == {"deconv subpixel": None}
