"""Children that end well, badly or not at all, and signals."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastgan import processes
from fastgan.processes import Child, how_it_ended, signals_received

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone tells of a parent's end")


def python(code: str, *arguments: object, **options) -> Child:
    return Child([sys.executable, "-S", "-c", code, *map(str, arguments)], **options)


def content(path: Path) -> str:
    """Return what is in a file as soon as there is something."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.02)
    raise AssertionError(f"{path} stayed empty")


def has_ended(pid: int) -> bool:
    """Return True where a process ends within seconds; one that nobody has reaped yet counts."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_child_is_asked_over_pipes_and_waited_for():
    with python("import os; print(os.environ['KEY'], input())", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                environment={**os.environ, "KEY": "value"}) as child:  # fmt: skip
        child.stdin.write(b"asked\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"value asked\n"
        assert child.wait(20) == 0
    assert child.stdin.closed
    assert child.stdout.closed


def test_it_starts_in_a_folder_and_stderr_joins_stdout(tmp_path):
    code = "import os, sys; print(os.getcwd(), file=sys.stderr)"
    with python(code, stdout=subprocess.PIPE, folder=tmp_path) as child:
        assert child.stdout.read().decode().strip() == os.path.realpath(tmp_path)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(3)", "ended with code 3"),
        ("import os; os.abort()", "was killed by SIGABRT"),
    ],
)
def test_its_end_is_told_in_words(code, words):
    with python(code, stdout=subprocess.DEVNULL) as child:
        assert how_it_ended(child.wait(20)) == words


def test_a_signal_without_a_name_has_its_number():
    assert how_it_ended(-(signal.SIGRTMIN + 1)) == f"was killed by signal {signal.SIGRTMIN + 1}"


def test_a_program_that_is_missing_is_an_error_of_the_caller():
    with pytest.raises(FileNotFoundError, match="/no/such/program"):
        Child(["/no/such/program"])


def test_waiting_has_a_deadline_in_which_time_that_was_slept_through_does_not_count(monkeypatch):
    with python("import time; time.sleep(60)") as child:
        assert child.wait(0.1) is None
        hours = iter(range(0, 10**9, 3600))
        monkeypatch.setattr(processes.time, "monotonic", lambda: next(hours))
        monkeypatch.setattr(processes.time, "sleep", lambda seconds: None)
        child.wait(10)
        assert next(hours) >= 2 * 10 / processes._LONGEST_POLL_S * 3600
        monkeypatch.undo()
    assert child.poll() == -signal.SIGTERM


def test_what_refuses_to_end_is_killed_with_what_it_started(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "GRACE_S", 0.3)
    code = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which what it starts inherits
started = subprocess.Popen(["sleep", "60"])
pathlib.Path(sys.argv[1]).write_text(str(started.pid))
time.sleep(60)
"""
    with python(code, tmp_path / "pid", own_group=True) as child:
        pid = int(content(tmp_path / "pid"))
    assert child.poll() == -signal.SIGKILL
    assert has_ended(pid)


@pytest.mark.parametrize("own_group", [True, False])
def test_a_group_of_its_own_ends_with_it(tmp_path, own_group):
    code = (
        "import pathlib, subprocess, sys; started = subprocess.Popen(['sleep', '60'])\n"
        "pathlib.Path(sys.argv[1]).write_text(str(started.pid))"
    )
    with python(code, tmp_path / "pid", own_group=own_group) as child:
        assert child.wait(20) == 0
    pid = int(content(tmp_path / "pid"))
    if own_group:
        assert has_ended(pid)
    else:
        os.kill(pid, signal.SIGKILL)  # it is still there


@on_linux
def test_a_child_ends_with_a_parent_that_is_killed(tmp_path):
    command = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)"
    code = (
        "import sys, time; sys.path[:] = sys.argv[2:]; from fastgan.processes import Child\n"
        f"child = Child([sys.executable, '-c', {command!r}, sys.argv[1]], own_group=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "pid"), *sys.path])
    pid = int(content(tmp_path / "pid"))
    parent.kill()
    parent.wait()
    assert has_ended(pid)


def test_signals_are_noted_and_the_handlers_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen = []
    with signals_received(lambda received: seen.append(list(received))) as received:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert received == [signal.SIGTERM, signal.SIGINT]
    assert seen == [[signal.SIGTERM], received]
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
