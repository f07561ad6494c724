"""Rows of measured operators: their columns, and the table of them."""
from dataclasses import dataclass

from fastgan.bench.places import RESULTS
from fastgan.bench.tables import RATIOS, significant, stamped_tables, with_quartiles
from fastgan.ops.dispatch.timing import WALL_CLOCK

OPS_RESULTS = RESULTS / "ops.jsonl"
COLUMNS = ("call", "dtype", "implementation", "microseconds", "x reference", "GFLOP/s", "GB/s", "% of the limit")
EXPLAINED = f"x reference: times as fast as the reference, {RATIOS}"


@dataclass(frozen=True)
class OpRow:
    """One implementation of one kind of call. Numbers are medians over the rounds."""

    op: str
    call: str
    dtype: str
    implementation: str
    microseconds: float
    microseconds_quartiles: tuple[float, float]
    ratio_to_reference: float  # median over the rounds of the reference's time over this one's within a round
    ratio_to_reference_quartiles: tuple[float, float]
    gflops: float  # useful GFLOP per second
    gbytes_per_s: float  # of what must go in and out
    percent_of_limit: float  # 100 * the longer of flop / matmul_gflops and bytes / copy_gbytes_per_s, over the time
    matmul_gflops: float  # of a large matrix product in the same dtype, in the same rounds
    copy_gbytes_per_s: float  # read and written, of a copy of a large tensor, in the same rounds
    rounds: int
    note: str
    command: str
    date: str
    commit: str | None
    torch: str
    machine: dict
    # Timing method (fastgan/ops/dispatch/timing.py): wall clock, with the host's part on CUDA, in
    # older rows | graph replays | queue, and the reason
    timed: str = WALL_CLOCK


def op_table(rows: list[dict]) -> str:
    """Return a Markdown table for every machine and commit, oldest first."""
    return stamped_tables(rows, _shown_columns, cells, num_texts=3, explained=EXPLAINED)


def _shown_columns(rows: list[dict]) -> tuple[str, ...]:
    """Return the heads of a table of these rows.

    The timing method is shown only where it was not the wall clock.
    """
    return COLUMNS + ("timed by",) if any(row["timed"] != WALL_CLOCK for row in rows) else COLUMNS


def cells(row: dict) -> list[str]:
    """Return a row as the texts under COLUMNS, and its timing method; quartiles in brackets."""
    return [
        f"{row['op']} {row['call']}",
        row["dtype"],
        row["implementation"],
        with_quartiles(row["microseconds"], row["microseconds_quartiles"]),
        with_quartiles(row["ratio_to_reference"], row["ratio_to_reference_quartiles"]),
        significant(row["gflops"]),
        significant(row["gbytes_per_s"]),
        significant(row["percent_of_limit"]),
        row["timed"],
    ]
