"""Markdown tables of rows, one for every machine and commit, and how numbers are written."""
from collections.abc import Callable, Sequence

from fastgan.bench.machine import describe

# Below every table with ratios. A round times everything once, so what slows it down slows both numbers down
RATIOS = "the median of the ratios within a round, quartiles in brackets"


def stamped_tables(
    rows: list[dict],
    columns_of: Callable[[list[dict]], Sequence[str]],
    cells: Callable[[dict], list[str]],
    num_texts: int,
    explained: str,
) -> str:
    """Return a Markdown table for every machine and commit, oldest first, with its commands.

    The commands are below the table.

    columns_of: the heads of a table of some rows. cells: the texts of a row, at least as many.
    num_texts: columns of words; the others are numbers. explained: the ratios, in words.
    """
    tables = []
    for stamp in dict.fromkeys(map(machine_and_commit, rows)):
        of_stamp = [row for row in rows if machine_and_commit(row) == stamp]
        columns = columns_of(of_stamp)
        lines = [
            stamp,
            "",
            "| " + " | ".join(columns) + " |",
            "|" + " - |" * num_texts + " -: |" * (len(columns) - num_texts),
        ]
        lines += ["| " + " | ".join(cells(row)[: len(columns)]) + " |" for row in of_stamp]
        lines += ["", explained, "", *dict.fromkeys(f"    {row['command']}" for row in of_stamp)]
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def significant(value: float | None) -> str:
    """Format three significant digits, thousands set apart; nothing for None."""
    if value is None:
        return ""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def with_quartiles(value: float | None, quartiles: tuple[float, float] | None) -> str:
    """Format `1.23 (1.2–1.25)`; nothing for None."""
    return "" if value is None else f"{significant(value)} ({significant(quartiles[0])}–{significant(quartiles[1])})"


def machine_and_commit(row: dict) -> str:
    """Return the machine and the code of a row in one line."""
    return f"{describe(row['machine'])}; commit {row['commit'] or 'none'}"
