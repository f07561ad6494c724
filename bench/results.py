"""Rows of measurements: their columns, their files, and the tables of them."""
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.machine import describe
from fastgan.errors import DiskError, UserError

TUNED = " --autotune"  # in the command of such a row
STEP_RESULTS = Path(__file__).parent / "results" / "step.jsonl"


@dataclass(frozen=True)
class Row:
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


def append(path: Path, rows: Sequence) -> None:
    """Add rows, dataclasses, to a file of JSON lines. Raises DiskError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows))
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror}") from error


def read(path: Path, kind: type = Row) -> list[dict]:
    """Return the rows of a file of JSON lines, oldest first.

    kind: their class; columns with a default may lack.

    Raises UserError for a missing file or a line that is no such row.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return [_row(line, f"{path}, line {number}", kind) for number, line in enumerate(lines, 1) if line.strip()]


def _row(line: str, where: str, kind: type) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error.msg}") from None
    missing = {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if not (isinstance(row, dict) and field.name in row)
    }
    needed = sorted(name for name, default in missing.items() if default is dataclasses.MISSING)
    if needed:
        raise UserError(f"{where} is no row of bench: it lacks {', '.join(needed)}")
    return row | missing


def markdown_table(rows: list[dict]) -> str:
    """Return a Markdown table for every machine and commit.

    Of rows for the same measurement, it shows the latest.
    """
    latest = {(_stamp(row), _subject(row)): row for row in rows}
    return stamped_tables(list(latest.values()), shown_columns, cells, num_texts=3)


def stamped_tables(
    rows: list[dict],
    columns_of: Callable[[list[dict]], Sequence[str]],
    cells: Callable[[dict], list[str]],
    num_texts: int,
) -> str:
    """Return a Markdown table for every machine and commit, oldest first, with its commands.

    The commands are below the table.

    columns_of: the heads of a table of some rows. cells: the texts of a row, at least as many.
    num_texts: columns of words; the others are numbers.
    """
    tables = []
    for stamp in dict.fromkeys(map(_stamp, rows)):
        of_stamp = [row for row in rows if _stamp(row) == stamp]
        columns = columns_of(of_stamp)
        lines = [
            stamp,
            "",
            "| " + " | ".join(columns) + " |",
            "|" + " - |" * num_texts + " -: |" * (len(columns) - num_texts),
        ]
        lines += ["| " + " | ".join(cells(row)[: len(columns)]) + " |" for row in of_stamp]
        lines += ["", *dict.fromkeys(f"    {row['command']}" for row in of_stamp)]
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


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


def significant(value: float | None) -> str:
    """Format three significant digits, thousands set apart; nothing for None."""
    if value is None:
        return ""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def with_quartiles(value: float | None, quartiles: tuple[float, float] | None) -> str:
    """Format `1.23 (1.2–1.25)`; nothing for None."""
    return "" if value is None else f"{significant(value)} ({significant(quartiles[0])}–{significant(quartiles[1])})"


def _stamp(row: dict) -> str:
    return f"{describe(row['machine'])}; commit {row['commit'] or 'none'}"


def _subject(row: dict) -> tuple:
    return subject(row), row["implementation"], row["dtype"]
