"""The command line: parses, builds a Config, calls one function.

`fastgan train | eval | sample | pack | info | bench`.
"""
import argparse
import contextlib
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import NoReturn

from fastgan import __version__
from fastgan.config import LENGTHS, OPTIONS, Config, override, presets, replace, value_of, without_length
from fastgan.config.option import Option
from fastgan.config.overrides import in_words, kind_of
from fastgan.config.reference import describe_options, describe_recipe
from fastgan.config.schema import LENGTH, RUN, SPEED, WHAT
from fastgan.config.validation import validate
from fastgan.errors import DiskError, DivergedError, UserError
from fastgan.files import cache_folder
from fastgan.processes import signals_received

EXIT_FAILED, EXIT_USER = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for a disk that refuses or a training that
    diverged, 2 for what the user can mend.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["bench"]:
        return bench(arguments[1:])
    # a second run starts from what the first one compiled
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    try:
        options = _parser().parse_args(arguments)
        exit_code = options.run(options)
        sys.stdout.flush()  # a pipe that nobody reads any more is noticed here, not at the exit of the interpreter
        return exit_code
    except (UserError, DiskError, DivergedError) as error:
        print(f"fastgan: {error}", file=sys.stderr)
        return EXIT_USER if isinstance(error, UserError) else EXIT_FAILED
    except KeyboardInterrupt:
        print("fastgan: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output (head, less) went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


# --- fastgan train ----------------------------------------------------------------------------------------------------


def train(options: argparse.Namespace) -> int:
    """Build the configuration, make or reopen the run folder, and run the loop until it is done or
    told to stop.
    """
    if options.list_presets:
        print("\n".join(f"{name:18}{describe_recipe(config)}" for name, config in presets.PRESETS.items()))
        return 0
    config = configuration(options)
    if options.dry_run:
        return _show_what_would_run(config)
    from fastgan.run.folder import next_run_folder
    from fastgan.trainer import Trainer

    resumed = options.resume is not None
    folder = Path(options.resume if resumed else options.out or next_run_folder(Path("runs"), run_name(config)))
    trainer = Trainer.from_config(config, out=folder, resume=resumed)
    with _stopping_on_signals(trainer) as received:
        trainer.fit()
    if received:
        print(f"stopped; continue with:  fastgan train --resume {shlex.quote(str(folder))}")
        return 128 + received[0]
    print(f"done: {folder}")
    return 0


def _show_what_would_run(config: Config) -> int:
    """Print the options that the networks use, as the data complete them, each as --set takes it,
    with its help.
    """
    from fastgan.trainer import completed

    print("\n".join(describe_options(completed(config)[0])))
    return 0


def configuration(options: argparse.Namespace) -> Config:
    """The preset (or the resumed run's options), then --set, then the flags that were given; each
    later one wins.
    """
    if options.resume is not None:
        from fastgan.run.folder import read_options

        if options.out or options.preset:
            raise UserError("--resume reads all options from its run folder: leave out --out and --preset")
        config = read_options(Path(options.resume))
    else:
        config = presets.preset(options.preset or "dcgan")
    for assignment in options.set:
        config = override(config, assignment)
    if any(getattr(options, key) is not None for key in LENGTHS):
        config = without_length(config)
    for key, option in OPTIONS.items():
        if option.flag and getattr(options, key) is not None:
            config = replace(config, key, getattr(options, key))
    if config.model.architecture == "custom":
        raise UserError(
            "this run trains your own networks: continue it from Python, with fastgan.Trainer(G, D, data, "
            "out=FOLDER, resume=True)"
        )
    return validate(config)


def run_name(config: Config) -> str:
    """PRESET-DATA, where a path is called by its last part."""
    return f"{config.preset}-{Path(config.data.source).expanduser().resolve().name}"


def _stopping_on_signals(trainer) -> contextlib.AbstractContextManager[list[int]]:
    """Ctrl-C and SIGTERM ask the trainer to save and stop; a second one ends at once.

    Gives the list of signals received.
    """
    def react(received: list[int]) -> None:
        if len(received) > 1:
            sys.exit(128 + received[-1])
        trainer.request_stop()
    return signals_received(react)


# --- fastgan pack -----------------------------------------------------------------------------------------------------


def pack(options: argparse.Namespace) -> int:
    """Decode a set of images into one file, or check such a file."""
    if options.verify is not None:
        return _verify(options)
    if options.out is None:
        raise UserError(
            "pack needs the images and the output file: fastgan pack SRC OUT, or fastgan pack --verify FILE"
        )
    import time

    from fastgan.data.packing.pack import default_decoder
    from fastgan.data.packing.pack import pack as pack_images
    from fastgan.data.sources.opening import open_source

    started, source = time.perf_counter(), open_source(options.source, options.range)
    decoder, decode = options.decoder or default_decoder(source), None
    if decoder == "dali":
        from fastgan.data.dali.decoder import in_dali  # here: it loads torch

        decode = in_dali(num_threads=options.workers)
        print("decoding with DALI (--decoder pillow decodes with Pillow)")
    packed = pack_images(
        source,
        options.out,
        img_resolution=options.resolution,
        img_channels=options.channels,
        skip_bad=options.skip_bad,
        num_workers=options.workers,
        progress=True,
        decode=decode,
        decoder=decoder,
    )
    seconds = time.perf_counter() - started
    num_images, height, width, channels = packed.shape
    num_done = num_images + len(packed.skipped) - packed.num_resumed
    print(
        f"wrote {num_images} images of {height}x{width}x{channels} to {options.out} in {seconds:.1f} s, "
        f"{num_done / seconds:.0f} images/s"
    )
    print("".join(f"{note}\n" for note in source.notes(channels)), end="")
    if packed.skipped:
        print("\n".join([f"skipped {len(packed.skipped)} files:", *packed.skipped]))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from fastgan.data.sources.packed_file import PackedSource

    if options.source is not None:
        raise UserError(f"--verify checks one file and packs nothing: leave out {options.source}")
    source = PackedSource(Path(options.verify))
    source.verify(progress=True)
    print(f"{options.verify} is intact: {source.num_images} images")
    return 0


# --- fastgan sample, eval, info, bench --------------------------------------------------------------------------------


def sample(options: argparse.Namespace) -> int:
    """Write a grid of images from a snapshot."""
    from fastgan.run import snapshots

    if options.num < 1:
        raise UserError(f"--num is {options.num}; it must be above 0")
    _check_seed(options.seed)
    print(
        snapshots.write_samples(
            Path(options.snapshot),
            Path(options.out),
            options.num,
            options.seed,
            options.class_number,
            options.truncation,
        )
    )
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Print how good the images of a snapshot are."""
    from fastgan import evaluation

    _check_seed(options.seed)
    if options.batch_size < 1:
        raise UserError(f"--batch-size is {options.batch_size}; it must be above 0")
    result = evaluation.evaluate_snapshot(
        Path(options.snapshot),
        options.metrics,
        options.data,
        options.features,
        options.device,
        options.batch_size,
        options.seed,
    )
    print(result.to_json() if options.json else result.describe())
    return 0


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed is {seed}; it must be at least 0 and below {2**32}")


def show_info(options: argparse.Namespace) -> int:
    """Say what this machine offers and what is missing."""
    import json

    from fastgan import info

    facts, describe = (info.collect_ops(), info.describe_ops) if options.ops else (info.collect(), info.describe)
    print(json.dumps(facts, indent=2) if options.json else describe(facts))
    return 0


def bench(arguments: list[str]) -> int:
    """Measure fastgan beside other loops; bench has a parser of its own, loaded here alone."""
    from fastgan.bench.cli import main as run_bench

    return run_bench(arguments, prog="fastgan bench")


# --- the parser -------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the page of usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("fastgan", description="A compiled, measured training engine for generative adversarial networks.")
    parser.add_argument("--version", action="version", version=f"fastgan {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(
        commands.add_parser(
            "train", help="train a GAN", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_TRAIN_EXAMPLES
        )
    )
    _add_pack(
        commands.add_parser(
            "pack", help="decode images once, into one file that training maps into memory"
        )
    )
    command = commands.add_parser("sample", help="write a grid of images from a snapshot")
    command.add_argument(
        "snapshot", metavar="SNAPSHOT", help="a network-snapshot-*.safetensors, or a run folder (its newest one)"
    )
    command.add_argument(
        "--out", default="samples.png", metavar="PNG", help="the picture to write (default: samples.png)"
    )
    command.add_argument("-n", "--num", type=int, default=64, metavar="N", help="images in the grid (default: 64)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of z (default: 0)")
    command.add_argument(
        "--class",
        dest="class_number",
        metavar="C",
        help="one class of a conditional G, by number or name (default: one class per row)",
    )
    command.add_argument(
        "--truncation",
        type=float,
        metavar="PSI",
        help="truncation: from 1 (none, the default) to 0 (no variety)",
    )
    command.set_defaults(run=sample)
    _add_eval(
        commands.add_parser(
            "eval",
            help="measure a snapshot: FID and its relatives, modes, class accuracy",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=_EVAL_EXAMPLES,
        )
    )
    command = commands.add_parser("info", help="what this machine offers, and what is missing")
    command.add_argument(
        "--ops",
        action="store_true",
        help="the fused operators: measured times and chosen implementations",
    )
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=show_info)
    commands.add_parser("bench", help="measure fastgan on this machine, beside the loops that people run today")
    return parser


_TRAIN_EXAMPLES = """examples:
  fastgan train --amp --compile                          DCGAN on the embedded Fashion-MNIST images
  fastgan train --data photos/ --resolution 64 --kimg 500
  fastgan train --preset mlp --data mnist
  fastgan train --resume runs/00000-dcgan-fashion-mnist-10k
"""


def _add_train(command: argparse.ArgumentParser) -> None:
    groups = {heading: command.add_argument_group(heading) for heading in (WHAT, LENGTH, SPEED, RUN)}
    names = ", ".join(presets.PRESETS)
    groups[WHAT].add_argument("--preset", metavar="NAME", help=f"recipe: {names} (default: dcgan)")
    for key, option in OPTIONS.items():
        if option.flag:
            _add_flag(groups[option.group], key, option)
    run = groups[RUN]
    run.add_argument("--out", metavar="FOLDER", help="the run folder (default: runs/NNNNN-PRESET-DATA)")
    run.add_argument(
        "--resume",
        metavar="FOLDER",
        help="continue an interrupted run, bit by bit (on a GPU only if it is deterministic); with --kimg, extend it",
    )
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any option by its name in docs/options.md, for example model.ngf=32",
    )
    run.add_argument("--dry-run", action="store_true", help="print all options of the run, and exit")
    run.add_argument("--list-presets", action="store_true", help="print all presets, one per line, and exit")
    command.set_defaults(run=train)


def _add_flag(group: argparse._ArgumentGroup, key: str, option: Option) -> None:
    """Add the flag of the option `section.name`; its value is None where it was left out."""
    kind, _ = kind_of(key)
    text = f"{option.help}{_default_in_words(key)}"
    if kind is bool:
        group.add_argument(option.flag, dest=key, action=argparse.BooleanOptionalAction, help=text)
    else:
        choices = tuple(choice for choice in option.choices if choice is not None) or None
        group.add_argument(option.flag, dest=key, type=kind, choices=choices, metavar=option.metavar, help=text)


def _default_in_words(key: str) -> str:
    """` (default: ...)`, or nothing where the help says what happens without a value."""
    values = {value_of(config, key) for config in presets.PRESETS.values()}
    if key in LENGTHS or values == {None}:
        return ""
    if len(values) > 1:
        return " (default: the preset's)"
    (value,) = values
    return f" (default: {in_words(value)})" if value != "" else " (default: none)"


_EVAL_EXAMPLES = """examples:
  fastgan eval runs/00000-dcgan-fashion-mnist-10k --metrics fid5k --features classifier
  fastgan eval runs/00001-cgan-mnist --metrics accuracy5k
  fastgan eval network-snapshot-000200.safetensors --data photos/ --metrics fid50k_full,kid5k,pr5k,dc5k --json

metrics, each with the number of images to generate:
  fid        Frechet distance of features (fid50k_full: beside all real images, as papers have it)
  kid        kernel distance, unbiased for few images
  pr, dc     precision and recall; density and coverage
  accuracy   share of the images of a conditional G that show the class asked for
  modes      modes of stacked-mnist that are reached, of 1000
inception and efficientnet_lite0 take the published weights from $FASTGAN_FEATURES, or NAME=PATH;
classifier is trained on the labels of the data.
"""


def _add_eval(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "snapshot", metavar="SNAPSHOT", help="a network-snapshot-*.safetensors, or a run folder (its newest one)"
    )
    command.add_argument(
        "--data",
        metavar="NAME|PATH",
        help="the real images, as --data of fastgan train (default: those it was trained on)",
    )
    command.add_argument(
        "--metrics", default="fid5k,kid5k,pr5k,dc5k", metavar="LIST", help="separated by commas (default: %(default)s)"
    )
    command.add_argument("--features", default="inception", metavar="NAME[=PATH]",
                         help="the network that computes the features: inception, efficientnet_lite0, classifier "
                              "(default: inception)")  # fmt: skip
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 (default: cuda if available)")
    command.add_argument("--batch-size", type=int, default=64, metavar="N", help="images at a time (default: 64)")
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of z and of the classes asked for (default: 0)"
    )
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=evaluate)


def _low_high(text: str) -> tuple[float, float]:
    low, high = map(float, text.split(","))
    if not low < high:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOW,HIGH with LOW below HIGH")
    return low, high


def _add_pack(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", nargs="?", metavar="SRC", help="the images, as --data of fastgan train")
    command.add_argument(
        "out",
        nargs="?",
        metavar="OUT",
        help="the output file; an interrupted run keeps its progress beside it, and the next one resumes from there",
    )
    command.add_argument(
        "--resolution",
        type=int,
        metavar="PIXELS",
        help="side of the images (default: the shorter side of the first one)",
    )
    command.add_argument("--channels", type=int, choices=(1, 3, 4),
                         help="grey, colour or colour with alpha (default: as the first image)")  # fmt: skip
    command.add_argument(
        "--range",
        type=_low_high,
        metavar="LOW,HIGH",
        help="the values that become 0 and 255 where they are no bytes (default: by the set)",
    )
    command.add_argument("--skip-bad", action="store_true", help="skip files that are not images, and list them")
    command.add_argument(
        "--workers", type=int, metavar="N", help="files decoded in parallel (default: the number of cores)"
    )
    command.add_argument(
        "--decoder",
        choices=("pillow", "dali"),
        help="decoder of image files (default: dali if there are a GPU and DALI)",
    )
    command.add_argument("--verify", metavar="FILE", help="verify all checksums of a packed file, and pack nothing")
    command.set_defaults(run=pack)
