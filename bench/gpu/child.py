"""A subprocess with a deadline, which takes nothing with it when it hangs or crashes."""
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.machine import ROOT

GRACE_S = 5.0  # from the polite signal to the one that cannot be refused, and again until a process that hangs in the driver is left alone
POLL_S = 0.1


class Ending(NamedTuple):
    """How a child ended: code its exit code, None where it had to be stopped; reason in words, empty where it ended well."""

    code: int | None
    reason: str


def run(command: list[str], log: Path, seconds: float, stopped: Callable[[], str]) -> Ending:
    """Run a command in the root of the checkout, its output going straight to the end of `log`, for at most so many seconds.

    stopped: a reason to stop at once, or nothing. The child has a process group of its own, so that what it started ends with it; it stays in the
    session, so that whoever ends the session reaches it as well.
    """
    with open(log, "ab") as output:
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environment(), process_group=0)
    deadline = time.monotonic() + seconds
    while child.poll() is None:
        reason = stopped() or (f"stopped after {seconds:.0f} s" if time.monotonic() >= deadline else "")
        if reason:
            _end(child)
            return Ending(None, reason)
        time.sleep(POLL_S)
    _signal_group(child, signal.SIGKILL)  # whatever it left behind would disturb the next one
    return Ending(child.returncode, _how_it_ended(child.returncode))


def _environment() -> dict[str, str]:
    """Output that is not held back, and the checkout first on the path."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}


def _end(child: subprocess.Popen) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal_group(child, number)
        try:
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            continue
        break
    _signal_group(child, signal.SIGKILL)


def _signal_group(child: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in it
        os.killpg(child.pid, number)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exit code {code}" if code else ""
    return f"killed by {signal.Signals(-code).name}"
