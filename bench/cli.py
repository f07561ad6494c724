"""The command line of bench: `fastgan bench COMMAND`, in a checkout also `python -m bench COMMAND`.

`step --preset NAME ...` measures a training step, `ops` the fused operators, `loader` the data;
`table FILE` prints kept rows. `quality` trains the presets and measures what they learn.
`cuda-code` generates and counts CUDA code without a GPU.

`gpu` runs all of it, and the tests that need one, on a machine with an NVIDIA GPU.
"""
import argparse
import os
import sys
from pathlib import Path

from fastgan.bench import commands
from fastgan.bench.names import LOADER_KINDS, LOADER_PRESETS, NAMES, OPS, SINGLE, UNFUSED
from fastgan.bench.places import CHECKOUT
from fastgan.errors import DiskError, UserError

HOME = "bench/results/" if CHECKOUT else "./"  # where rows are kept, in words (places.py)
PAGE = "docs/family.md" if CHECKOUT else "./family.md"


def main(arguments: list[str] | None = None, prog: str = "fastgan bench") -> int:
    """Run one command and return its exit code.

    0: done. 1: a file could not be written, or nobody reads the output any more. 2: an error that
    the user can correct. 130: interrupted.

    prog: how the user started it.
    """
    options = _parser(prog).parse_args(arguments)
    try:
        exit_code = options.run(options) or 0
        sys.stdout.flush()  # a pipe that nobody reads any more is noticed here, not at the exit of the interpreter
        return exit_code
    except (UserError, DiskError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog, description="Measures fastgan beside the loops that people run today.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_step(
        subparsers.add_parser(
            "step", help="the training step of a preset: two baselines and the rungs of fastgan, interleaved"
        )
    )
    _add_ops(
        subparsers.add_parser(
            "ops", help="the fused operators: every implementation of every call of the presets, interleaved"
        )
    )
    _add_loader(
        subparsers.add_parser(
            "loader", help="sources and feeds beside torch's DataLoader, and what a training step waits for its data"
        )
    )
    _add_quality(
        subparsers.add_parser(
            "quality", help="what the presets learn: trainings from fixed seeds, with metrics over seconds and images"
        )
    )
    _add_gpu(
        subparsers.add_parser(
            "gpu", help="everything that a machine with an NVIDIA GPU can show, in less than nine minutes"
        )
    )
    _add_cuda_code(
        subparsers.add_parser(
            "cuda-code", help="the CUDA code of a preset, without a GPU: launches, bytes, registers, spills"
        )
    )
    show = subparsers.add_parser("table", help="the rows of a results file as a Markdown table")
    show.add_argument("file", type=Path, metavar="FILE", help=f"JSON lines, such as {HOME}step.jsonl")
    show.add_argument("--plot", type=Path, metavar="PNG", help="draw rows of steps, relative to the plain loop")
    show.set_defaults(run=commands.table)
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
    parser.set_defaults(run=commands.step)


def _add_ops(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--op", nargs="+", choices=OPS, default=OPS, metavar="NAME", help=f"some of: {', '.join(OPS)}")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="default 64")
    parser.add_argument(
        "--dtype", nargs="+", choices=("fp32", "bf16", "fp16"), default=["bf16", "fp32"], help="default: bf16 fp32"
    )
    parser.add_argument("--rounds", type=int, default=9, metavar="M", help="default 9")
    _add_save(parser, "ops.jsonl")
    parser.set_defaults(run=commands.ops)


def _add_gpu(parser: argparse.ArgumentParser) -> None:
    from fastgan.bench.gpu.plan import CALLS, MINUTES, NAMES

    parser.add_argument(
        "--minutes", type=float, metavar="M", help=f"then what still runs is ended; default {MINUTES:g}"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help=f"for rows, log, table and evidence; default {HOME}gpu-DATE-TIME",
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
    parser.set_defaults(run=commands.gpu)


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
    parser.add_argument("--cond", action="store_true", help="with classes")
    parser.add_argument("--combo", action="store_true", help="with run.combo_kernels: small kernels share a launch")
    parser.add_argument(
        "--ops",
        nargs="+",
        default=[],
        metavar="OP=IMPLEMENTATION",
        help="an operator in another implementation than assumed, such as deconv=cuda",
    )
    parser.add_argument("--no-machine-code", action="store_true", help="generate and count alone: a third of the time")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the generated code there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as a JSON list")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="print each phase beside the rows of such a file")
    _add_save(parser, "cuda_code.jsonl")
    parser.set_defaults(run=commands.cuda_code)


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
    parser.set_defaults(run=commands.loader)


def _add_quality(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset", nargs="+", default=(), metavar="NAME", help="default: all that the plan of the suite names"
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
        help=f"train nothing: write {PAGE} of the rows in {HOME}quality.jsonl",
    )
    _add_save(parser, "quality.jsonl")
    parser.set_defaults(run=commands.quality)


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
        help=f"append the rows to FILE, by default {HOME}{name}",
    )
