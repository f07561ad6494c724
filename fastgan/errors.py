"""The ways a run can end that are nobody's bug: a user's mistake, a disk that refuses, a training
that diverges.
"""


class UserError(ValueError):
    """Something the user can mend: one sentence that names the thing and the remedy (exit code 2)."""


class DiskError(OSError):
    """A file could not be written: full, read-only or forbidden.

    What was written before is intact (exit code 1).
    """


class DivergedError(ArithmeticError):
    """A loss or weight became NaN or infinite; the last good snapshot is intact (exit code 1)."""
