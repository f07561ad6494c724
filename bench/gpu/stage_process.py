"""A running stage: its process, which can be stopped, resumed and ended with all that it started,
and its files.

Nothing else fails when it hangs or crashes.
"""
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fastgan import processes
from fastgan.bench import json_lines
from fastgan.bench.exclusive import SOCKET
from fastgan.bench.gpu.evidence import EVIDENCE, REFUSALS
from fastgan.bench.gpu.stage import Stage
from fastgan.bench.places import ROOT

LOG, STAGE_LOG = "log.txt", "said.txt"


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


class Running:
    """A stage that its making starts; `start` starts a process.

    Its files lie in `folder`. Lines that are added to them go to the same files in `out`.
    """

    def __init__(self, stage: Stage, start: type[Child], folder: Path, out: Path, turns: Path,
                 environment: dict[str, str], through: tuple[str, ...]):  # fmt: skip
        folder.mkdir(parents=True)
        self.stage, self.folder, self.out = stage, folder, out
        self.active_s = 0.0  # in which it was neither waiting for its turn nor standing still
        self._rows, self._said = json_lines.Tail(folder / stage.rows), json_lines.Tail(folder / STAGE_LOG)
        json_lines.append_text(out / LOG, f"==== {stage.name}: {stage.words()}\n")
        own = {SOCKET: str(turns), EVIDENCE: str(folder), **environment, **dict(stage.environment)}
        self.child = start(stage.command(str(folder / stage.rows), through), folder / STAGE_LOG, own)

    def collect(self) -> None:
        """Append the new rows and output of the stage to the files of the run."""
        for tail, file, head in ((self._rows, self.stage.rows, ""), (self._said, LOG, f"---- {self.stage.name}\n")):
            new = tail.lines()
            if new:
                json_lines.append_text(self.out / file, head + new)

    def found(self) -> list[dict]:
        """Return the rows of the stage so far."""
        return json_lines.rows_since(self.folder / self.stage.rows)

    def refusals(self) -> list[dict]:
        """Return the rows about rungs that the engine left while it ran."""
        return json_lines.rows_since(self.folder / REFUSALS)

    def reason(self, ending: Ending) -> str:
        """Return the reason why the stage did not end well: its ending and last output."""
        said = [line for line in self._words().splitlines() if line.strip()]
        return ": ".join(filter(None, (ending.reason, said[-1].strip() if ending.code and said else "")))

    def _words(self) -> str:
        path = self.folder / STAGE_LOG
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
