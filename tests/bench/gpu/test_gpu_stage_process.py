"""Subprocesses that end well, badly, or not at all."""
import os
import sys
import time

import pytest

from fastgan import processes
from fastgan.bench.gpu import stage_process


def start(tmp_path, code, **environment):
    return stage_process.Child([sys.executable, "-c", code], tmp_path / "log.txt", environment)


def wait(started, seconds=20.0):
    """Wait for a child and return how it ended by itself."""
    deadline = time.monotonic() + seconds
    while (ending := started.ending()) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return ending


def test_its_output_is_added_to_the_log_as_it_comes(tmp_path):
    (tmp_path / "log.txt").write_text("before\n")
    code = "import os, sys; print('out', os.environ['KEY']); print('err', file=sys.stderr)"
    assert wait(start(tmp_path, code, KEY="value")) == stage_process.Ending(0, "")
    assert (tmp_path / "log.txt").read_text() == "before\nout value\nerr\n"


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("raise SystemExit(3)", stage_process.Ending(3, "ended with code 3")),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", stage_process.Ending(-11, "was killed by SIGSEGV")),
    ],
)
def test_an_error_and_a_crash_are_told(tmp_path, code, ending):
    assert wait(start(tmp_path, code)) == ending


def test_what_hangs_is_ended_and_what_it_wrote_is_there(tmp_path):
    began, started = time.monotonic(), start(tmp_path, "import os, time; os.write(1, b'begun\\n'); time.sleep(60)")
    has_begun(tmp_path / "log.txt")
    processes.end([started])
    assert started.ending() == stage_process.Ending(-15, "was killed by SIGTERM")
    assert time.monotonic() - began < 10
    assert (tmp_path / "log.txt").read_text() == "begun\n"


def has_begun(path):
    for _ in range(400):
        if path.exists() and path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} stayed empty")


def test_one_that_stands_still_does_nothing_until_it_is_resumed_and_can_be_ended(tmp_path):
    code = (
        "import pathlib, sys, time\n"
        "while True: pathlib.Path(sys.argv[1]).write_text(str(time.monotonic())); time.sleep(0.01)"
    )
    started = stage_process.Child([sys.executable, "-c", code, str(tmp_path / "time")], tmp_path / "log.txt", {})
    has_begun(tmp_path / "time")
    started.pause()
    time.sleep(0.1)
    stood = (tmp_path / "time").read_text()
    time.sleep(0.2)
    assert (tmp_path / "time").read_text() == stood
    started.resume()
    time.sleep(0.2)
    assert (tmp_path / "time").read_text() != stood
    started.pause()
    processes.end([started])
    assert started.ending() == stage_process.Ending(-15, "was killed by SIGTERM")


def test_the_folder_of_the_package_comes_first_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    assert stage_process._environment({})["PYTHONPATH"] == f"{stage_process.ROOT}{os.pathsep}/somewhere/else"
    monkeypatch.delenv("PYTHONPATH")
    assert stage_process._environment({})["PYTHONPATH"] == str(stage_process.ROOT)
