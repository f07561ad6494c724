"""Recording and replay of whole steps: the captured rung and its number of steps in a launch.

A launch is one or more whole steps (phase_schedule.py): draw the random numbers, gather the images,
update everything. Graphs share no data but the state that steps change in place, whose memory lies
outside of the pool. So all graphs share one memory pool and may be replayed in any order, one after
the other. The host's part of a launch is the replay; the Python of its K steps runs once, during
the recording.
"""
import math
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from fastgan.engine.compiled import CompiledPhases
from fastgan.engine.eager import EagerSteps
from fastgan.engine.parity import Tolerance
from fastgan.engine.phase_schedule import Launch, PhaseSchedule, Variant
from fastgan.engine.system import EngineLog, Ladder, System
from fastgan.errors import UserError

Call = Callable[[], object]
SIZES = (1, 4, 16)  # steps in a launch, as candidates
MAX_LAUNCH_S = 0.25  # a run stops within about this time after a signal
NO_SLOWER = 1.005  # times the fastest: a slower launch of more steps does not pay for the launches that it saves
ROUNDS, ROUND_S = 5, 0.02


class Graphs(Protocol):
    """Recorder of device work that can be replayed."""

    def warm_up(self, body: Call) -> None:
        """Run `body` in the place of the recording, as often as libraries need for their setup.

        Raises an error where `body` makes the host wait for the device.
        """

    def record(self, body: Call) -> Call:
        """Return a function that repeats the device work of `body`.

        Each call reads memory as it is at the time of the call.
        """

    def synchronize(self) -> None:
        """Wait until the device has finished all replayed work."""


class CapturedSteps:
    """Recordings of the steps of all variants: single steps, and launches of `size` steps.

    other: already has the recordings of single steps.
    """

    def __init__(
        self,
        graphs: Graphs,
        steps: Mapping[Variant, Call],
        phase_schedule: PhaseSchedule,
        size: int,
        other: "CapturedSteps | None" = None,
    ):
        self.size, self._phase_schedule = size, phase_schedule
        self._replays = {} if other is None else dict(other._replays)
        for launch in phase_schedule.launches_of(size):
            if launch not in self._replays:
                self._replays[launch] = graphs.record(_one_after_another([steps[variant] for variant in launch]))

    def run(self, first: int, num: int) -> None:
        """Run the steps first to first + num - 1."""
        for launch in self._phase_schedule.launches(first, num, self.size):
            self._replays[launch]()

    def replay(self, launch: Launch) -> None:
        """Replay one launch, whether or not it is due."""
        self._replays[launch]()


