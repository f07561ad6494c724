"""Recording whole steps once and replaying them: what is recorded, what is replayed when, and how
many steps at once.

A launch is one or more whole steps (phase_schedule.py): draw the random numbers, gather the images,
update everything. Nothing is passed from one graph to the next but the state that steps change in
place, whose memory lies outside of the pool, so all graphs share one pool of memory and may be
replayed in any order, one after the other. The host's part of a launch is the replay; the Python of
its K steps runs once, while they are recorded.
"""
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from fastgan.engine.phase_schedule import Launch, PhaseSchedule, Variant

Call = Callable[[], object]
SIZES = (1, 4, 16)  # steps in a launch that are tried out
MAX_LAUNCH_S = 0.25  # a run that is told to stop does so within about so long
NO_SLOWER = 1.005  # times the fastest: beyond that, more steps in a launch do not pay for the launches that they save
ROUNDS, ROUND_S = 5, 0.02


class Graphs(Protocol):
    """What records work on the device and replays it."""

    def warm_up(self, body: Call) -> None:
        """Run `body` as often as libraries need to settle, where it will be recorded.

        Raises where it makes the host wait for the device.
        """

    def record(self, body: Call) -> Call:
        """What does again on the device, from the memory as it will be then, all that `body` does
        there.
        """

    def synchronize(self) -> None:
        """Wait until the device has done what was replayed."""


class CapturedSteps:
    """Steps of all variants as recordings: single ones, and launches of `size` steps.

    other: has the single ones already.
    """

    def __init__(
        self,
        graphs: Graphs,
        steps: Mapping[Variant, Call],
        phase_schedule: PhaseSchedule,
        size: int,
        other: "CapturedSteps | None" = None,
    ):
        self.size, self._cadence = size, phase_schedule
        self._replays = {} if other is None else dict(other._replays)
        for launch in phase_schedule.launches_of(size):
            if launch not in self._replays:
                self._replays[launch] = graphs.record(_one_after_another([steps[variant] for variant in launch]))

    def run(self, first: int, num: int) -> None:
        """The steps first to first + num - 1."""
        for launch in self._cadence.launches(first, num, self.size):
            self._replays[launch]()

    def replay(self, launch: Launch) -> None:
        """One launch, whatever is due."""
        self._replays[launch]()


def best_size(candidates: list[CapturedSteps], phase_schedule: PhaseSchedule, synchronize: Call) -> CapturedSteps:
    """The candidate with the most steps in a launch that is no slower than the fastest and can be
    stopped in time.

    candidates: smallest first. Fewer launches leave the host its time, also where the device is
    busy all the while.
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
    """Medians over rounds in which the candidates take turns, by size."""
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
