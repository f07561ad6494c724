"""Runner of stages, several at a time, until the time is over.

It prints a line a stage, and at the end a table; it writes an archive.

Stages compute side by side until one asks for its turn to measure (bench/exclusive.py); the others
then stand still until it has ended its turn.
"""

import dataclasses
import datetime
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from fastgan.bench import json_lines, machine
from fastgan.bench.exclusive import Turns
from fastgan.bench.gpu import bisect, call
from fastgan.bench.gpu.plan import RESULTS
from fastgan.bench.gpu.stage import Limits, Outcome, Stage
from fastgan.bench.gpu.stage_process import LOG, Child, Ending, Running
from fastgan.bench.gpu.summary import figure, stage_line, summary
from fastgan.errors import DiskError
from fastgan.files import cache_folder, write_text
from fastgan.processes import POLL_S, end

TABLE = "table.txt"
COLLECT_S = 1.0  # between two looks at what the stages wrote


class Runner:
    """Runs stages with a deadline, `minutes` from its making, into the folder `out`.

    It makes the folder. Raises DiskError where that fails.

    received: signals, of which the first ends everything at once. say: takes lines for the
    terminal. environment: what is set for every stage. head: the first line of the table. through:
    see Stage.command. clock, sleep and start, which makes a child, can be replaced by tests.
    """

    def __init__(
        self,
        out: Path,
        minutes: float,
        received: list[int],
        limits: Limits,
        say: Callable[[str], None] = print,
        environment: Mapping[str, str] | None = None,
        head: str = "",
        through: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        start: type[Child] = Child,
    ):
        self.out, self.received, self.limits, self.say, self.head = out, received, limits, say, head
        self.environment, self.through = dict(environment or {}), through
        self.clock, self.sleep, self.start = clock, sleep, start
        self.ends_at = clock() + 60 * minutes
        self._running: list[Running] = []
        self._outcomes: list[Outcome] = []
        self._bisected: set[tuple] = set()
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskError(f"cannot write into {out}: {error.strerror}") from error

    def run(self, stages: tuple[Stage, ...]) -> list[Outcome]:
        """Run all stages, in their order as far as there is room.

        Returns one outcome for every stage, and for every bisection that a refused rung asks for.

        The table is written and printed at the end, and the archive written, whatever the end was.
        """
        with tempfile.TemporaryDirectory(prefix="stages-", ignore_cleanup_errors=True) as folder:
            self._work, self._queue, self._turns = Path(folder), deque(stages), Turns()
            try:
                self._run_all()
            finally:
                end(each.child for each in self._running)
                self._turns.close()
                self._sum_up()
        return self._outcomes

    def _run_all(self) -> None:
        last, collected = self.clock(), self.clock()
        while self._queue or self._running:
            self._start_what_fits()
            self._take_turns()
            self.sleep(POLL_S)
            now = self.clock()
            self._count(now - last)
            self._end_what_has_ended()
            if now - collected >= COLLECT_S:
                collected = now
                for each in self._running:
                    each.collect()
            last = now

    def _start_what_fits(self) -> None:
        while self._queue:
            stage = self._queue[0]
            reason = self._why_not(stage)
            if not reason and (
                self._turns.holder is not None or not self.limits.fits(stage, (each.stage for each in self._running))
            ):
                return  # nothing begins beside one that measures, either
            self._queue.popleft()
            if reason:
                self._note(stage, "skipped", 0.0, [], reason)
            else:
                folder = self._work / stage.name
                self._running.append(
                    Running(stage, self.start, folder, self.out, self._turns.path, self.environment, self.through)
                )

    def _why_not(self, stage: Stage) -> str:
        left = self.ends_at - self.clock()
        if self.received or stage.missing():
            return self._interrupted() or stage.missing()
        return f"takes about {stage.expected_s} s, {max(left, 0):.0f} s are left" if left < stage.expected_s else ""

    def _interrupted(self) -> str:
        return f"interrupted by {signal.Signals(self.received[0]).name}" if self.received else ""

    def _take_turns(self) -> None:
        """Lend the turn to the process that asked first, when all others stand still.

        Let all stages continue when nobody asks.
        """
        self._turns.update()
        group = self._turns.next_group()
        if group is not None:
            for each in self._running:
                each.child.resume() if each.child.group == group else each.child.pause()
            self._turns.lend()
        elif self._turns.holder is None and not self._turns.waiting:
            for each in self._running:
                each.child.resume()

    def _count(self, seconds: float) -> None:
        waiting = self._turns.groups_waiting()
        for each in self._running:
            if not each.child.is_paused and each.child.group not in waiting:
                each.active_s += seconds

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _end_what_has_ended(self) -> None:
        endings = {each.stage.name: each.child.ending() for each in self._running}
        late = [each for each in self._running if endings[each.stage.name] is None and self._too_late(each)]
        endings |= {each.stage.name: Ending(None, self._too_late(each)) for each in late}
        end(each.child for each in late)
        for each in [each for each in self._running if endings[each.stage.name] is not None]:
            self._running.remove(each)
            self._finish(each, endings[each.stage.name])

    def _too_late(self, each: Running) -> str:
        """Return the reason why a running stage is to be ended now; empty where it is not."""
        if self.received:
            return self._interrupted()
        return (
            f"stopped after {each.active_s:.0f} s"
            if each.active_s >= each.stage.budget_s or self.clock() >= self.ends_at
            else ""
        )

    def _finish(self, each: Running, ending: Ending) -> None:
        each.collect()
        state = "cut off" if ending.code is None else "failed" if ending.code else "ok"
        json_lines.append_text(
            self.out / LOG,
            f"==== {each.stage.name}: {state} after {each.active_s:.1f} s {ending.reason}".rstrip() + "\n",
        )
        self._note(each.stage, state, each.active_s, each.found(), each.reason(ending))
        for refusal in each.refusals():
            json_lines.append_row(self.out / RESULTS, {**refusal, "stage": each.stage.name})
            self._bisect(refusal, each.stage)

    def _bisect(self, refusal: dict, refused_in: Stage) -> None:
        """Put the bisection of a refused rung before all remaining stages, once for every case."""
        stage = bisect.stage_for(refusal, refused_in, len(self._bisected))
        case = (refusal["preset"], refusal["batch_size"], refusal["resolution"], tuple(refusal["refused"]))
        if stage is not None and case not in self._bisected:
            self._bisected.add(case)
            self._queue.appendleft(stage)

    def _note(self, stage: Stage, state: str, seconds: float, found: list[dict], reason: str) -> None:
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        words = figure(stage.rows, found)
        outcome = Outcome(stage.name, state, round(seconds, 1), words, reason, stage.words(), date, machine.commit())
        self._outcomes.append(outcome)
        json_lines.append_row(self.out / RESULTS, dataclasses.asdict(outcome))
        self.say(stage_line(outcome))

    def _sum_up(self) -> None:
        table = summary(self._outcomes, self.out, self.head)
        write_text(self.out / TABLE, table + "\n")
        self.say(table)
        cache = self.environment.get("FASTGAN_CACHE")
        self.say(call.write_archive(self.out, self._work, findings=Path(cache or cache_folder(), "ops")))


def exit_code(outcomes: list[Outcome], received: list[int]) -> int:
    """Return the exit code of a run.

    0: whatever ran ended well. 1: something did not. 128 and the number of a signal: it ended
    everything.
    """
    if received:
        return 128 + received[0]
    return int(any(outcome.state in ("failed", "cut off") for outcome in outcomes))
