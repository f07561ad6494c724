"""A stage of a run on a GPU machine, and the stages that may run at the same time."""

import dataclasses
import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass

ROWS = "FILE"  # stands in a command for the file that its rows are appended to
WORKERS = "-n 8"  # stands in a command of pytest for its workers, where pytest-xdist is installed


@dataclass(frozen=True)
class Stage:
    """One subprocess of a run.

    A stage is skipped where less than expected_s seconds are left, and ended where it has taken
    budget_s.

    Both count the time in which it may compute: neither its wait for a turn to measure, nor the
    time in which it stands still while others measure.
    """

    name: str
    arguments: tuple[str, ...]  # of python; ROWS among them becomes a path
    expected_s: int
    budget_s: int
    rows: str  # the file in the output folder
    shows: str  # result of the stage, and the reason for its expected time
    needs: tuple[str, ...] = ()  # modules beside those that fastgan itself imports
    programs: tuple[str, ...] = ()  # on PATH
    is_alone: bool = (
        False  # nothing runs beside it: it measures all the time, or by a clock that others must not disturb
    )
    timed_s: int = 0  # of expected_s, the seconds in which it holds the turn to measure
    memory_gb: int = 12  # of the GPU, at most
    slots: int = 1  # places for stages that its work on the CPU takes
    environment: tuple[tuple[str, str], ...] = ()

    def command(self, rows: str, through: tuple[str, ...] = ()) -> list[str]:
        """Return the command line, its rows going to this path.

        through: arguments of python that come first and run the others.
        """
        workers = WORKERS.split() if importlib.util.find_spec("xdist") else []
        words = [[rows] if word == ROWS else workers if word == WORKERS else [word] for word in self.arguments]
        return [sys.executable, *through, *(word for group in words for word in group)]

    def words(self) -> str:
        """Return the command as a person would type it."""
        words = [part for word in self.arguments for part in (word.split() if word == WORKERS else [word])]
        return shlex.join(["python", *words])

    def missing(self) -> str:
        """Name the modules and programs that the stage needs and this machine lacks.

        Returns an empty string where none is missing.
        """
        lacking = [name for name in self.needs if importlib.util.find_spec(name) is None]
        lacking += [name for name in self.programs if shutil.which(name) is None]
        return f"{', '.join(lacking)} not installed" if lacking else ""


@dataclass(frozen=True)
class Limits:
    """Limits of the stages that run at the same time."""

    slots: int  # places for stages: each compiles with cores / slots workers
    memory_gb: float  # of the GPU

    def fits(self, stage: Stage, running: Iterable[Stage]) -> bool:
        """Return True where a stage may start beside those that run.

        A stage that asks for more than there is runs alone.
        """
        running = list(running)
        if not running:
            return True
        if stage.is_alone or any(each.is_alone for each in running):
            return False
        together = [stage, *running]
        return (
            sum(each.slots for each in together) <= self.slots
            and sum(each.memory_gb for each in together) <= self.memory_gb
        )


def of_command(name: str, arguments: str, expected_s: int, budget_s: int, rows: str, shows: str, **fields) -> Stage:
    """Return a stage of a command line; fields: others of Stage."""
    return dataclasses.replace(Stage(name, tuple(arguments.split()), expected_s, budget_s, rows, shows), **fields)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
