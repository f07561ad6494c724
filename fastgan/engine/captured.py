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
from typing import Protocol

from fastgan.engine.phase_schedule import Launch, PhaseSchedule, Variant

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
        self.size, self._cadence = size, phase_schedule
        self._replays = {} if other is None else dict(other._replays)
        for launch in phase_schedule.launches_of(size):
            if launch not in self._replays:
                self._replays[launch] = graphs.record(_one_after_another([steps[variant] for variant in launch]))

    def run(self, first: int, num: int) -> None:
        """Run the steps first to first + num - 1."""
        for launch in self._cadence.launches(first, num, self.size):
            self._replays[launch]()

    def replay(self, launch: Launch) -> None:
        """Replay one launch, whether or not it is due."""
        self._replays[launch]()


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
