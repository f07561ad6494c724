"""The lending side of bench/exclusive.py.

It lends one turn at a time, in the order in which processes ask.
"""

import contextlib
import socket
import tempfile
from collections import deque
from pathlib import Path

from bench.exclusive import GRANTED


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
