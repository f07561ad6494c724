"""The errors that end a run without being a bug.

They are a user's mistake, a disk that refuses, and a training that diverges.
"""


class UserError(ValueError):
    """A mistake that the user can correct (exit code 2).

    The message is one sentence that names the thing and the remedy.
    """


class DiskError(OSError):
    """A file could not be written: full, read-only or forbidden.

    Files written before are intact (exit code 1).
    """


class DivergedError(ArithmeticError):
    """A loss or weight became NaN or infinite; the last good snapshot is intact (exit code 1)."""


def first_line(error: BaseException) -> str:
    """Return `Type: message` of an error, or its type alone, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
