"""An option: a dataclass field with its help, its allowed values, its architectures and its flag."""
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Bound(NamedTuple):
    """Allowed values of a number. words: completes "it must ..."."""

    words: str
    allows: Callable[[float], bool]


FINITE = Bound("be finite", math.isfinite)
ABOVE_0 = Bound("be above 0 and finite", lambda value: 0 < value < math.inf)
FROM_0 = Bound("be at least 0 and finite", lambda value: 0 <= value < math.inf)
FROM_0_BELOW_1 = Bound("be at least 0 and below 1", lambda value: 0 <= value < 1)
FROM_0_TO_1 = Bound("lie between 0 and 1", lambda value: 0 <= value <= 1)
ABOVE_0_TO_1 = Bound("be above 0 and at most 1", lambda value: 0 < value <= 1)
SEED = Bound(f"be at least 0 and below {2**32}", lambda value: 0 <= value < 2**32)


@dataclass(frozen=True)
class Option:
    """Everything that is known of an option beside its name, type and default.

    help: one sentence without a full stop, with the unit. bound: of a number; each of a tuple.
    choices: allowed values, empty = any. used_by: the architectures that read it, empty = all.
    flag: of `fastgan train`, "" = none; group: the heading of that flag in --help; metavar: what
    stands for its value there.
    """

    help: str
    bound: Bound | None = None
    choices: tuple = ()
    used_by: tuple[str, ...] = ()
    flag: str = ""
    group: str = ""
    metavar: str | None = None

    def problem(self, key: str, value) -> str | None:
        """Return why a value of the right type is not allowed, as a sentence, or None.

        None as a value is always allowed.
        """
        if self.choices and value not in self.choices:
            allowed = ", ".join(str(choice) for choice in self.choices if choice is not None)
            return f"{key} is {value!r}; it can be {allowed}"
        numbers = () if self.bound is None or value is None else value if isinstance(value, tuple) else (value,)
        if not all(self.bound.allows(number) for number in numbers):
            return f"{key} is {', '.join(map(str, numbers))}; it must {self.bound.words}"
        return None


def option(default, help: str, bound: Bound | None = None, **details):
    """Return a dataclass field with this default, whose metadata is an Option of the other
    arguments.
    """
    return dataclasses.field(default=default, metadata={"option": Option(help, bound, **details)})
