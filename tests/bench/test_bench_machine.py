"""The stamp of a row."""
import json
import platform
import subprocess

import pytest
import torch

from fastgan.bench import machine


def test_the_stamp_is_json_and_names_no_host():
    text = json.dumps(machine.stamp())
    assert {"cpu", "cores", "flags", "memory_gb", "gpu", "driver", "os", "python", "torch", "triton", "threads"} <= set(
        json.loads(text)
    )
    assert platform.node() == "" or f'"{platform.node()}"' not in text
    assert machine.stamp()["torch"] == torch.__version__
    assert machine.stamp()["threads"] == torch.get_num_threads()
    assert (machine.stamp()["gpu"] is not None) == torch.cuda.is_available()


def test_the_description_says_what_decides_the_speed():
    stamp = {**machine.stamp(), "cpu": "Some CPU", "cores": 3, "threads": 2, "flags": ["amx_bf16"], "gpu": None}
    assert "Some CPU (3 cores, 2 threads, amx_bf16)" in machine.describe(stamp)
    with_gpu = machine.describe({**stamp, "gpu": "Some GPU", "driver": "1.2", "gpu_limits": "700 W"})
    assert with_gpu.startswith("Some GPU (driver 1.2, 700 W), Some CPU")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Replace our git checkout by one with one commit."""
    monkeypatch.setattr(machine, "CHECKOUT", tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    def git(*arguments):
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        return subprocess.run(
            ("git", *identity, *arguments), cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        git("init", "--quiet")
    except FileNotFoundError:
        pytest.skip("needs git")
    return tmp_path, git


def test_the_commit_and_whether_the_code_was_changed(checkout):
    folder, git = checkout
    assert machine.commit() is None  # nothing committed yet
    results = folder / "bench" / "results" / "step.jsonl"
    picture = folder / "docs" / "family" / "mlp.png"
    for file in (results, picture):
        file.parent.mkdir(parents=True)
        file.touch()
    (folder / "code.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    head = git("rev-parse", "HEAD")
    assert head.startswith(machine.commit())
    for file in (results, picture):
        file.write_text("{}\n")  # new results are no change of the code
    assert head.startswith(machine.commit())
    (folder / "code.py").write_text("a = 2\n")
    assert machine.commit().endswith("-dirty")


def test_where_the_package_is_installed_there_is_no_commit(monkeypatch):
    monkeypatch.setattr(machine, "CHECKOUT", None)
    assert machine.commit() is None


def test_a_busy_machine_is_noted(monkeypatch):
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (1.9, 0.0, 0.0))
    assert machine.busy_note() == ""
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (2.1, 0.0, 0.0))
    assert "load 2.1 on 4 cores" in machine.busy_note()


def test_a_measurement_without_the_library_says_so(monkeypatch):
    monkeypatch.setattr(machine, "native_problem", lambda device_type: None)
    assert machine.lacks_library() == ""
    monkeypatch.setattr(machine, "native_problem", lambda device_type: "it was not built")
    assert machine.lacks_library().endswith("which a user has: it was not built")
