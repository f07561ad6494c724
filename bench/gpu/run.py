"""Runs stages one after the other until the time is over, and says what came out: a line a stage, a table at the end."""
import contextlib
import dataclasses
import datetime
import importlib.util
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import machine
from bench.gpu import child, rows
from bench.gpu.figures import figure
from bench.gpu.plan import RESULTS, Stage
from bench.gpu.table import stage_line, summary
from fastgan.errors import DiskError
from fastgan.files import write_text

LOG, TABLE = "log.txt", "table.txt"
RESULTS_FOLDER = machine.ROOT / "bench" / "results"


@dataclass(frozen=True)
class Outcome:
    """What became of a stage; a row of results.jsonl."""

    stage: str
    state: str  # ok | failed: it ended with an error | cut off: it was ended | skipped
    seconds: float
    figure: str  # the most important number of its rows, in words; there may be rows whatever the state
    reason: str  # why it is not ok
    command: str
    date: str
    commit: str | None
    kind: str = "stage"


class Runner:
    """Runs stages with a deadline, `minutes` from its making, into the folder `out`, which it makes. Raises DiskError where that cannot be.

    received: signals, of which the first ends everything at once. say: takes lines for the terminal. clock and run_child can be replaced by tests.
    """

    def __init__(
        self,
        out: Path,
        minutes: float,
        received: list[int],
        say: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
        run_child: Callable[[list[str], Path, float, Callable[[], str]], child.Ending] = child.run,
    ):
        self.out, self.received, self.say, self.clock, self.run_child = out, received, say, clock, run_child
        self.ends_at = clock() + 60 * minutes
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskError(f"cannot write into {out}: {error.strerror}") from error

    def run(self, stages: tuple[Stage, ...]) -> list[Outcome]:
        """One after the other; the table is written and said at the end, whatever the end was. One outcome for every stage."""
        outcomes = []
        for stage in stages:
            outcomes.append(self._run_one(stage))
            rows.append(self.out / RESULTS, dataclasses.asdict(outcomes[-1]))
            self.say(stage_line(outcomes[-1]))
        table = summary(outcomes, self.out)
        write_text(self.out / TABLE, table + "\n")
        self.say(table)
        return outcomes

    def _run_one(self, stage: Stage) -> Outcome:
        reason = self._why_not(stage)
        if reason:
            return _outcome(stage, "skipped", 0.0, "", reason)
        path = self.out / stage.rows
        started, start = self.clock(), rows.size(path)
        self._log(f"==== {stage.name}: {stage.words()}")
        log_start = rows.size(self.out / LOG)
        seconds = min(stage.budget_s, self.ends_at - started)
        ending = self.run_child(stage.command(str(path)), self.out / LOG, seconds, self._stopped)
        rows.mend(path)
        took = self.clock() - started
        state = "cut off" if ending.code is None else "failed" if ending.code else "ok"
        reason = ": ".join(filter(None, (ending.reason, self._last_words(log_start) if state == "failed" else "")))
        self._log(f"==== {stage.name}: {state} after {took:.1f} s {ending.reason}".rstrip())
        return _outcome(stage, state, took, figure(stage.rows, rows.since(path, start)), reason)

    def _why_not(self, stage: Stage) -> str:
        left = self.ends_at - self.clock()
        missing = [name for name in stage.needs if importlib.util.find_spec(name) is None]
        if self.received:
            return self._stopped()
        if missing:
            return f"{', '.join(missing)} not installed"
        return f"takes about {stage.expected_s} s, {max(left, 0):.0f} s are left" if left < stage.expected_s else ""

    def _stopped(self) -> str:
        return f"interrupted by {signal.Signals(self.received[0]).name}" if self.received else ""

    def _last_words(self, log_start: int) -> str:
        """The last line that a stage said; its own part of the log begins at this byte."""
        with open(self.out / LOG, "rb") as file:
            file.seek(log_start)
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""

    def _log(self, line: str) -> None:
        with open(self.out / LOG, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def default_out() -> Path:
    """A folder of its own for every run, beside the other results."""
    return RESULTS_FOLDER / f"gpu-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def exit_code(outcomes: list[Outcome], received: list[int]) -> int:
    """0: whatever ran ended well; 1: something did not; 128 and the number of a signal that ended everything."""
    if received:
        return 128 + received[0]
    return int(any(outcome.state in ("failed", "cut off") for outcome in outcomes))


@contextlib.contextmanager
def signals_received() -> Iterator[list[int]]:
    """A list to which the first Ctrl-C or SIGTERM adds its number, instead of ending the process."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outcome(stage: Stage, state: str, seconds: float, figure: str, reason: str) -> Outcome:
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Outcome(stage.name, state, round(seconds, 1), figure, reason, stage.words(), date, machine.commit())
