"""The plugin, in a pytest of its own."""
import subprocess
import sys

from fastgan.bench import json_lines
from fastgan.bench.places import ROOT

TESTS = """
import pytest

def test_right(): pass
def test_wrong(): assert 1 == 2, "they differ"
def test_skipped(): pytest.skip("not here")
@pytest.fixture
def broken(): raise RuntimeError("no fixture")
def test_with_a_broken_fixture(broken): pass
"""


def test_every_outcome_is_a_row(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    path = tmp_path / "rows.jsonl"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "fastgan.bench.gpu.evidence", "--outcomes", str(path)]
    run = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1, run.stdout + run.stderr
    found = json_lines.rows_since(path)
    assert [(row["test"].split("::")[1], row["outcome"]) for row in found] == [
        ("test_right", "passed"), ("test_wrong", "failed"), ("test_skipped", "skipped"),
        ("test_with_a_broken_fixture", "failed"),
    ]  # fmt: skip
    assert {row["kind"] for row in found} == {"test"}
    assert "they differ" in found[1]["message"]
    assert "not here" in found[2]["message"]
    assert found[3]["message"] == "RuntimeError: no fixture"
