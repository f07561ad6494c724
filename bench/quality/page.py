"""docs/family.md: the results of the presets, from the rows that were kept."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from fastgan.bench import json_lines
from fastgan.bench.machine import describe
from fastgan.bench.places import DOCS
from fastgan.bench.quality.bars import bar, end, reached
from fastgan.bench.quality.compare import p_better
from fastgan.bench.quality.curve_figures import save_curves
from fastgan.bench.quality.pictures import stem
from fastgan.bench.quality.quality_rows import COMPARE, QUALITY_RESULTS, QualityRow, latest
from fastgan.bench.tables import significant
from fastgan.files import write_text

PAGE = DOCS / "family.md"
HEAD = """# What the presets learn

`fastgan bench quality --save` trains each row from fixed seeds with fastgan's `Trainer`, compiled, in the \
precision that it chooses.
`fastgan bench quality --table` writes this page from [the rows](../bench/results/quality.jsonl).

- Seconds are those of training only; `ready after` is the time for compiling and checking before it. The machine is \
shared: compare presets by kimg rather than by seconds.
- Numbers are metrics of the untrained generator → metrics after training. For several seeds, they are medians, with \
minimum and maximum in brackets.
- Nothing was picked: the images are those of seed 0, and for repeated trainings the last one counts.
- `target` is the quality that a preset must reach; presets without one are shown for comparison.
"""
COLUMNS = ("preset", "data", "numbers", "target", "reached", "kimg", "seeds", "training s", "ready after s", "commit")


@dataclass(frozen=True)
class Group:
    """Rows that are measured alike.

    text: an introduction to the metric. metrics: those that have a picture of curves, with its
    file's name.
    """

    title: str
    text: str
    belongs: Callable[[dict], bool]
    curves: tuple[str, ...] = ()
    logarithmic: bool = False


GROUPS = (
    Group("A normal distribution", "10 000 samples compared with N(4, 1.25), whose skewness and excess kurtosis are 0.",
          lambda row: row["metric"] == "mean"),
    Group("Points in the plane",
          "10 000 samples. `modes`: modes with a sample within 3 standard deviations. `high_quality`: share of samples "
          "within 3 standard deviations of a mode (98.9 % of real samples). `kl`: KL(modes || uniform). The presets "
          "without `-gp` train the same networks with the non-saturating loss, to compare with WGAN-GP.",
          lambda row: row["metric"] == "modes", ("modes", "high_quality")),
    Group("Stacked digits",
          "Each image has three grey digits as its channels, which gives 1000 modes. `modes26k`: modes among 26 000 "
          "generated images, counted with a classifier.",
          lambda row: row["metric"].startswith("modes26k"), ("modes26k",)),
    Group("Classes",
          "`accuracy2k`: share of 2000 generated images that a classifier assigns to the requested class; `_worst`: "
          "that of the worst class. `fd_classifier_2k`: Frechet distance. Each row of the images is one class.",
          lambda row: row["metric"].startswith("accuracy"), ("accuracy2k",)),
    Group("Frechet distances",
          "Frechet distance between features of 2000 generated and 2000 real images. The features are those of a small "
          "classifier, not Inception: the numbers compare these generators with each other, not with papers.",
          lambda row: row["metric"].startswith("fd_"), ("fd_classifier_2k",), logarithmic=True),
)  # fmt: skip


def write(path: Path = QUALITY_RESULTS, page: Path = PAGE) -> None:
    """Write the page and the pictures of its curves, beside it in `family`.

    Raises UserError for a file that holds no such rows, DiskError.
    """
    rows = latest(json_lines.read_rows(path, QualityRow))
    compared = [row for row in rows if COMPARE in row["command"]]
    trained = [row for row in rows if COMPARE not in row["command"]]
    sections = (_section(group, [row for row in trained if group.belongs(row)], page) for group in GROUPS)
    parts = [HEAD, *sections, _beside_plain(compared), _stamps(rows)]
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, "\n".join(filter(None, parts)))


def _section(group: Group, rows: list[dict], page: Path) -> str:
    if not rows:
        return ""
    trainings = by_subject(rows)
    lines = [
        f"## {group.title}",
        "",
        group.text,
        "",
        *_table(COLUMNS, [cells(each) for each in trainings], num_texts=5),
        "",
    ]
    for metric in group.curves:
        with_metric = [row for row in rows if metric in row["numbers"]]
        if with_metric:
            save_curves(with_metric, metric, page.parent / page.stem / f"curves-{metric}.png", group.logarithmic)
            lines += [f"![{metric} over images and seconds]({page.stem}/curves-{metric}.png)", ""]
    return "\n".join([*lines, *(_pictures(each[0], page) for each in trainings)])


def quality_table(rows: Sequence[dict]) -> str:
    """Return all rows in one table, without pictures."""
    return "\n".join(_table(COLUMNS, [cells(each) for each in by_subject(latest(rows))], num_texts=5))


def by_subject(rows: Sequence[dict]) -> list[list[dict]]:
    """Group the seeds of each preset on each data set."""
    subjects: dict[tuple, list[dict]] = {}
    for row in rows:
        subjects.setdefault((row["preset"], row["data"], row["implementation"], str(row["changes"])), []).append(row)
    return list(subjects.values())


def cells(rows: Sequence[dict]) -> list[str]:
    """Return the seeds of a preset on a data set as the texts under COLUMNS."""
    first = rows[0]
    size = "" if first["resolution"] is None else f" {first['resolution']}x{first['resolution']}x{first['channels']}"
    loop = ["plain loop"] if first["implementation"] == "plain" else []
    what = ", ".join([f"`{first['preset']}`", *loop, *first["changes"]])
    numbers = (f"{name} {_spread(rows, name, 0)} → {_spread(rows, name, -1)}" for name in first["numbers"])
    asked = bar(first)
    return [
        what,
        first["data"] + size,
        "<br>".join(numbers) + ("<br>**diverged**" if any("diverged" in row["note"] for row in rows) else ""),
        asked.text if asked else "",
        reached(rows),
        significant(first["nimg"][-1] / 1000),
        str(len(rows)),
        significant(median(row["train_s"][-1] for row in rows)),
        significant(max(row["build_s"] for row in rows)),
        ", ".join(dict.fromkeys(row["commit"] or "none" for row in rows)),
    ]


def _spread(rows: Sequence[dict], name: str, point: int) -> str:
    values = [row["numbers"][name][point] for row in rows if row["numbers"][name][point] is not None]
    if not values:
        return "none"
    middle = significant(median(values))
    return (
        middle
        if len(values) == 1 or point == 0
        else f"{middle} ({significant(min(values))} to {significant(max(values))})"
    )


def _pictures(row: dict, page: Path) -> str:
    """Return the pictures of a row that are there, each under its title."""
    kinds = {"": "", "-moments": ": moments over time",
             "-mixing": ": coarse styles of the left column, fine styles of the top row",
             "-truncation": ": truncation, from 0 (top row) to none (bottom row)"}  # fmt: skip
    found = [
        (stem(row) + suffix, text)
        for suffix, text in kinds.items()
        if (page.parent / page.stem / f"{stem(row)}{suffix}.png").exists()
    ]
    return "".join(
        f"`{row['preset']}` on {row['data']}{text}\n\n![{name}]({page.stem}/{name}.png)\n\n" for name, text in found
    )


def _beside_plain(rows: list[dict]) -> str:
    """Return the comparison with the plain loop; nothing where it was not made."""
    by_loop = {name: [row for row in rows if row["implementation"] == name] for name in ("fastgan", "plain")}
    if not all(by_loop.values()):
        return ""
    metric, first = rows[0]["metric"], rows[0]
    ends = {name: [end(row) for row in of_loop] for name, of_loop in by_loop.items()}
    p = p_better(ends["fastgan"], ends["plain"])
    table = [
        [
            f"{name} {of_loop[0]['dtype']} {of_loop[0]['rung']}",
            ", ".join(map(significant, sorted(ends[name]))),
            significant(median(ends[name])),
            significant(median([row["train_s"][-1] for row in of_loop])),
        ]
        for name, of_loop in by_loop.items()
    ]
    return "\n".join([
        "## Compared with the loop of the tutorials", "",
        f"`{first['preset']}` on {first['data']}, {first['resolution']}x{first['resolution']}, batch "
        f"{first['batch_size']}, after "
        f"{first['nimg'][-1] / 1000:g} kimg. For each seed, both loops trained in turn: fastgan with the preset's "
        "moving average of G, and bench/peers/plain.py, without one, with the same networks, data and optimisers. "
        "Both G were measured in evaluation mode.", "",
        *_table(("loop", f"{metric} by seed", "median", "training s"), table, num_texts=2), "",
        f"One-sided exact Mann-Whitney test that fastgan's distances are lower: p = {p:.2g}.", "",
    ])  # fmt: skip


def _stamps(rows: Sequence[dict]) -> str:
    """Return the machines and code of the rows, and the commands that repeat them."""
    stamps = dict.fromkeys(f"- {describe(row['machine'])}; commit {row['commit'] or 'none'}" for row in rows)
    commands = dict.fromkeys(f"    {row['command']}" for row in rows)
    return "\n".join(["## Machines and commands", "", *stamps, "", *commands, ""])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], num_texts: int) -> list[str]:
    rule = "|" + " - |" * num_texts + " -: |" * (len(columns) - num_texts)
    return ["| " + " | ".join(columns) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)]
