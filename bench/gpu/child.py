"""A subprocess that can be stopped, resumed and ended with all that it started.

Nothing else fails when it hangs or crashes.
"""
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench.machine import ROOT
from fastgan import processes
from fastgan.processes import POLL_S as POLL_S
from fastgan.processes import end as end


class Ending(NamedTuple):
    """The end of a child.

    code: its exit code, None where it had to be stopped. reason: in words, empty where it ended
    well.
    """

    code: int | None
    reason: str


class Child(processes.Child):
    """A command in the root of the checkout, its output going straight to the end of `log`.

    It has a process group of its own, so that what it started is stopped and ended with it; it
    stays in the session, so that whoever ends the session reaches it as well. environment: what is
    set for it beside the present one.
    """

    def __init__(self, command: list[str], log: Path, environment: Mapping[str, str]):
        with open(log, "ab") as output:
            super().__init__(
                command, stdout=output, folder=ROOT, environment=_environment(environment), own_group=True
            )
        self.is_paused = False

    @property
    def group(self) -> int:
        """The number of its process group."""
        return self.pid

    def ending(self) -> Ending | None:
        """Return the ending, None while the child runs."""
        code = self.poll()
        return None if code is None else Ending(code, processes.how_it_ended(code) if code else "")

    def pause(self) -> None:
        """Stop all its processes where they are. Work that is queued on a device is still done."""
        if not self.is_paused:
            self.signal(signal.SIGSTOP)
            self.is_paused = True

    def resume(self) -> None:
        """Let its processes continue."""
        if self.is_paused:
            self.signal(signal.SIGCONT)
            self.is_paused = False


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with unbuffered output and the checkout first on the path."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path, **own}
