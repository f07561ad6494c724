"""The command line of bench: `python -m bench COMMAND`.

`python -m bench step --preset NAME ...` measures a training step, `ops` the fused operators,
`loader` the data; `table FILE` prints kept rows. `quality` trains the presets and measures what
they learn. `cuda-code` generates and counts CUDA code without a GPU.

`gpu` runs all of it, and the tests that need one, on a machine with an NVIDIA GPU.
"""
import argparse
import dataclasses
import functools
import json
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import LOADER_KINDS, LOADER_PRESETS, NAMES, OPS, SINGLE, UNFUSED
from fastgan.errors import DiskError, UserError


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done. 1: a file could not be written. 2: an error that the user can correct. 130:
    interrupted.
    """
    options = _parser().parse_args(arguments)
    options.words = sys.argv[1:] if arguments is None else arguments
    try:
        return options.run(options) or 0
    except (UserError, DiskError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


def step(options: argparse.Namespace) -> None:
    """Measure the training step of a preset, show the rows and keep them."""
    from bench.cases import make_case, with_autotune
    from bench.timing import MIN_ROUNDS

    if options.rounds is not None and options.rounds < MIN_ROUNDS:
        raise UserError(f"--rounds {options.rounds} is too few for a median with quartiles: give at least {MIN_ROUNDS}")
    cases = [make_case(name, options.batch_size, options.resolution, options.channels) for name in options.preset]
    cases = [with_autotune(case) for case in cases] if options.autotune else cases

    from rich.console import Console  # what follows is slow to import, and a mistake should be answered at once

    from bench import report, results
    from bench.step import measure
    from fastgan.files import write_text

    say = Console(stderr=True, highlight=False).print
    _say_if_library_lacks(say)
    all_rows = []
    for case in cases:
        rows = measure(case, options.dtype, options.only, options.rounds or MIN_ROUNDS, options.seconds, say=say)
        report.show(rows, Console())
        all_rows += rows
        if options.save:
            results.append(results.STEP_RESULTS if options.save is True else options.save, rows)
    if options.json:
        write_text(options.json, json.dumps([dataclasses.asdict(row) for row in all_rows], indent=1) + "\n")


def _say_if_library_lacks(say: Callable[[str], None]) -> None:
    """Print it before any number, where the native library is not measured."""
    from bench.machine import lacks_library

    if lacks_library():
        say(lacks_library())


def ops(options: argparse.Namespace) -> None:
    """Measure every implementation of every call, show the rows and keep them."""
    from rich.console import Console

    from bench import results
    from bench.ops.measure import measure
    from bench.ops.rows import OPS_RESULTS, markdown_table

    say = Console(stderr=True, highlight=False).print
    _say_if_library_lacks(say)
    path = OPS_RESULTS if options.save is True else options.save
    keep = functools.partial(results.append, path) if path else lambda rows: None
    rows = measure(options.op, options.batch_size, options.dtype, options.rounds, say, keep)
    print(markdown_table([dataclasses.asdict(row) for row in rows]))


def gpu(options: argparse.Namespace) -> int:
    """Run the stages of a GPU machine, list them, or rehearse them."""
    from bench.gpu import plan

    if options.minutes is not None and not options.minutes > 0:
        raise UserError(f"--minutes {options.minutes:g} leaves no time for anything: give more than 0")
    stages = plan.chosen(options.only, options.call)
    if not stages:
        raise UserError(f"--call {options.call} has none of the stages {', '.join(options.only)}")
    if options.plan:
        print(plan.describe(stages, options.minutes or plan.MINUTES))
        return 0
    return _rehearse_gpu(options, stages) if options.rehearse else _run_gpu(options, stages)


def _run_gpu(options: argparse.Namespace, stages: tuple) -> int:
    import torch

    if not torch.cuda.is_available():
        raise UserError("no NVIDIA GPU was found, and everything that this command measures needs one (--plan says "
                        "what it would run, --rehearse runs it on a CPU)")  # fmt: skip
    from bench.gpu import call, plan
    from bench.gpu.run import Runner, exit_code

    limits, out = call.limits(), (options.out or call.default_out()).resolve()
    with call.signals_received() as received:
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
    from bench.gpu import call, rehearse
    from bench.gpu.run import Runner, exit_code

    out = (options.out or call.default_out(is_rehearsal=True)).resolve()
    call.refuse_results(out)
    print(rehearse.HEAD)
    print(rehearse.left_out(stages) or "all of the stages are rehearsed")
    with call.signals_received() as received, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = call.environment(rehearse.LIMITS.slots, options.cache or Path(folder)) | rehearse.environment()
        runner = Runner(out, options.minutes or rehearse.MINUTES, received, rehearse.LIMITS, environment=environment,
                        head=rehearse.HEAD, through=rehearse.THROUGH)  # fmt: skip
        outcomes = runner.run(rehearse.stages(stages))
    expected = [outcome for outcome in outcomes if outcome.stage != rehearse.PROVOKED]  # it fails, and is meant to
    return exit_code(expected, received)


def loader(options: argparse.Namespace) -> None:
    """Measure sources, feeds and steps with feeds; show the rows and keep them."""
    from bench.timing import MIN_ROUNDS

    if options.rounds is not None and options.rounds < MIN_ROUNDS:
        raise UserError(f"--rounds {options.rounds} is too few for a median with quartiles: give at least {MIN_ROUNDS}")

    from rich.console import Console

    from bench import results
    from bench.loader.measure import measure
    from bench.loader.plan import Plan
    from bench.loader.rows import LOADER_RESULTS, markdown_table

    say = Console(stderr=True, highlight=False).print
    _say_if_library_lacks(say)
    rows = measure(
        options.only,
        options.preset,
        options.compile,
        Plan(rounds=options.rounds or MIN_ROUNDS, autotune=options.autotune),
        say,
    )
    print(markdown_table([dataclasses.asdict(row) for row in rows]))
    if options.save:
        results.append(LOADER_RESULTS if options.save is True else options.save, rows)


def quality(options: argparse.Namespace) -> int:
    """Train, measure, show and keep the rows; or write the page of the kept rows."""
    from bench.quality import plan

    if (options.table or options.compare_plain) and (options.preset or options.data):
        raise UserError("--table and --compare-plain choose their own presets and data: leave --preset and --data out")
    # A mistake is answered before torch is loaded.
    cases = (
        [plan.with_asked(plan.COMPARED, options.seeds, options.kimg, options.set)]
        if options.compare_plain
        else plan.chosen(options.preset, options.data, options.seeds, options.kimg, options.set)
    )

    from rich.console import Console

    from bench.quality import page, run
    from bench.quality.rows import QUALITY_RESULTS

    if options.table:
        page.write(QUALITY_RESULTS)
        return 0
    path = QUALITY_RESULTS if options.save is True else options.save
    trainings = run.beside_plain if options.compare_plain else run.by_fastgan
    say = Console(stderr=True, highlight=False).print
    _say_if_library_lacks(say)
    return trainings(cases, path, say)


def cuda_code(options: argparse.Namespace) -> int:
    """Generate the CUDA code of presets; show its launches, keep the rows, compare them.

    Returns 1 where some code could not be generated.
    """
    from bench.cuda_code import cases
    from bench.cuda_code.described_gpu import check_this_torch
    from bench.cuda_code.rows import CUDA_CODE_RESULTS, compare, markdown_table, read_json

    check_this_torch()
    before = read_json(options.compare) if options.compare else None
    chosen = (
        cases.family()
        if options.family
        else [
            cases.make_case(name, options.batch_size, options.resolution, options.augment, options.cond)
            for name in options.preset
        ]
    )
    chosen = [cases.with_combo_kernels(case) for case in chosen] if options.combo else chosen

    from rich.console import Console

    from bench import results
    from bench.cuda_code.run import Settings, rows_of
    from fastgan.files import write_text

    settings = Settings(
        _forms(options.ops),
        shlex.join(["python", "-m", "bench", *options.words]),
        not options.no_machine_code,
        options.keep,
    )
    rows = []
    for case in chosen:
        of_case = list(rows_of(case, settings, Console(stderr=True, highlight=False).print))
        if options.save:
            results.append(CUDA_CODE_RESULTS if options.save is True else options.save, of_case)
        rows += [dataclasses.asdict(row) for row in of_case]
        if options.json:
            write_text(options.json, json.dumps(rows, indent=1) + "\n")
    print(compare(rows, before) if before else markdown_table(rows))
    return int(any(row["problem"] for row in rows))


def _forms(assignments: list[str]) -> dict[str, str]:
    """Parse the options op=implementation into a dict of implementations by operator."""
    from fastgan.ops.dispatch.registry import OPS

    forms = dict(assignment.partition("=")[::2] for assignment in assignments)
    for op, form in forms.items():
        if form not in ("reference", *OPS.get(op, ())):
            raise UserError(f"--ops {op}={form}: there is no such operator or no such implementation of it")
    return forms


def table(options: argparse.Namespace) -> None:
    """Print a results file as Markdown."""
    from bench import results, speed_plot
    from bench.cuda_code import rows as code_rows
    from bench.loader import rows as loader_rows
    from bench.ops import rows as op_rows
    from bench.quality import page
    from bench.quality import rows as quality_rows

    kinds = {
        op_rows.OPS_RESULTS.name: (op_rows.markdown_table, op_rows.OpRow),
        code_rows.CUDA_CODE_RESULTS.name: (code_rows.markdown_table, code_rows.CodeRow),
        loader_rows.LOADER_RESULTS.name: (loader_rows.markdown_table, loader_rows.LoaderRow),
        quality_rows.QUALITY_RESULTS.name: (page.markdown_table, quality_rows.QualityRow),
    }
    markdown_table, kind = kinds.get(options.file.name, (results.markdown_table, results.Row))
    rows = results.read(options.file, kind)
    print(markdown_table(rows))
    if options.plot:
        speed_plot.plot(rows, options.plot)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench", description="Measures fastgan beside the loops that people run today."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_step(
        commands.add_parser(
            "step", help="the training step of a preset: two baselines and the rungs of fastgan, interleaved"
        )
    )
    _add_ops(
        commands.add_parser(
            "ops", help="the fused operators: every implementation of every call of the presets, interleaved"
        )
    )
    _add_loader(
        commands.add_parser(
            "loader", help="sources and feeds beside torch's DataLoader, and what a training step waits for its data"
        )
    )
    _add_quality(
        commands.add_parser(
            "quality", help="what the presets learn: trainings from fixed seeds, with metrics over seconds and images"
        )
    )
    _add_gpu(
        commands.add_parser(
            "gpu", help="everything that a machine with an NVIDIA GPU can show, in less than nine minutes"
        )
    )
    _add_cuda_code(
        commands.add_parser(
            "cuda-code", help="the CUDA code of a preset, without a GPU: launches, bytes, registers, spills"
        )
    )
    show = commands.add_parser("table", help="the rows of a results file as a Markdown table")
    show.add_argument("file", type=Path, metavar="FILE", help="JSON lines, such as bench/results/step.jsonl")
    show.add_argument("--plot", type=Path, metavar="PNG", help="draw rows of steps, relative to the plain loop")
    show.set_defaults(run=table)
    return parser


def _add_step(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset", required=True, nargs="+", metavar="NAME", help="one or more, measured one after the other"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: the preset's own")
    parser.add_argument(
        "--resolution", type=int, metavar="R", help="pixels a side; default 28 for mlp, 64 for dcgan, 32 for the others"
    )
    parser.add_argument("--channels", type=int, metavar="C", help="1 or 3; default 1, for dcgan 3")
    _add_autotune(parser)
    parser.add_argument(
        "--dtype",
        choices=("both", "bf16", "fp32"),
        default="both",
        help="of all but plain, which is fp32; on CUDA fp32 uses TF32",
    )
    parser.add_argument("--rounds", type=int, metavar="M", help="default 7, which is the least")
    parser.add_argument("--seconds", type=float, default=0.0, metavar="S", help="go on with rounds for so long")
    parser.add_argument("--only", nargs="+", choices=(*NAMES, UNFUSED, SINGLE), default=NAMES, metavar="IMPLEMENTATION",
                        help=f"some of: {', '.join(NAMES)} (all by default), {UNFUSED}: no fused operator,"
                        f" and {SINGLE}: one step in a launch")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as a JSON list")
    _add_save(parser, "step.jsonl")
    parser.set_defaults(run=step)


def _add_ops(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--op", nargs="+", choices=OPS, default=OPS, metavar="NAME", help=f"some of: {', '.join(OPS)}")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="default 64")
    parser.add_argument(
        "--dtype", nargs="+", choices=("fp32", "bf16", "fp16"), default=["bf16", "fp32"], help="default: bf16 fp32"
    )
    parser.add_argument("--rounds", type=int, default=9, metavar="M", help="default 9")
    _add_save(parser, "ops.jsonl")
    parser.set_defaults(run=ops)


def _add_gpu(parser: argparse.ArgumentParser) -> None:
    from bench.gpu.plan import CALLS, MINUTES, NAMES

    parser.add_argument(
        "--minutes", type=float, metavar="M", help=f"then what still runs is ended; default {MINUTES:g}"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="for rows, log, table and evidence; default bench/results/gpu-DATE-TIME",
    )
    parser.add_argument(
        "--call",
        choices=CALLS,
        help="the stages of one of the three calls of a machine that is lent for ten minutes a command",
    )
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="STAGE", help=f"some of: {', '.join(NAMES)}")
    parser.add_argument("--cache", type=Path, metavar="FOLDER",
                        help="keep what is compiled and found out here, for the next run on the same machine;"
                        " compile times are then no measurement")  # fmt: skip
    parser.add_argument(
        "--plan", action="store_true", help="say what would run and how long it may take, and run nothing"
    )
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="run the same stages on a CPU, tiny and short: no number is a measurement",
    )
    parser.set_defaults(run=gpu)


def _add_cuda_code(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--preset", nargs="+", metavar="NAME", help="one or more")
    which.add_argument(
        "--family", action="store_true", help="every preset, with augmentation and classes: an hour or two"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: the preset's own")
    parser.add_argument("--resolution", type=int, metavar="R", help="pixels a side; default: by preset")
    parser.add_argument(
        "--augment", choices=("none", "diff", "ada"), default="none", help="what is done to images that D sees"
    )
    parser.add_argument("--cond", action="store_true", help="the conditional form")
    parser.add_argument("--combo", action="store_true", help="with run.combo_kernels: small kernels share a launch")
    parser.add_argument(
        "--ops",
        nargs="+",
        default=[],
        metavar="OP=FORM",
        help="an operator in another form than assumed, such as deconv=cuda",
    )
    parser.add_argument("--no-machine-code", action="store_true", help="generate and count alone: a third of the time")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the generated code there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as a JSON list")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="print each phase beside the rows of such a file")
    _add_save(parser, "cuda_code.jsonl")
    parser.set_defaults(run=cuda_code)


def _add_loader(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        nargs="+",
        choices=LOADER_KINDS,
        default=LOADER_KINDS,
        metavar="KIND",
        help=f"some of: {', '.join(LOADER_KINDS)}",
    )
    parser.add_argument("--preset", nargs="+", choices=LOADER_PRESETS, default=LOADER_PRESETS, metavar="NAME",
                        help=f"whose steps: some of {', '.join(LOADER_PRESETS)}")  # fmt: skip
    parser.add_argument(
        "--compile",
        action="store_true",
        help="the feeds' normalisation compiled as well, and compiled steps; else all is eager",
    )
    parser.add_argument("--rounds", type=int, metavar="M", help="default 7, which is the least")
    _add_autotune(parser)
    _add_save(parser, "loader.jsonl")
    parser.set_defaults(run=loader)


def _add_quality(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset", nargs="+", default=(), metavar="NAME", help="default: all that bench/quality/plan.py names"
    )
    parser.add_argument(
        "--data",
        metavar="SPEC",
        help="as fastgan train takes it, instead of the embedded set; stacked:SPEC counts modes",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="train from seeds 0 to N-1; default: the plan's")
    parser.add_argument("--kimg", type=float, metavar="X", help="thousands of images to train for; default: the plan's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another number than the preset's; noted in the rows",
    )
    parser.add_argument(
        "--compare-plain", action="store_true", help="dcgan-tiny by fastgan and by the loop of the tutorials, in turns"
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="train nothing: write docs/family.md of the rows in bench/results/quality.jsonl",
    )
    _add_save(parser, "quality.jsonl")
    parser.set_defaults(run=quality)


def _add_autotune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--autotune", action="store_true", help="CUDA: fastgan's compiler times its kernels, which takes minutes"
    )


def _add_save(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "--save",
        type=Path,
        nargs="?",
        const=True,
        metavar="FILE",
        help=f"append the rows to FILE, by default bench/results/{name}",
    )


if __name__ == "__main__":
    sys.exit(main())
