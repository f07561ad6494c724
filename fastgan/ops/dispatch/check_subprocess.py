"""Self-checks of implementations in child processes.

A crash or a hang costs only the implementation that caused it. A child checks one implementation
after another and prints a message before and after each. If the child ends or hangs in between,
that is the verdict on the implementation whose check had begun; another child continues with the
rest.
"""
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fastgan import processes

# For one check, and once more for the start of a child, which imports torch and initialises the
# GPU. The longest check, of deconv in Triton, compiles 20 kernels, which took 9 s on a 2024 server
# core. The limit is twenty times that, for a slow core that is shared with other work.
CHECK_SECONDS = 180
POLL_SECONDS = 0.2  # a child may have ended while something that it started still holds its output
GRACE_SECONDS = 10  # from the end of a child's output to its own: it may hang in the driver
DETAIL_LINES, LINE_LENGTH = 60, 300
READ_BYTES = 64 * 1024  # more than the longest message

# Followed by the device type, and "op implementation" for each check. Modules are searched for on
# our own path: -m would begin with the working folder.
SERVE = "from fastgan.ops.dispatch import self_checks; self_checks.serve(sys.argv[1], sys.argv[2:])"
CHILD = (sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {SERVE}")
ENDED_BY_OTHERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # Linux short of memory among them
OUT_OF_MEMORY = re.compile(r"out ?of ?memory|MemoryError|allocate memory|bad_alloc|ALLOC_FAILED", re.IGNORECASE)


class Verdict(NamedTuple):
    """Result of one check."""

    problem: str | None  # one line; None: it is right
    # False: the machine, not the implementation, is to blame, so there is no verdict to keep.
    is_own: bool = True
    # The traceback, or the output of a child that crashed: for debugging the kernel, not kept.
    details: str = ""


def check_elsewhere(
    keys: Sequence[str], device_type: str, seconds: float = CHECK_SECONDS
) -> Iterator[tuple[str, Verdict]]:
    """Yield every key ("op implementation") with its verdict, as soon as it is known.

    The checks run in as many child processes as necessary, one after another. seconds: time limit
    for one check, and for the start of a child. Raises nothing; where no child can be started, all
    verdicts have is_own=False.
    """
    pending = list(keys)
    while pending:
        for key, verdict in _from_one_child(tuple(pending), device_type, seconds):
            pending.remove(key)
            yield key, verdict


def _from_one_child(keys: Sequence[str], device_type: str, seconds: float) -> Iterator[tuple[str, Verdict]]:
    """Yield the verdicts of one child, at least one.

    A child stops at its first failure, which may have left memory or the device in any state.
    """
    try:
        child = _Child(keys, device_type)
    except OSError as error:
        yield from ((key, Verdict(f"no process could be started for it: {error}", is_own=False)) for key in keys)
        return
    left, begun = list(keys), None
    with child.process:
        for key, verdict in child.messages(seconds):
            begun = key if verdict is None else None
            if verdict is not None:
                left.remove(key)
                yield key, verdict
                if not left or verdict.problem is not None:
                    return
        ending = child.ending(seconds)
    if begun is not None:
        yield begun, ending
    else:  # it cannot be started, or was ended between two checks
        yield from ((key, ending._replace(is_own=False)) for key in left)


class _Child:
    """A process that checks one implementation after another and prints a message about each.

    The output of kernels and compilers may come between the messages.
    """

    def __init__(self, keys: Sequence[str], device_type: str):
        """Start the process; raise OSError where that is impossible.

        It stays in the process group, so that a signal that ends or stops the program reaches it.
        """
        self.process = processes.Child([*CHILD, device_type, *keys], stdout=subprocess.PIPE)
        self._keys, self._said = keys, deque[str](maxlen=DETAIL_LINES)

    def messages(self, seconds: float) -> Iterator[tuple[str, Verdict | None]]:
        """Yield (key, None) when a check begins, (key, verdict) when it ends.

        Stops when the process ends, or after `seconds` without a message.
        """
        rest, deadline = b"", time.monotonic() + seconds
        while time.monotonic() < deadline and (read := self._read()) is not None:
            *lines, rest = (rest + read).split(b"\n")
            rest = rest[-READ_BYTES:]
            for line in lines:
                message = _message(line, self._keys)
                if message is None:
                    self._remember(line)
                    continue
                self._said.clear()  # it was about something else
                deadline = time.monotonic() + seconds
                yield message
        self._remember(rest)

    def ending(self, seconds: float) -> Verdict:
        """Return the verdict on the check that had begun, from the end of the process.

        A process that has not ended after `seconds` is a failure of that implementation.
        """
        code, said = self.process.poll(), "\n".join(self._said)
        how = f"was stopped after {seconds:g} s" if code is None else processes.how_it_ended(code)
        last_words = f"; it last said: {self._said[-1]}" if self._said else ""
        is_own = code is None or (-code not in ENDED_BY_OTHERS and not OUT_OF_MEMORY.search(said))
        return Verdict(f"the process of the check {how}{last_words}", is_own, said)

    def _read(self) -> bytes | None:
        """Return new output, empty if there is none yet, None after the end of the process.

        None is returned only when all output was read.
        """
        has_ended = self.process.poll() is not None  # polled first: no output can come after
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(0 if has_ended else POLL_SECONDS):
                return None if has_ended else b""
        read = os.read(self.process.stdout.fileno(), READ_BYTES)
        if not read:
            self.process.wait(GRACE_SECONDS)
        return read or None

    def _remember(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if text:
            self._said.append(text[:LINE_LENGTH])


def say(*message: str | bool | None) -> None:
    """Print a message in the child: say(key) before a check, say(key, *verdict) after it."""
    print("\n" + json.dumps(message), flush=True)  # on a line of its own, whatever was printed before


def _message(line: bytes, keys: Sequence[str]) -> tuple[str, Verdict | None] | None:
    """Return the message that `say` printed, or None for anything else."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match message:
        case [key] if key in keys:
            return key, None
        case [key, str() | None, bool(), str()] if key in keys:
            return key, Verdict(*message[1:])
    return None
