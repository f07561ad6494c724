"""Sizes and times of the measurement, and the common columns of its rows."""
from dataclasses import dataclass

from fastgan.bench import timing
from fastgan.bench.timing import quartiles


@dataclass(frozen=True)
class Plan:
    """Sizes and times; tests take less of everything."""

    rounds: int = timing.MIN_ROUNDS  # at least
    num_images: int = 10_000  # of the set that feeds shuffle: the embedded one, whole
    num_packed: int = 12_000  # of the files that are packed
    num_read: int = 2_000  # of the files that sources read: a pass takes a fraction of a second
    round_s: float = timing.ROUND_S  # of one source or feed
    # Of a step with a feed that does nothing beside it: short, since the difference to look for is
    # tiny
    step_round_s: float = 0.05
    step_s: float = 20.0  # at least, in as many rounds as it takes
    autotune: bool = False  # True: the compiler times its kernels for a step on CUDA
    # Of a step beside which workers fetch ahead: long, so that what was fetched beforehand counts
    # for little
    busy_round_s: float = 1.5


def columns(
    kind: str,
    name: str,
    size: tuple[int, int, int | None],
    num_images: int,
    call_s: list[float],
    images_per_call: int,
    note: str,
) -> dict:
    """Return the columns that every row has; the others are there as None.

    size: (resolution, channels, batch size). call_s: seconds a call, by round.
    """
    q1, rate, q3 = quartiles([images_per_call / seconds for seconds in call_s])
    resolution, channels, batch_size = size
    return {
        "kind": kind,
        "name": name,
        "rung": "",
        "preset": None,
        "dtype": None,
        "resolution": resolution,
        "channels": channels,
        "batch_size": batch_size,
        "num_images": num_images,
        "imgs_per_sec": rate,
        "imgs_per_sec_quartiles": (q1, q3),
        "ratio_to_dataloader": None,
        "ratio_to_dataloader_quartiles": None,
        "stall_percent": None,
        "stall_percent_quartiles": None,
        "alone_percent": None,
        "rounds": len(call_s),
        "note": note,
    }
