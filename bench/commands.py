"""The commands of bench, called with their options."""
import argparse
import dataclasses
import functools
import json
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

from fastgan.errors import UserError
from fastgan.processes import signals_received


def step(options: argparse.Namespace) -> None:
    """Measure the training step of a preset, show the rows and keep them."""
    from fastgan.bench.step_cases import make_case, with_autotune
    from fastgan.bench.timing import MIN_ROUNDS

    rounds = _enough(options.rounds, MIN_ROUNDS)
    cases = [make_case(name, options.batch_size, options.resolution, options.channels) for name in options.preset]
    cases = [with_autotune(case) for case in cases] if options.autotune else cases

    from rich.console import Console  # what follows is slow to import, and a mistake should be answered at once

    from fastgan.bench import json_lines, step_report
    from fastgan.bench.step import measure_step
    from fastgan.bench.step_rows import STEP_RESULTS
    from fastgan.files import write_text

    say = _measuring()
    path = _kept_in(options.save, STEP_RESULTS, say)
    all_rows = []
    for case in cases:
        rows = measure_step(case, options.dtype, options.only, rounds, options.seconds, say=say)
        step_report.show(rows, Console())
        all_rows += rows
        if path:
            json_lines.append_rows(path, rows)
    if options.json:
        write_text(options.json, json.dumps([dataclasses.asdict(row) for row in all_rows], indent=1) + "\n")


def _measuring() -> Callable[[str], None]:
    """Return what prints lines about the progress, to stderr.

    The first line, before any number, says so where the native library is not measured.
    """
    from rich.console import Console

    from fastgan.bench.machine import lacks_library

    say = functools.partial(Console(stderr=True, highlight=False, soft_wrap=True).print, markup=False)
    if lacks_library():
        say(lacks_library())
    return say


def _kept_in(save: Path | bool | None, default: Path, say: Callable[[str], None]) -> Path | None:
    """Return the file that --save asks for, and say which it is; None without --save."""
    path = default if save is True else save
    if path:
        say(f"the rows are kept in {path.absolute()}")
    return path


def _enough(rounds: int | None, least: int) -> int:
    """Return the number of rounds, the least one where none was given. Raises UserError."""
    if rounds is not None and rounds < least:
        raise UserError(f"--rounds {rounds} is too few for a median with quartiles: give at least {least}")
    return rounds or least


def ops(options: argparse.Namespace) -> None:
    """Measure every implementation of every call, show the rows and keep them."""
    from fastgan.bench import json_lines
    from fastgan.bench.ops.measure_ops import measure_ops
    from fastgan.bench.ops.op_rows import OPS_RESULTS, op_table

    say = _measuring()
    path = _kept_in(options.save, OPS_RESULTS, say)
    keep = functools.partial(json_lines.append_rows, path) if path else lambda rows: None
    rows = measure_ops(options.op, options.batch_size, options.dtype, options.rounds, say, keep)
    print(op_table([dataclasses.asdict(row) for row in rows]))


def gpu(options: argparse.Namespace) -> int:
    """Run the stages of a GPU machine, list them, or rehearse them."""
    from fastgan.bench.gpu import plan

    if options.minutes is not None and not options.minutes > 0:
        raise UserError(f"--minutes {options.minutes:g} leaves no time for anything: give more than 0")
    stages = plan.chosen(options.only, options.call)
    if not stages:
        raise UserError(f"--call {options.call} has none of the stages {', '.join(options.only)}")
    if options.plan:
        print(plan.describe_plan(stages, options.minutes or plan.MINUTES))
        return 0
    return _rehearse_gpu(options, stages) if options.rehearse else _run_gpu(options, stages)


def _run_gpu(options: argparse.Namespace, stages: tuple) -> int:
    import torch

    if not torch.cuda.is_available():
        raise UserError("no NVIDIA GPU was found, and everything that this command measures needs one (--plan says "
                        "what it would run, --rehearse runs it on a CPU)")  # fmt: skip
    from fastgan.bench.gpu import call, plan
    from fastgan.bench.gpu.runner import Runner, exit_code

    limits, out = call.limits(), (options.out or call.default_out()).resolve()
    with signals_received() as received:
        runner = Runner(
            out,
            options.minutes or plan.MINUTES,
            received,
            limits,
            environment=call.environment(limits.slots, options.cache),
        )
        outcomes = runner.run(stages)
    return exit_code(outcomes, received)


def _rehearse_gpu(options: argparse.Namespace, stages: tuple) -> int:
    from fastgan.bench.gpu import call, rehearse
    from fastgan.bench.gpu.runner import Runner, exit_code

    out = (options.out or call.default_out(is_rehearsal=True)).resolve()
    call.refuse_results(out)
    print(rehearse.HEAD)
    print(rehearse.left_out(stages) or "all of the stages are rehearsed")
    with signals_received() as received, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = call.environment(rehearse.LIMITS.slots, options.cache or Path(folder)) | rehearse.environment()
        runner = Runner(out, options.minutes or rehearse.MINUTES, received, rehearse.LIMITS, environment=environment,
                        head=rehearse.HEAD, through=rehearse.THROUGH)  # fmt: skip
        outcomes = runner.run(rehearse.stages(stages))
    expected = [outcome for outcome in outcomes if outcome.stage != rehearse.PROVOKED]  # it fails, and is meant to
    return exit_code(expected, received)


