"""Timing of every tile of every deconvolution of a step.

`python -m fastgan.bench.ops.deconv_tiles --rows FILE [--batch-size 128]`

Each tile takes its turn while a CUDA graph of the call is replayed. A tile that is faster than the
default beyond the noise is kept where fastgan looks for it (fastgan/ops/dispatch/tiles.py):
training on this chip uses it from its next start on. The call's own tensors stay in the L2 cache
from replay to replay, for all tiles alike.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from fastgan.bench import json_lines
from fastgan.bench.ops.deconv_cases import DCGAN_LAYERS, describe_layer, layer_tensors
from fastgan.bench.ops.op_cases import DTYPES
from fastgan.bench.timing import quartiles
from fastgan.device.precision import choose_precision
from fastgan.ops.deconv import implementations
from fastgan.ops.dispatch import registry, self_checks, tiles
from fastgan.ops.dispatch.tiles import Tiling

LAYERS = {"dcgan": DCGAN_LAYERS}  # of the presets whose steps are known here
ROUNDS, NUM_CALLS = 7, 20  # of each tile; calls a timing
GAIN = 1.01  # times as fast as the default in the lower quartile of the rounds: less is not worth another tile
SUM_ERROR = 1e-5  # of the largest result: two float32 sums of the same numbers in another order

Timer = Callable[
    [Callable[[], object], int, str], float
]  # (call, calls, device type) -> seconds a call: fastgan.ops.dispatch.timing.device_seconds


@dataclass(frozen=True)
class Call:
    """One call of one direction.

    runs: by implementation; each returns the result and changes nothing.
    """

    words: str
    direction: str  # up | down | weight
    flop: int  # useful ones
    small: torch.Tensor
    big: torch.Tensor
    runs: dict[str, Callable[[], torch.Tensor]]


def calls(preset: str, batch_size: int, dtype: torch.dtype, device: torch.device) -> Iterator[Call]:
    """Return the calls of the deconvolutions in a step of the preset, forward and backward."""
    for layer in LAYERS[preset]:
        small, big, weight = layer_tensors(layer, batch_size, dtype, device)
        runs = {
            "up": implementations.up_forms(small, weight, None, tuple(big.shape[2:]), "linear", 0.0),
            "down": implementations.down_forms(big, weight, None, "linear", 0.0),
            "weight": implementations.weight_forms(small, big),
        }
        for direction, of_direction in runs.items():
            yield Call(
                f"{direction} {describe_layer(layer, batch_size)}",
                direction,
                32 * small.numel() * big.shape[1],
                small,
                big,
                of_direction,
            )


def sweep_tiles(call: Call, tiling: Tiling, timer: Timer) -> list[dict]:
    """Return a row for every tile of a call, the default's first; keep a faster one for this chip.

    timer: as fastgan.ops.dispatch.timing.device_seconds. A tile that fails, or whose result is not
    that of the default, has a `problem` and no time. The kernels are left with the default.
    """
    kind, run, device_type = (
        tiling.kind(call.direction, call.small, call.big),
        call.runs[tiling.name],
        call.small.device.type,
    )
    every = tiling.tiles(kind)
    tiling.use(kind, every[0])
    expected = run()
    problems = {tile: _problem_of(tiling, kind, tile, run, expected) for tile in every}
    right = [tile for tile in every if problems[tile] is None]
    seconds = _timed(tiling, kind, right, run, timer, device_type)
    winner = _winner(every[0], seconds)
    if winner != every[0] or tiling.words(kind) in tiles.kept():
        tiles.keep(tiling, kind, winner)
    tiling.use(kind, every[0])
    return [
        _row(call, tiling, kind, tile, problems[tile], seconds, is_default=tile == every[0], is_winner=tile == winner)
        for tile in every
    ]


def _problem_of(tiling: Tiling, kind, tile, run: Callable[[], torch.Tensor], expected: torch.Tensor) -> str | None:
    """Return the reason why this tile cannot be timed, or None.

    It cannot run, or its result differs by more than the order of sums.
    """
    problem = tiling.use(kind, tile)
    if problem is not None:
        return problem
    try:
        error = (run().double() - expected.double()).abs().max().item()
    except Exception as failure:  # any error of a compiler or a launch: a reason to go without this tile
        return f"{type(failure).__name__}: {str(failure).strip()[:200]}"
    allowed = max(torch.finfo(expected.dtype).eps, SUM_ERROR) * expected.abs().max().item()
    return (
        None if error <= allowed else f"its result is off by {error:.2g}, where {allowed:.2g} are allowed"
    )  # a NaN is not <=


@torch.no_grad()
def _timed(
    tiling: Tiling, kind, right: list, run: Callable[[], object], timer: Timer, device_type: str
) -> dict[tuple, list[float]]:
    """Return the seconds a call of each tile, one number a round.

    The tiles run in an order that is rotated from round to round.
    """
    seconds: dict[tuple, list[float]] = {tile: [] for tile in right}
    if len(right) == 1:  # nothing to choose from
        return {right[0]: [timer(run, NUM_CALLS, device_type)]}
    for index in range(ROUNDS):
        start = index % max(1, len(right))
        for tile in right[start:] + right[:start]:
            tiling.use(kind, tile)
            seconds[tile].append(timer(run, NUM_CALLS, device_type))
    return seconds


def _winner(default: tuple, seconds: dict[tuple, list[float]]) -> tuple:
    """Return the tile of the smallest median where it is faster than the default, else the default.

    Faster means beyond the noise.
    """
    if default not in seconds:  # it gave another result the second time
        return default
    best = min(seconds, key=lambda tile: statistics.median(seconds[tile]))
    return best if quartiles(_ratios(default, best, seconds))[0] >= GAIN else default


def _ratios(default: tuple, tile: tuple, seconds: dict[tuple, list[float]]) -> list[float]:
    return [before / now for before, now in zip(seconds[default], seconds[tile], strict=True)]


def _row(
    call: Call, tiling: Tiling, kind, tile, problem: str | None, seconds: dict, is_default: bool, is_winner: bool
) -> dict:
    row = {
        "kind": "tile", "implementation": tiling.name, "call": call.words, "product": tiling.words(kind),
        "tile": list(tile), "problem": problem,
        "is_default": is_default, "is_winner": is_winner,
    }  # fmt: skip
    if tile not in seconds:
        return row
    low, median, high = quartiles(seconds[tile])
    row |= {
        "microseconds": 1e6 * median,
        "microseconds_quartiles": [1e6 * low, 1e6 * high],
        "tflops": call.flop / median / 1e12,
    }
    default = next(iter(seconds))
    slow, ratio, fast = quartiles(_ratios(default, tile, seconds))
    return row | {"ratio_to_default": ratio, "ratio_to_default_quartiles": [slow, fast], "rounds": len(seconds[tile])}


def available(names: list[str], path: Path) -> list[Tiling]:
    """Return the kernels of these implementations.

    An implementation that cannot be used here gets a row with the reason.
    """
    found = []
    for name in names:
        problem = self_checks.problem("deconv", name, "cuda")  # loads the library
        if problem is not None:
            json_lines.append_row(path, {"kind": "tile", "implementation": name, "problem": problem})
            print(f"{name}: {problem}", flush=True)
        elif name == "cuda":
            found.append(
                tiles.LibraryTiles(registry._load()[0], torch.cuda.get_device_properties().multi_processor_count)
            )
        else:
            from fastgan.kernels import deconv_tiles
            from fastgan.ops.deconv import triton  # noqa: F401  loads what was kept, now and not later

            found.append(tiles.TritonTiles(deconv_tiles))
    return found


def sweep_all(each_call: Iterator[Call], tilings: list[Tiling], timer: Timer, path: Path) -> list[dict]:
    """Sweep all calls with all these kernels and write each row at once.

    Afterwards the kernels use what was kept.
    """
    found = []
    for call in each_call:
        for tiling in tilings:
            of_call = sweep_tiles(call, tiling, timer)
            for row in of_call:
                json_lines.append_row(path, row)
            print(_say(call, tiling, of_call), flush=True)
            found += of_call
    for tiling in tilings:
        tiling.forget()
        tiles.load(tiling)
    return found


def _say(call: Call, tiling: Tiling, of_call: list[dict]) -> str:
    texts = [
        f"{row['tile']} {row['microseconds']:.1f}{'*' * row['is_winner']}"
        if row["problem"] is None
        else f"{row['tile']} -"
        for row in of_call
    ]
    return f"{tiling.name} {call.words}, us: {', '.join(texts)}"


def main(arguments: list[str] | None = None) -> int:
    """Run the sweep. Returns 0, or 2 where there is no GPU that the kernels run on."""
    parser = argparse.ArgumentParser("python -m fastgan.bench.ops.deconv_tiles")
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    parser.add_argument("--preset", choices=LAYERS, default="dcgan")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[128], metavar="N")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--implementations", nargs="+", choices=("cuda", "triton"), default=["cuda", "triton"])
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(f"bench: tiles are timed on a GPU, and {registry.NO_CUDA}", file=sys.stderr)
        return 2
    from fastgan.ops.dispatch.timing import device_seconds

    device = torch.device("cuda")
    choose_precision(True, device)  # TF32 where fp32 is meant, as in training
    tilings = available(options.implementations, options.rows)
    for batch_size in options.batch_size:
        sweep_all(
            calls(options.preset, batch_size, DTYPES[options.dtype], device), tilings, device_seconds, options.rows
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
