"""Rows of measured training steps: their columns, and the table of them."""
from dataclasses import dataclass

from fastgan.bench.places import RESULTS
from fastgan.bench.tables import RATIOS, machine_and_commit, significant, stamped_tables, with_quartiles

TUNED = " --autotune"  # in the command of such a row
STEP_RESULTS = RESULTS / "step.jsonl"
COLUMNS = (
    "preset",
    "implementation",
    "dtype",
    "imgs/sec",
    "x plain",
    "x accelerated",
    "GFLOP/s",
    "% matmul",
    "compile s",
    "pays after",
)
COUNTED_COLUMNS = ("launches", "syncs", "peak MB")
EXPLAINED = f"x plain, x accelerated: times the imgs/sec of that loop, {RATIOS}"


@dataclass(frozen=True)
class StepRow:
    """The training step of one implementation.

    Rates are of images (samples, where the preset makes none) and medians over the rounds.
    """

    preset: str
    resolution: int | None  # None where the preset makes samples
    channels: int | None
    batch_size: int
    implementation: str  # plain | accelerated | eager | compiled
    dtype: str  # fp32 | tf32 | bf16
    imgs_per_sec: float
    imgs_per_sec_quartiles: tuple[float, float]
    spread: float  # distance of the quartiles over the median
    # Median over the rounds of the ratio within a round; None where plain was not measured
    ratio_to_plain: float | None
    ratio_to_plain_quartiles: tuple[float, float] | None
    ratio_to_accelerated: float | None  # the same, to the accelerated loop in the same precision
    ratio_to_accelerated_quartiles: tuple[float, float] | None
    gflop_per_image: float  # useful work of one update
    gflops: float  # useful GFLOP per second
    matmul_gflops: float  # of a large matrix product in the same dtype, in the same rounds
    percent_of_matmul: float
    compile_s: float  # from an empty cache; fastgan's with its check against eager
    # Compiling has paid against fastgan's eager rung; None = never, or nothing was compiled
    paid_after_images: int | None
    rounds: int
    steps_per_round: int
    note: str
    command: str
    date: str
    commit: str | None
    torch: str
    machine: dict
    steps_per_launch: int = 1  # of the captured rung
    # Launches of kernels and graphs by the host, a step; this and the following columns are None
    # without CUDA and in older rows
    kernel_launches: float | None = None
    host_syncs: float | None = None  # waits of the host for the device, a step
    # Memory of weights, optimisers, activations and the pools of CUDA graphs while training
    peak_memory_mb: float | None = None


def step_table(rows: list[dict]) -> str:
    """Return a Markdown table for every machine and commit.

    Of rows for the same measurement, it shows the latest.
    """
    latest = {(machine_and_commit(row), _subject(row)): row for row in rows}
    return stamped_tables(list(latest.values()), shown_columns, cells, num_texts=3, explained=EXPLAINED)


def shown_columns(rows: list[dict]) -> tuple[str, ...]:
    """Return the heads of a table of these rows.

    Those of counts on CUDA appear only where something was counted.
    """
    counted = any(row[key] is not None for row in rows for key in ("kernel_launches", "host_syncs", "peak_memory_mb"))
    return COLUMNS + COUNTED_COLUMNS if counted else COLUMNS


def cells(row: dict) -> list[str]:
    """Return a row as the texts under COLUMNS and COUNTED_COLUMNS; quartiles in brackets."""
    compiled = row["compile_s"] > 0
    return [
        subject(row),
        row["implementation"],
        row["dtype"],
        with_quartiles(row["imgs_per_sec"], row["imgs_per_sec_quartiles"]),
        with_quartiles(row["ratio_to_plain"], row["ratio_to_plain_quartiles"]),
        with_quartiles(row["ratio_to_accelerated"], row["ratio_to_accelerated_quartiles"]),
        significant(row["gflops"]),
        significant(row["percent_of_matmul"]),
        significant(row["compile_s"]) if compiled else "",
        ""
        if not compiled or row["implementation"] == "accelerated"
        else significant(row["paid_after_images"]) or "never",
        significant(row["kernel_launches"]),
        significant(row["host_syncs"]),
        significant(row["peak_memory_mb"]),
    ]


def subject(row: dict) -> str:
    """Return the trained case: `dcgan 64x64x3 batch 64`.

    `tuned` is added where the compiler timed its kernels.
    """
    size = "" if row["resolution"] is None else f" {row['resolution']}x{row['resolution']}x{row['channels']}"
    tuning = " tuned" if TUNED in row["command"] else ""
    return f"{row['preset']}{size} batch {row['batch_size']}{tuning}"


def _subject(row: dict) -> tuple:
    return subject(row), row["implementation"], row["dtype"]
