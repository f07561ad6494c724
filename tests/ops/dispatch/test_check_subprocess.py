"""A crash or a hang of a check costs its own implementation alone, whatever the child prints.

The children here are scripts of a few lines.
"""
import os
import signal
import sys

import pytest

from fastgan.ops.dispatch import check_subprocess
from fastgan.ops.dispatch.check_subprocess import Verdict, check_elsewhere

# Like fastgan.ops.dispatch.self_checks.serve, without torch: `check` decides by the name of the
# implementation.
SCRIPT = """
import json, os, signal, subprocess, sys, time
def say(*message):
    print("\\n" + json.dumps(message), flush=True)
def right(key): say(key, None, True, "")
def check(key):
    what = key.split()[1]
    if what == "warns": print("this is slow", flush=True)
    if what == "crashes": print("reading outside memory"); sys.stdout.flush(); os.kill(os.getpid(), signal.SIGSEGV)
    if what == "orphans": print(subprocess.Popen(["sleep", "120"]).pid, flush=True); \
os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hangs": time.sleep(60)
    if what == "exits": sys.exit("no kernel image")
    if what == "killed": os.kill(os.getpid(), signal.SIGKILL)
    if what == "starves": sys.stderr.write("terminate called after std::bad_alloc"); sys.stderr.flush(); os.abort()
    if what == "chatters":
        while True: print("still here", flush=True); time.sleep(0.01)
    if what == "closes": os.close(1); os.close(2); os.kill(os.getpid(), signal.SIGSEGV)
    if what == "babbles": os.write(1, b'\\xff\\x00{"a": [1, "cuda"]\\n["deconv cuda"]\\n[1]\\n' + 200000 * b"x" + b"[")
    if what == "wrong": return say(key, "it is off by 1", True, "a traceback")
    if what == "full": return say(key, "OutOfMemoryError: CUDA out of memory", False, "")
    if what == "leaves": right(key); time.sleep(60) if key == sys.argv[-1] else os._exit(0)
    right(key)
for key in sys.argv[2:]:
    say(key)
    check(key)
"""


@pytest.fixture(autouse=True)
def children(monkeypatch, tmp_path):
    """Let every child add a line with its checks to a file."""
    log = f"open({str(tmp_path / 'children')!r}, 'a').write(' '.join(__import__('sys').argv[1:]) + chr(10))\n"
    monkeypatch.setattr(check_subprocess, "CHILD", (sys.executable, "-S", "-c", log + SCRIPT))
    return lambda: (tmp_path / "children").read_text().splitlines()


def verdicts(*names, seconds=20.0):
    keys = [f"op {name}" for name in names]
    found = list(check_elsewhere(keys, "cuda", seconds))
    assert [key for key, _ in found] == keys  # once each, in their order
    return [verdict for _, verdict in found]


def test_one_child_for_all_that_is_right(children):
    assert verdicts("a", "b", "c") == [Verdict(None)] * 3
    assert children() == ["cuda op a op b op c"]
    assert verdicts() == []
    assert len(children()) == 1


@pytest.mark.parametrize(
    ("name", "is_own", "problem"),
    [
        ("crashes", True, "was killed by SIGSEGV; it last said: reading outside memory"),
        ("closes", True, "was killed by SIGSEGV"),
        ("exits", True, "ended with code 1; it last said: no kernel image"),
        ("killed", False, "was killed by SIGKILL"),
        ("starves", False, "was killed by SIGABRT; it last said: terminate called after std::bad_alloc"),
    ],
)
def test_a_crash_costs_one_implementation_and_the_next_child_goes_on(children, name, is_own, problem):
    first, crashed, *rest = verdicts("warns", name, "b", "c")
    assert (crashed.problem, crashed.is_own) == (f"the process of the check {problem}", is_own)
    assert [first, *rest] == [Verdict(None)] * 3
    assert children() == [f"cuda op warns op {name} op b op c", "cuda op b op c"]


