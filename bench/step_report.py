"""Terminal report of a measurement."""
import dataclasses

from rich.console import Console
from rich.table import Table

from fastgan.bench.machine import describe
from fastgan.bench.step_rows import EXPLAINED, StepRow, cells, shown_columns, step_table, subject
from fastgan.bench.tables import significant, with_quartiles


def show(rows: list[StepRow], console: Console) -> None:
    """Print a table for a person, Markdown for a file or a pipe; then notes and a comparison."""
    facts = [dataclasses.asdict(row) for row in rows]
    if console.is_terminal:
        _plainly(
            console,
            f"{subject(facts[0])}, {significant(rows[0].gflop_per_image * 1e3)} MFLOP an image; "
            f"{describe(rows[0].machine)}",
        )
        console.print(_table(facts))
        _plainly(console, EXPLAINED)
    else:
        _plainly(console, step_table(facts))
    for note in dict.fromkeys(row.note for row in rows if row.note):
        _plainly(
            console, f"{', '.join(f'{row.implementation} {row.dtype}' for row in rows if row.note == note)}: {note}"
        )
    _plainly(
        console,
        f"{comparison(rows)} Loading data is not part of the step; quartiles over {rows[0].rounds} rounds in brackets.",
    )


def comparison(rows: list[StepRow]) -> str:
    """Compare fastgan's fastest rung with both baselines in one sentence."""
    ours = [row for row in rows if row.implementation not in ("plain", "accelerated")]
    if not ours:
        return "No rung of fastgan was measured."
    best = max(ours, key=lambda row: row.imgs_per_sec)
    sentence = f"fastgan's fastest is {best.implementation} {best.dtype}: {significant(best.imgs_per_sec)} imgs/sec"
    if best.ratio_to_accelerated is not None:
        ratio = with_quartiles(best.ratio_to_accelerated, best.ratio_to_accelerated_quartiles)
        sentence += f", {ratio} times the accelerated loop in the same precision"
    if best.ratio_to_plain is not None:
        sentence += f", {with_quartiles(best.ratio_to_plain, best.ratio_to_plain_quartiles)} times the plain loop"
    return sentence + "."


def _table(facts: list[dict]) -> Table:
    columns = shown_columns(facts)
    table = Table(*columns[1:3])
    for column in columns[3:]:
        table.add_column(column, justify="right")
    for row in facts:
        table.add_row(*cells(row)[1 : len(columns)])
    return table


def _plainly(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
