"""The parser of the command line: commands, flags from the options, help."""
import argparse
from typing import NoReturn

from fastgan import __version__
from fastgan.cli.commands import evaluate, pack, sample, show_info, train
from fastgan.config import LENGTHS, OPTIONS, presets, value_of
from fastgan.config.option import Option
from fastgan.config.overrides import in_words, kind_of
from fastgan.config.schema import LENGTH, RUN, SPEED, WHAT
from fastgan.errors import UserError


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the page of usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands; `run` of its result is the function of the command."""
    parser = _Parser("fastgan", description="A compiled, measured training engine for generative adversarial networks.")
    parser.add_argument("--version", action="version", version=f"fastgan {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(
        subparsers.add_parser(
            "train", help="train a GAN", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_TRAIN_EXAMPLES
        )
    )
    _add_pack(
        subparsers.add_parser(
            "pack", help="decode images once, into one file that training maps into memory"
        )
    )
    command = subparsers.add_parser("sample", help="write a grid of images from a snapshot")
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
        subparsers.add_parser(
            "eval",
            help="measure a snapshot: FID and its relatives, modes, class accuracy",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=_EVAL_EXAMPLES,
        )
    )
    command = subparsers.add_parser("info", help="what this machine offers, and what is missing")
    command.add_argument(
        "--ops",
        action="store_true",
        help="the fused operators: measured times and chosen implementations",
    )
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=show_info)
    subparsers.add_parser("bench", help="measure fastgan on this machine, beside the loops that people run today")
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
