"""Turns between the stages of `fastgan bench gpu`: one stage computes at a time.

While a process holds the turn, no other stage computes.

The run lends one turn at a time, over a socket whose path is in the environment. Before it lends a
turn, it stops the processes of every other stage, so that neither their compilers nor their kernels
run beside the measurement. Host-bound code (eager steps) has the cores, and the device does nothing
but what was queued before, which has SETTLE_S seconds to finish. Where no run lends turns, nothing
happens here.
"""

import contextlib
import functools
import os
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

SOCKET = "FASTGAN_BENCH_TURNS"  # the path of the socket; unset: nobody lends turns
SETTLE_S = 0.05  # kernels that a stopped process had queued: the host is at most a launch or two ahead
GRANTED = b"g"

_depth = 0  # a turn inside a turn is the same turn


def is_lent() -> bool:
    """Return True where this process is a stage of a run that lends turns.

    Such a process may be stopped while others measure.
    """
    return SOCKET in os.environ


def note() -> str:
    """Return the note of a row on its compile time in a run that lends turns.

    Empty where nobody lends any.
    """
    return (
        "other stages stood still while it was timed, and compiled while it did: its compile time is no measurement"
        if is_lent()
        else ""
    )


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the turn inside the context; can also decorate a function.

    Raises ConnectionError where the run that lends turns is gone.
    """
    global _depth
    if not is_lent() or _depth:
        yield
        return
    with _turn():
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Hold a connection for as long as the turn lasts.

    The turn of a process that dies ends with its connection.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(os.environ[SOCKET])
            connection.sendall(f"{os.getpgrp()}\n".encode())
            answer = connection.recv(1)
        except OSError as error:
            raise ConnectionError(f"no turn to measure alone: {error.strerror} at {os.environ[SOCKET]}") from error
        if answer != GRANTED:
            raise ConnectionError("no turn to measure alone: the run that lends turns has ended")
        time.sleep(SETTLE_S)
        yield


def guard_timings() -> None:
    """Let the timings inside fastgan and the compiler take turns.

    These time operators, sizes of a launch and configurations of Triton kernels.

    Does nothing where nobody lends turns. Raises AttributeError where one of these functions does
    not exist, for then a choice would be made by times that other stages disturb.
    """
    if not is_lent():
        return
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    from fastgan.engine import captured
    from fastgan.ops.dispatch import autotune

    for owner, name in (
        (autotune, "_fastest"),
        (captured, "_seconds_per_step"),
        (CachingAutotuner, "benchmark_all_configs"),
    ):
        function = getattr(owner, name)
        if not hasattr(function, "takes_turns"):
            setattr(owner, name, _taking_turns(function))


def _taking_turns(function: Callable) -> Callable:
    @functools.wraps(function)
    def call(*arguments, **options):
        with alone():
            return function(*arguments, **options)

    call.takes_turns = True
    return call


# --- the lending side -------------------------------------------------------------------------------------------------


class Turn:
    """A process's request for a turn.

    It is the connection that the process keeps while it measures, and its process group, which
    identifies its stage.
    """

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.group: int | None = None  # until the process has sent it
        self._said = b""

    def read(self) -> bool:
        """Read the data that came. Return False where the process or its turn has ended."""
        try:
            said = self.connection.recv(64)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._said += said
        if self.group is None and self._said.endswith(b"\n"):
            self.group = int(self._said)
        return bool(said)

    def grant(self) -> None:
        """Tell the process that it may begin; one that is gone is noticed at the next read."""
        with contextlib.suppress(OSError):
            self.connection.sendall(GRANTED)


class Turns:
    """A socket in a folder of its own.

    holder: the turn that is lent; waiting: those that asked, first come first.
    """

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="turns-")
        self.path = Path(self._folder.name, "socket")
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(self.path))
        self._listening.listen()
        self._listening.setblocking(False)
        self.holder: Turn | None = None
        self.waiting: deque[Turn] = deque()

    def update(self) -> None:
        """Notice new requests and ended ones. Never waits."""
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._listening.accept()
                connection.setblocking(False)
                self.waiting.append(Turn(connection))
        gone = [turn for turn in self.waiting if not turn.read()]
        for turn in gone:
            self.waiting.remove(turn)
            turn.connection.close()
        if self.holder is not None and not self.holder.read():
            self.holder.connection.close()
            self.holder = None

    def groups_waiting(self) -> set[int]:
        """Return the process groups that ask for a turn."""
        return {turn.group for turn in self.waiting if turn.group is not None}

    def next_group(self) -> int | None:
        """Return the group whose turn it is now: the first that asks, where nobody holds a turn."""
        if self.holder is not None or not self.waiting:
            return None
        return self.waiting[0].group

    def lend(self) -> None:
        """Lend the turn to the first that asks. Call it when everybody else stands still."""
        self.holder = self.waiting.popleft()
        self.holder.grant()

    def close(self) -> None:
        """Close all connections, whose end tells the waiting processes."""
        for turn in (*self.waiting, *([self.holder] if self.holder else [])):
            turn.connection.close()
        self._listening.close()
        self._folder.cleanup()
