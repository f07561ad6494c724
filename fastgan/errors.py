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
