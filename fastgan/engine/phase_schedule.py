"""The phases of a step, and the grouping of steps into launches.

A phase is compiled as one graph: D's update, G's, both together, a penalty with an update of its
own. Not every phase is due in every step: G may be updated once for five updates of D, a penalty be
computed every 16 steps (lazy regularisation: Karras et al., 2020, arXiv 1912.04958, appendix B).
The due phases depend on the number of the step alone, so a resumed run continues the same phase
schedule, and every launch is known beforehand.
"""
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

Variant = tuple[str, ...]  # the phases that are due in a step, in their order
Launch = tuple[Variant, ...]  # steps that are launched together


class Interval(NamedTuple):
    """Steps in which a phase is due: those with step number modulo `every` in `at`."""

    every: int = 1
    at: tuple[int, ...] = (0,)


class PhaseSchedule:
    """The due phases of every step, by an interval for each phase.

    intervals: phase -> interval, in the order of the phases within a step. intro: (number of steps,
    their intervals) of a beginning with other intervals; these steps are launched one by one.
    """

    def __init__(self, intervals: Mapping[str, Interval], intro: tuple[int, Mapping[str, Interval]] = (0, {})):
        self.intervals, (self.intro_steps, self.intro_intervals) = dict(intervals), intro
        for every, at in [*self.intervals.values(), *self.intro_intervals.values()]:
            assert all(0 <= place < every for place in at), "a phase is due within its period"
            assert every >= 1, "a period is a number of steps"

    def due(self, step: int) -> Variant:
        """Return the phases of step number `step`."""
        return _due(self.intro_intervals if step < self.intro_steps else self.intervals, step)

    def variants(self) -> list[Variant]:
        """Return every variant that occurs, in the order of its first step."""
        intro = (
            _due(self.intro_intervals, step) for step in range(min(self.intro_steps, _period(self.intro_intervals)))
        )
        return list(dict.fromkeys([*intro, *(_due(self.intervals, step) for step in range(self.period))]))

    def count(self, first: int, num: int) -> Counter[str]:
        """Count the occurrences of each phase in the steps first to first + num - 1."""
        return Counter(phase for step in range(first, first + num) for phase in self.due(step))

    def launches(self, first: int, num: int, size: int) -> Iterator[Launch]:
        """Yield the steps first to first + num - 1 as launches of `size` steps and single steps.

        Single steps are used where no launch fits. If the period and `size` have different factors,
        launches begin only at steps from which on the same phases are due as from a multiple of
        `size`.
        """
        step, end, grid = first, first + num, math.gcd(size, self.period)
        while step < end:
            length = size if step % grid == 0 and step >= self.intro_steps and step + size <= end else 1
            yield tuple(map(self.due, range(step, step + length)))
            step += length

    def at_once(self, first: int, most: int, size: int) -> int:
        """Return a number of steps from `first` on, at most `most`, up to the start of a launch."""
        grid = math.gcd(size, self.period)
        if first < self.intro_steps:
            return min(most, self.intro_steps - first, size)
        return min(most, size if first % grid == 0 else grid - first % grid)

    def launches_of(self, size: int) -> list[Launch]:
        """Return all launches that `launches` can yield: single steps, then `size` steps."""
        after_intro = math.ceil(self.intro_steps / self.period) * self.period
        together = self.launches(after_intro, math.lcm(self.period, size), size)
        return list(dict.fromkeys([*((variant,) for variant in self.variants()), *together]))

    @property
    def period(self) -> int:
        """Number of steps after which the phase schedule repeats."""
        return _period(self.intervals)


def _due(intervals: Mapping[str, Interval], step: int) -> Variant:
    return tuple(phase for phase, (every, at) in intervals.items() if step % every in at)


def _period(intervals: Mapping[str, Interval]) -> int:
    return math.lcm(1, *(interval.every for interval in intervals.values()))
