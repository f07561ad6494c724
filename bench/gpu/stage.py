"""A stage of a run, how it starts Python, what fits beside it, and when it is expected to end."""
import dataclasses
import importlib.util
import os
import shlex
import shutil
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from fastgan.bench.places import CHECKOUT

ROWS = "FILE"  # stands in a command for the file that its rows are appended to
WORKERS = "-n 8"  # stands in a command of pytest for its workers, where pytest-xdist is installed
REHEARSAL = "FASTGAN_BENCH_REHEARSAL"  # set in the stages of a rehearsal
REHEARSED_BY = "fastgan.bench.gpu.rehearse"
SHARED = 1.3  # times as long that work takes which others do beside it on the same cores


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
    needs_checkout: bool = False
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
        command = ["fastgan", *words[2:]] if words[:2] == ["-m", "fastgan"] else ["python", *words]
        return shlex.join(command)

    def missing(self) -> str:
        """Name what the stage needs and this machine lacks: a checkout, modules, programs.

        Returns an empty string where nothing is missing.
        """
        if self.needs_checkout and CHECKOUT is None:
            return "the package is installed without a checkout, which has the tests"
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


@dataclass(frozen=True)
class Outcome:
    """The end of a stage; a row of results.jsonl."""

    stage: str
    state: str  # ok | failed: it ended with an error | cut off: it was ended | skipped
    seconds: float  # in which it could compute
    figure: str  # the most important number of its rows, in words; there may be rows whatever the state
    reason: str  # reason why it is not ok
    command: str
    date: str
    commit: str | None
    kind: str = "stage"


def is_rehearsed() -> bool:
    """Return True in the processes of a rehearsal."""
    return REHEARSAL in os.environ


def python(*arguments: str) -> list[str]:
    """Return the command that runs `python -m MODULE ...` as this process was run."""
    return [sys.executable, *(("-m", REHEARSED_BY) if is_rehearsed() else ()), *arguments]


@dataclass
class _Running:
    stage: Stage
    work_s: float  # left until it measures
    timed_s: float  # left of that


def expected_ends(stages: tuple[Stage, ...], limits: Limits) -> dict[str, int]:
    """Return the seconds from the start of a run to the end of each stage, by name.

    They are in the order in which the stages end. No stage is skipped or refused.
    """
    queue, running, ends, now = deque(stages), [], {}, 0
    while queue or running:
        while queue and limits.fits(queue[0], (each.stage for each in running)):
            stage = queue.popleft()
            running.append(_Running(stage, stage.expected_s - stage.timed_s, stage.timed_s))
        _pass_a_second(running)
        now += 1
        for each in [each for each in running if each.work_s <= 0 and each.timed_s <= 0]:
            ends[each.stage.name] = now
            running.remove(each)
    return ends


def _pass_a_second(running: list[_Running]) -> None:
    """Let a second pass for the stages that may compute.

    The first that is ready to measure does, while the others stand still; else all of them work.
    """
    ready = [each for each in running if each.work_s <= 0]
    if ready:
        ready[0].timed_s -= 1
        return
    for each in running:
        each.work_s -= 1 if len(running) == 1 else 1 / SHARED
