"""Parts of a step that are due only now and then, and how steps are put together into launches.

A penalty may be computed every 16 steps instead of every step (lazy regularisation: Karras et al., 2020, arXiv 1912.04958, appendix B). Which parts
are due depends on the number of the step alone, so a resumed run goes on in the same rhythm, and every launch is known beforehand.
"""
import math
from collections import Counter
from collections.abc import Iterator, Mapping

Variant = tuple[str, ...]  # the names of the parts that are due in a step; () = none but the update itself
Launch = tuple[Variant, ...]  # steps that are launched together


class Cadence:
    """every: name of a part -> it is due in the steps 0, every, 2 * every, ..."""

    def __init__(self, every: Mapping[str, int] | None = None):
        self.every = dict(every or {})
        assert all(period >= 1 for period in self.every.values()), "a period is a number of steps"

    def due(self, step: int) -> Variant:
        """The variant of step number `step`."""
        return tuple(name for name, period in self.every.items() if step % period == 0)

    def variants(self) -> list[Variant]:
        """Every variant that occurs, in the order of its first step."""
        return list(dict.fromkeys(map(self.due, range(self.period))))

    def count(self, first: int, num: int) -> Counter[Variant]:
        """How often each variant occurs in the steps first to first + num - 1."""
        return Counter(map(self.due, range(first, first + num))) if self.every else Counter({(): num})

    def launches(self, first: int, num: int, size: int) -> Iterator[Launch]:
        """The steps first to first + num - 1 as launches of `size` steps, and of single steps where none fits.

        Where the rhythm has other parts than `size` does, launches begin only at steps from which on the same is due as from a multiple of `size`.
        """
        step, end, grid = first, first + num, math.gcd(size, self.period)
        while step < end:
            length = size if step % grid == 0 and step + size <= end else 1
            yield tuple(map(self.due, range(step, step + length)))
            step += length

    def at_once(self, first: int, most: int, size: int) -> int:
        """How many steps from `first` on, at most `most`, should be asked for so that the following ones begin where a launch may."""
        grid = math.gcd(size, self.period)
        return min(most, size if first % grid == 0 else grid - first % grid)

    def launches_of(self, size: int) -> list[Launch]:
        """Every launch that `launches` can give: the single steps first, then those of `size` steps."""
        together = self.launches(0, math.lcm(self.period, size), size)
        return list(dict.fromkeys([*((variant,) for variant in self.variants()), *together]))

    @property
    def period(self) -> int:
        """Steps until the rhythm begins anew."""
        return math.lcm(1, *self.every.values())