def loader(options: argparse.Namespace) -> None:
    """Measure sources, feeds and steps with feeds; show the rows and keep them."""
    from fastgan.bench.timing import MIN_ROUNDS

    rounds = _enough(options.rounds, MIN_ROUNDS)

    from fastgan.bench import json_lines
    from fastgan.bench.loader.loader_plan import Plan
    from fastgan.bench.loader.loader_rows import LOADER_RESULTS, loader_table
    from fastgan.bench.loader.measure_loader import measure_loader

    say = _measuring()
    path = _kept_in(options.save, LOADER_RESULTS, say)
    rows = measure_loader(
        options.only,
        options.preset,
        options.compile,
        Plan(rounds=rounds, autotune=options.autotune),
        say,
    )
    print(loader_table([dataclasses.asdict(row) for row in rows]))
    if path:
        json_lines.append_rows(path, rows)


def quality(options: argparse.Namespace) -> int:
    """Train, measure, show and keep the rows; or write the page of the kept rows."""
    from fastgan.bench.quality import training_cases

    if (options.table or options.compare_plain) and (options.preset or options.data):
        raise UserError("--table and --compare-plain choose their own presets and data: leave --preset and --data out")
    # A mistake is answered before torch is loaded.
    cases = (
        [training_cases.with_asked(training_cases.COMPARED, options.seeds, options.kimg, options.set)]
        if options.compare_plain
        else training_cases.chosen(options.preset, options.data, options.seeds, options.kimg, options.set)
    )

    from fastgan.bench.quality import page, run_trainings
    from fastgan.bench.quality.quality_rows import QUALITY_RESULTS

    if options.table:
        page.write(QUALITY_RESULTS)
        return 0
    say = _measuring()
    path = _kept_in(options.save, QUALITY_RESULTS, say)
    trainings = run_trainings.beside_plain if options.compare_plain else run_trainings.by_fastgan
    return trainings(cases, path, say)


def cuda_code(options: argparse.Namespace) -> int:
    """Generate the CUDA code of presets; show its launches, keep the rows, compare them.

    Returns 1 where some code could not be generated.
    """
    from fastgan.bench.cuda_code import code_cases
    from fastgan.bench.cuda_code.code_rows import CUDA_CODE_RESULTS, code_table, compare_code, read_json
    from fastgan.bench.cuda_code.described_gpu import check_this_torch

    check_this_torch()
    before = read_json(options.compare) if options.compare else None
    chosen = (
        code_cases.family()
        if options.family
        else [
            code_cases.make_code_case(name, options.batch_size, options.resolution, options.augment, options.cond)
            for name in options.preset
        ]
    )
    chosen = [code_cases.with_combo_kernels(case) for case in chosen] if options.combo else chosen

    from rich.console import Console

    from fastgan.bench import json_lines
    from fastgan.bench.cuda_code.generate import Settings, code_rows_of
    from fastgan.files import write_text

    implementations = _implementations(options.ops)
    settings = Settings(implementations, cuda_code_command(options), not options.no_machine_code, options.keep)
    say = Console(stderr=True, highlight=False).print
    path = _kept_in(options.save, CUDA_CODE_RESULTS, say)
    rows = []
    for case in chosen:
        of_case = list(code_rows_of(case, settings, say))
        if path:
            json_lines.append_rows(path, of_case)
        rows += [dataclasses.asdict(row) for row in of_case]
        if options.json:
            write_text(options.json, json.dumps(rows, indent=1) + "\n")
    print(compare_code(rows, before) if before else code_table(rows))
    return int(any(row["problem"] for row in rows))


def cuda_code_command(options: argparse.Namespace) -> str:
    """Return the command that generates the same code again.

    Files and folders are left out, for they mean nothing elsewhere.
    """
    words = ["--family"] if options.family else ["--preset", *options.preset]
    for name in ("batch_size", "resolution"):
        value = getattr(options, name)
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    words += [] if options.augment == "none" else ["--augment", options.augment]
    words += [f"--{name.replace('_', '-')}" for name in ("cond", "combo", "no_machine_code") if getattr(options, name)]
    words += ["--ops", *options.ops] if options.ops else []
    return shlex.join(["fastgan", "bench", "cuda-code", *words])


def _implementations(assignments: list[str]) -> dict[str, str]:
    """Parse the options op=implementation into a dict of implementations by operator."""
    from fastgan.ops.dispatch.registry import OPS

    chosen = dict(assignment.partition("=")[::2] for assignment in assignments)
    for op, implementation in chosen.items():
        if implementation not in ("reference", *OPS.get(op, ())):
            raise UserError(f"--ops {op}={implementation}: there is no such operator or no such implementation of it")
    return chosen


def table(options: argparse.Namespace) -> None:
    """Print a results file as Markdown; draw the rows of steps."""
    from fastgan.bench import json_lines, speed_plot, step_rows
    from fastgan.bench.cuda_code import code_rows
    from fastgan.bench.loader import loader_rows
    from fastgan.bench.ops import op_rows
    from fastgan.bench.quality import page, quality_rows

    kinds = {
        op_rows.OPS_RESULTS.name: (op_rows.op_table, op_rows.OpRow),
        code_rows.CUDA_CODE_RESULTS.name: (code_rows.code_table, code_rows.CodeRow),
        loader_rows.LOADER_RESULTS.name: (loader_rows.loader_table, loader_rows.LoaderRow),
        quality_rows.QUALITY_RESULTS.name: (page.quality_table, quality_rows.QualityRow),
    }
    table_of, kind = kinds.get(options.file.name, (step_rows.step_table, step_rows.StepRow))
    rows = json_lines.read_rows(options.file, kind)
    print(table_of(rows))
    if options.plot:
        speed_plot.plot(rows, options.plot)
