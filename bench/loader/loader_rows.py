"""Rows of measured loaders: their columns, and the table of them."""
from dataclasses import dataclass

from fastgan.bench.places import RESULTS
from fastgan.bench.tables import RATIOS, significant, stamped_tables, with_quartiles

LOADER_RESULTS = RESULTS / "loader.jsonl"
COLUMNS = ("measured", "images", "imgs/sec", "x DataLoader", "stall %", "alone %")
EXPLAINED = (
    f"x DataLoader: times as fast as the fastest DataLoader, {RATIOS}; stall %: what a step waits for its data, alike"
)


@dataclass(frozen=True)
class LoaderRow:
    """One source that is read or packed, one feed, or one training step with a feed.

    Numbers are medians over the rounds.
    """

    # `read`: a source into memory | `pack`: into a packed file | `feed`: batches as floats in
    # [-1, 1] on the device | `step`: training steps
    kind: str
    name: str  # of the source or the feed
    rung: str  # eager | compiled: the normalisation of a feed's batches, or the training step; nothing for sources
    preset: str | None  # of the step
    dtype: str | None  # of the step's compute
    resolution: int
    channels: int
    batch_size: int | None
    num_images: int  # of the set
    imgs_per_sec: float
    imgs_per_sec_quartiles: tuple[float, float]
    # Of a feed: median over the rounds of the time of the fastest DataLoader over this one's within
    # a round
    ratio_to_dataloader: float | None
    ratio_to_dataloader_quartiles: tuple[float, float] | None
    # Of a step: 100 * (t - t on one constant batch) / t within a round, the median over the rounds
    stall_percent: float | None
    stall_percent_quartiles: tuple[float, float] | None
    # Of a step: 100 * the time of the feed's batch without a step / t; exact where a stall drowns
    # in the noise
    alone_percent: float | None
    rounds: int
    note: str
    command: str
    date: str
    commit: str | None
    torch: str
    machine: dict


def loader_table(rows: list[dict]) -> str:
    """Return a Markdown table for every machine and commit, oldest first."""
    return stamped_tables(rows, lambda _: COLUMNS, cells, num_texts=2, explained=EXPLAINED)


def cells(row: dict) -> list[str]:
    """Return a row as the texts under COLUMNS; quartiles in brackets."""
    batch = f" batch {row['batch_size']}" if row["batch_size"] else ""
    return [
        " ".join(filter(None, (row["kind"], row["preset"], row["dtype"], row["name"], row["rung"]))),
        f"{row['resolution']}x{row['resolution']}x{row['channels']}{batch}",
        with_quartiles(row["imgs_per_sec"], row["imgs_per_sec_quartiles"]),
        with_quartiles(row["ratio_to_dataloader"], row["ratio_to_dataloader_quartiles"]),
        with_quartiles(row["stall_percent"], row["stall_percent_quartiles"]),
        significant(row["alone_percent"]),
    ]
