"""From a case to its rows: trace, generate, count, compile."""

import collections
import datetime
import importlib.metadata
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from fastgan.bench import machine
from fastgan.bench.cuda_code.code_cases import CodeCase
from fastgan.bench.cuda_code.code_reading import KINDS, LIBRARY_KINDS, Reading, read
from fastgan.bench.cuda_code.code_rows import CodeRow, modelled_us
from fastgan.bench.cuda_code.described_gpu import Code, cuda_graph_code
from fastgan.bench.cuda_code.machine_code import Usage, usage_of
from fastgan.bench.cuda_code.phases import ASSUMED, Traced, traced_phases
from fastgan.engine.compiled import compiler_options
from fastgan.files import write_text


@dataclass(frozen=True)
class Settings:
    """The options of the command: implementations, machine code, where the code is kept."""

    implementations: dict[str, str]  # of operators, beside those that are assumed
    command: str
    compiles: bool = True  # kernels become machine code
    keep: Path | None = None  # a folder for the code


def code_rows_of(case: CodeCase, settings: Settings, say: Callable[[str], None]) -> Iterator[CodeRow]:
    """Return a row for every phase of a case.

    The row of a phase whose code cannot be generated holds the reason.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's, of a device that is not there
        with traced_phases(case.config, settings.implementations) as phases:
            for phase in phases:
                yield _row(case, phase, settings, say)


def _row(case: CodeCase, phase: Traced, settings: Settings, say: Callable[[str], None]) -> CodeRow:
    reading, usage, problem = Reading([], [], {}), {}, None
    try:
        code = cuda_graph_code(
            phase.graph, phase.inputs, compiler_options("cuda", combo_kernels=case.config.run.combo_kernels)
        )
        reading = read(code.text, code.bytes_of)
        if settings.keep:
            _keep(settings.keep, case, phase, code)
        if settings.compiles:
            usage = _compiled(reading.kernels)
    except Exception as error:  # whatever the compiler cannot do is what this command is there to find
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        problem = f"{type(error).__name__}: {lines[0] if lines else ''}"
    row = _counted(case, phase.name, settings, reading, usage, problem)
    say(
        f"{row.preset} {row.words} {row.phase}: {problem or f'{row.triton_launches} + {row.library_launches} launches'}"
    )
    return row


def _compiled(kernels: dict[str, str]) -> dict[str, Usage]:
    with tempfile.TemporaryDirectory() as folder:
        return usage_of(kernels, Path(folder))


def _keep(folder: Path, case: CodeCase, phase: Traced, code: Code) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    words = "-".join([case.config.preset, *case.words.split(), str(case.config.run.batch_size), phase.name])
    write_text(folder / f"{words}.py", code.text)


def _counted(
    case: CodeCase, phase: str, settings: Settings, reading: Reading, usage: dict[str, Usage], problem: str | None
) -> CodeRow:
    launches, by_kind = collections.Counter(launch.kind for launch in reading.launches), collections.Counter()
    for launch in reading.launches:
        by_kind[launch.kind] += launch.bytes
    library = collections.Counter(kind for _, kind in reading.library)
    return CodeRow(
        preset=case.config.preset,
        phase=phase,
        batch_size=case.config.run.batch_size,
        resolution=case.config.model.img_resolution,
        words=case.words,
        triton_launches=len(reading.launches),
        library_launches=len(reading.library),
        triton_bytes=sum(by_kind.values()),
        spills=sum(each.spilled_bytes > 0 for each in usage.values()) if usage else None,
        modelled_us=round(modelled_us([launch.bytes for launch in reading.launches]), 1),
        launches_by_kind={kind: launches[kind] for kind in KINDS},
        bytes_by_kind={kind: by_kind[kind] for kind in KINDS},
        library_by_kind={kind: library[kind] for kind in LIBRARY_KINDS},
        kernels=len(reading.kernels),
        registers=max((each.registers for each in usage.values()), default=None),
        shared_bytes=max((each.shared_bytes for each in usage.values()), default=None),
        problem=problem,
        implementations=ASSUMED | settings.implementations,
        command=settings.command,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=machine.commit(),
        torch=torch.__version__,
        triton=importlib.metadata.version("triton"),
    )
