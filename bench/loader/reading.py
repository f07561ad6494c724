"""Sources of every kind, read whole into the uint8 array that training takes its batches from."""
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fastgan.bench import machine, timing
from fastgan.bench.loader.files import embedded_images, write_sources
from fastgan.bench.loader.loader_plan import Plan, columns
from fastgan.bench.tables import significant
from fastgan.data import open_source

SIZE = (64, 3)  # (resolution, channels) of the files


def measure_sources(folder: Path, plan: Plan, say: Callable[[str], None]) -> list[dict]:
    """Return the columns of every source.

    The files lie in the operating system's cache: this is the time of decoding, not that of a disk.
    """
    note = machine.busy_note()
    say(f"writing {plan.num_read} images of {SIZE[0]}x{SIZE[0]}x{SIZE[1]} in every kind of file")
    sources = {
        name: open_source(data) for name, data in write_sources(embedded_images(plan.num_read, *SIZE), folder).items()
    }
    sizes = {name: (source.native_resolution, source.native_channels) for name, source in sources.items()}
    calls = {name: partial(source.read, *sizes[name]) for name, source in sources.items()}
    call_s, _ = timing.interleave(calls, plan.rounds, round_s=plan.round_s)
    rows = []
    for name, source in sources.items():
        rows.append(
            columns("read", name, (*sizes[name], None), source.num_images, call_s[name], source.num_images, note)
        )
        say(f"read {name}: {significant(rows[-1]['imgs_per_sec'])} images/s")
    return rows