class Capture:
    """Records the steps of a system in every useful size, and keeps the fastest that agrees.

    phases: the steps of the rung below, which are recorded.
    """

    def __init__(
        self,
        system: System,
        ladder: Ladder,
        eager: EagerSteps,
        phases: CompiledPhases,
        graphs: Graphs,
        log: EngineLog,
    ):
        self._system, self._ladder, self._eager, self._log = system, ladder, eager, log
        self._phases, self._graphs, self._sizes = phases, graphs, launch_sizes(ladder)
        self._phase_schedule = system.phase_schedule

    def record(self, tolerances: Mapping[str, Tolerance], below: str) -> CapturedSteps | None:
        """Return the steps as graphs, or None, with a report of the reason.

        None: they cannot be recorded, or differ from eager. below: name of the rung that is used
        then. Raises UserError in these cases if the user requires graphs.
        """
        try:
            candidates = self._candidates()
            problem = self._disagreement(candidates[0], tolerances)
        except Exception as error:  # any recording error: the reason is reported, the rung below stays
            problem = self._log.explain(error)
        if problem and self._ladder.cuda_graph == "on":
            raise UserError(f"--cuda-graph on, but the step cannot be a CUDA graph: {problem}")
        if problem:
            self._log.report(f"the captured step is not used, the {below} one is: {problem}")
            return None
        return self._fastest(candidates[:1] + [each for each in candidates[1:] if self._is_like(candidates[0], each)])

    def _fastest(self, candidates: list[CapturedSteps]) -> CapturedSteps:
        if self._ladder.graph_steps is not None:
            return candidates[-1]
        with self._eager.trials.undone():
            return best_size(candidates, self._phase_schedule, self._graphs.synchronize)

    def _candidates(self) -> list[CapturedSteps]:
        """Record the launches of every size, the single steps first; leave the state unchanged."""
        calls = {variant: partial(self._phases.call, variant) for variant in self._phase_schedule.variants()}
        with self._eager.trials.undone():
            for call in calls.values():
                self._graphs.warm_up(call)
            return self._record_sizes(calls)

    def _record_sizes(self, calls: Mapping[Variant, Call]) -> list[CapturedSteps]:
        """Return the recordings of all sizes that can be made.

        Only those of single steps, with a report of the reason, where launches of several steps
        cannot be recorded.
        """
        candidates: list[CapturedSteps] = []
        for size in self._sizes:
            try:
                single = candidates[0] if candidates else None
                candidates.append(CapturedSteps(self._graphs, calls, self._phase_schedule, size, other=single))
            except Exception as error:
                if not candidates:
                    raise
                self._report_size(size, self._log.explain(error))
                # Record all again: a failed recording has separated its generators from the earlier
                # ones.
                return [CapturedSteps(self._graphs, calls, self._phase_schedule, 1)]
        return candidates

    def _disagreement(self, single: CapturedSteps, tolerances: Mapping[str, Tolerance]) -> str | None:
        """Return the difference of graphs of single steps from eager steps in words, or None."""
        for variant in self._phase_schedule.variants():
            tolerance = tolerances[variant[0]] if len(variant) == 1 else self._eager.tolerance(variant)
            problem = tolerance.disagreement(partial(single.replay, (variant,)))
            if problem:
                return problem + self._system.label(*variant)
        return None

    def _is_like(self, single: CapturedSteps, candidate: CapturedSteps) -> bool:
        """Return True if graphs of several steps agree with single steps, else report it."""
        for launch in filter(lambda launch: len(launch) > 1, self._phase_schedule.launches_of(candidate.size)):
            problem = self._difference(single, candidate, launch)
            if problem:
                self._report_size(candidate.size, problem)
                return False
        return True

    def _difference(self, single: CapturedSteps, candidate: CapturedSteps, launch: Launch) -> str | None:
        def one_by_one() -> None:
            for variant in launch:
                single.replay((variant,))

        def precisely() -> None:
            for variant in launch:
                self._eager.call_precise(variant)

        precise = precisely if self._eager.is_reduced() else None
        tolerance = Tolerance(self._eager.trials, one_by_one, precise, num_calls=1)
        return tolerance.disagreement(partial(candidate.replay, launch))

    def _report_size(self, size: int, problem: str) -> None:
        self._log.report(f"{size} steps in one CUDA graph are not used: {problem}")


def launch_sizes(ladder: Ladder) -> list[int]:
    """Return the numbers of steps in a launch that are worth recording.

    Single steps for the remainder, then the requested size or the sizes that may be faster. Raises
    UserError for a requested size that the feed cannot serve.
    """
    wanted, most = ladder.graph_steps, ladder.max_graph_steps
    if wanted is not None and most is not None and wanted > most:
        raise UserError(
            f"--graph-steps {wanted} is more than the {most} batches that the data can have ready at once: give fewer"
        )
    return sorted({1, wanted}) if wanted else [size for size in SIZES if most is None or size <= most]


def best_size(candidates: list[CapturedSteps], phase_schedule: PhaseSchedule, synchronize: Call) -> CapturedSteps:
    """Return the candidate with the most steps in a launch that costs no time.

    It must be no slower than the fastest (NO_SLOWER) and able to stop in time (MAX_LAUNCH_S); else
    the smallest is returned. candidates: smallest first. Fewer launches save host time, even where
    the device is always busy.
    """
    seconds = _seconds_per_step(candidates, phase_schedule, synchronize)
    limit = NO_SLOWER * min(seconds.values())
    good = [
        candidate
        for candidate in candidates
        if seconds[candidate.size] <= limit and candidate.size * seconds[candidate.size] <= MAX_LAUNCH_S
    ]
    return good[-1] if good else candidates[0]


def _seconds_per_step(
    candidates: list[CapturedSteps], phase_schedule: PhaseSchedule, synchronize: Call
) -> dict[int, float]:
    """Return the median seconds a step by size, over rounds in which the candidates alternate."""
    first = math.ceil(phase_schedule.intro_steps / phase_schedule.period) * phase_schedule.period
    num = phase_schedule.period * max(candidate.size for candidate in candidates)
    num *= max(1, round(ROUND_S / _seconds(candidates[0], first, num, synchronize)))
    rounds = [
        {candidate.size: _seconds(candidate, first, num, synchronize) / num for candidate in candidates}
        for _ in range(ROUNDS)
    ]
    return {candidate.size: statistics.median(each[candidate.size] for each in rounds) for candidate in candidates}


def _seconds(candidate: CapturedSteps, first: int, num: int, synchronize: Call) -> float:
    synchronize()
    started = time.perf_counter()
    candidate.run(first, num)
    synchronize()
    return time.perf_counter() - started


def _one_after_another(calls: list[Call]) -> Call:
    def run() -> None:
        for call in calls:
            call()

    return run
