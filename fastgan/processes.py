"""Child processes, which end with their parent, and the signals that end this one."""
import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

# From SIGTERM to SIGKILL, and again until a process that hangs in a driver is left alone
GRACE_S = 5.0
POLL_S, _FIRST_POLL_S = 0.02, 0.0005  # between two looks at a process, and at first
_LONGEST_POLL_S = 0.5  # a poll that took longer is one in which this process was stopped

# On Linux the child asks for its own end before it becomes the command, 20 ms later: nothing of
# ours may run between fork and exec, where other threads may have held a lock. 1: PR_SET_PDEATHSIG.
_BECOME = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.getppid() == int(sys.argv[1]) and os.execvp(sys.argv[2], sys.argv[2:])
"""


class Child:
    """A process that ends with the `with` block, and on Linux with this process, however that ends.

    The thread that starts it has to outlive it: Linux kills the child when that thread ends.

    command: the program and its arguments. folder: where it starts, None for here. environment: all
    of it, None for ours. own_group: whether it has a process group of its own; then what it started
    gets its signals, and ends with it. Otherwise it stays in ours, and gets the signals that ours
    gets. Raises OSError where it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: IO | int | None = None,
        stderr: IO | int | None = subprocess.STDOUT,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        own_group: bool = False,
    ):
        self._own_group = own_group
        group = 0 if own_group else None
        self._process = subprocess.Popen(_ending_with_us(command), cwd=folder, env=environment, stdin=stdin,
                                         stdout=stdout, stderr=stderr, process_group=group)  # fmt: skip
        self.pid, self.stdin, self.stdout = self._process.pid, self._process.stdin, self._process.stdout

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *exception: object) -> None:
        end([self])
        for pipe in filter(None, (self.stdin, self.stdout)):
            with contextlib.suppress(OSError):  # what was not sent yet has no reader any more
                pipe.close()

    def poll(self) -> int | None:
        """Return the exit code (-N: killed by signal N), None while the process runs.

        What it leaves behind in a group of its own, and would disturb others, is killed.
        """
        was_known = self._process.returncode is not None
        code = self._process.poll()
        if code is not None and not was_known and self._own_group:
            self._signal_group(signal.SIGKILL)
        return code

    def wait(self, seconds: float) -> int | None:
        """Return the exit code, None where the process still runs after `seconds`.

        Time in which this process was stopped does not count.
        """
        spent, pause = 0.0, _FIRST_POLL_S
        while (code := self.poll()) is None and spent < seconds:
            started = time.monotonic()
            time.sleep(pause)
            spent += min(time.monotonic() - started, _LONGEST_POLL_S)
            pause = min(2 * pause, POLL_S)
        return code

    def signal(self, number: int) -> None:
        """Send a signal to it, or to its own group, unless it has ended."""
        if self.poll() is not None:
            return
        if self._own_group:
            self._signal_group(number)
        else:
            self._process.send_signal(number)

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in it
            os.killpg(self.pid, number)


def end(children: Iterable[Child]) -> None:
    """End all children at once: by SIGTERM, then by SIGKILL; what hangs in a driver is left."""
    children = list(children)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for child in children:
            child.signal(number)
            child.signal(signal.SIGCONT)  # one that is stopped does not hear SIGTERM
        deadline = time.monotonic() + GRACE_S
        for child in children:
            child.wait(deadline - time.monotonic())


def how_it_ended(code: int) -> str:
    """Return the end of a process in words: "ended with code 3", "was killed by SIGSEGV"."""
    if code >= 0:
        return f"ended with code {code}"
    return f"was killed by {next((known.name for known in signal.Signals if known == -code), f'signal {-code}')}"


@contextlib.contextmanager
def signals_received(react: Callable[[list[int]], None] = lambda received: None) -> Iterator[list[int]]:
    """Give a list to which Ctrl-C and SIGTERM are appended, instead of ending this process.

    react: called with the list after each. Only the main thread may use it.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        react(received)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ending_with_us(command: Sequence[str]) -> list[str]:
    """Return the command as one that Linux kills when this thread ends."""
    if not sys.platform.startswith("linux"):
        return list(command)
    if shutil.which(command[0]) is None:  # found out here, where it can be raised
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
    return [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *command]
