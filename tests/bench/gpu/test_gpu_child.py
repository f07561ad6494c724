"""Subprocesses that end well, badly, or not at all."""
import os
import sys
import time
from pathlib import Path

import pytest

from bench.gpu import child

NEVER = str


def run(tmp_path, code, seconds=20.0, stopped=NEVER):
    return child.run([sys.executable, "-c", code], tmp_path / "log.txt", seconds, stopped)


def test_its_output_is_added_to_the_log_as_it_comes(tmp_path):
    (tmp_path / "log.txt").write_text("before\n")
    assert run(tmp_path, "import sys; print('out'); print('err', file=sys.stderr)") == child.Ending(0, "")
    assert (tmp_path / "log.txt").read_text() == "before\nout\nerr\n"


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("raise SystemExit(3)", child.Ending(3, "exit code 3")),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", child.Ending(-11, "killed by SIGSEGV")),
    ],
)
def test_an_error_and_a_crash_are_told(tmp_path, code, ending):
    assert run(tmp_path, code) == ending


def test_what_hangs_is_ended_and_what_it_wrote_is_there(tmp_path):
    started = time.monotonic()
    assert run(tmp_path, "import time; print('begun'); time.sleep(60)", seconds=0.6) == child.Ending(None, "stopped after 1 s")
    assert time.monotonic() - started < 10
    assert (tmp_path / "log.txt").read_text() == "begun\n"


def test_what_refuses_to_end_is_killed_with_its_own_children(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "GRACE_S", 0.3)
    code = f"""
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"])
pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(grandchild.pid))
time.sleep(60)
"""
    assert run(tmp_path, code, stopped=lambda: "enough" if (tmp_path / "pid").exists() else "") == child.Ending(None, "enough")
    assert ended(int((tmp_path / "pid").read_text()))


def ended(pid: int) -> bool:
    """Within a second; one that nobody has reaped yet counts."""
    for _ in range(20):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_the_checkout_comes_first_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    assert child._environment()["PYTHONPATH"] == f"{child.ROOT}{os.pathsep}/somewhere/else"
    monkeypatch.delenv("PYTHONPATH")
    assert child._environment()["PYTHONPATH"] == str(child.ROOT)