def test_what_is_wrong_has_harmed_its_process(children):
    assert verdicts("wrong", "full", "a") == [
        Verdict("it is off by 1", details="a traceback"),
        Verdict("OutOfMemoryError: CUDA out of memory", is_own=False),
        Verdict(None),
    ]
    assert len(children()) == 3


@pytest.mark.parametrize("name", ["hangs", "chatters"])
def test_a_hang_is_cut_off_however_much_it_prints(name):
    hung, after = verdicts(name, "a", seconds=1.5)
    assert hung.problem.startswith("the process of the check was stopped after 1.5 s")
    assert hung.is_own
    assert after == Verdict(None)


def test_every_check_has_a_deadline_of_its_own(monkeypatch):
    """Eight checks take 0.3 s each, where one may take two seconds."""
    slow = SCRIPT.replace("def check(key):\n", "def check(key):\n    time.sleep(0.3)\n")
    monkeypatch.setattr(check_subprocess, "CHILD", (sys.executable, "-S", "-c", slow))
    assert verdicts(*"abcdefgh", seconds=2.0) == [Verdict(None)] * 8


def test_garbage_hides_no_verdict(children):
    assert verdicts("babbles", "a") == [Verdict(None)] * 2
    assert len(children()) == 1


def test_what_is_said_is_understood_wherever_it_comes(capsys):
    for key, verdict in (
        ("op a", None),
        ("op a", Verdict("it is off by 1\n", False, "\ud800 \u2028 traceback")),
        ("op b", None),
    ):
        print("an unfinished line", end="")
        check_subprocess.say(key, *(verdict or ()))
        heard = [check_subprocess._message(line.encode(), ["op a"]) for line in capsys.readouterr().out.split("\n")]
        assert [message for message in heard if message] == [(key, verdict)] * (key == "op a")


def test_a_child_that_ends_between_two_checks_has_not_checked_the_rest(children):
    first, last = verdicts("leaves", "a")
    assert first == Verdict(None)
    assert last == Verdict("the process of the check ended with code 0", is_own=False)


@pytest.mark.parametrize(
    ("command", "seconds", "problem"),
    [
        (
            ("/no/such/python",),
            20.0,
            "no process could be started for it: [Errno 2] No such file or directory: '/no/such/python'",
        ),
        (
            (sys.executable, "-S", "-c", "raise SystemExit('no device')"),
            20.0,
            "the process of the check ended with code 1; it last said: no device",
        ),
        (
            (sys.executable, "-S", "-c", "import time; time.sleep(60)"),
            0.5,
            "the process of the check was stopped after 0.5 s",
        ),
    ],
    ids=["none", "broken", "stuck"],
)
def test_where_no_child_can_be_started_nothing_is_checked(monkeypatch, command, seconds, problem):
    monkeypatch.setattr(check_subprocess, "CHILD", command)
    assert [verdict[:2] for verdict in verdicts("a", "b", seconds=seconds)] == [(problem, False)] * 2


def test_what_a_crashed_check_started_is_not_waited_for():
    """The process that it started, a compiler for example, holds the output open."""
    [verdict] = verdicts("orphans", seconds=300.0)
    assert "SIGSEGV" in verdict.problem
    os.kill(int(verdict.details), signal.SIGKILL)  # it is still there


@pytest.fixture
def processes(monkeypatch):
    found, popen = [], check_subprocess.subprocess.Popen
    monkeypatch.setattr(
        check_subprocess.subprocess, "Popen", lambda *a, **options: found.append(popen(*a, **options)) or found[-1]
    )
    return found


def test_a_child_with_nothing_left_to_say_is_not_waited_for(processes):
    assert verdicts("a", "leaves", seconds=300.0) == [Verdict(None)] * 2
    assert [process.poll() for process in processes] == [-signal.SIGTERM]


def test_whoever_stops_asking_leaves_no_process_behind(processes):
    found = check_elsewhere(["op a", "op hangs"], "cuda")
    assert next(found) == ("op a", Verdict(None))
    found.close()
    assert [process.poll() for process in processes] == [-signal.SIGTERM]
