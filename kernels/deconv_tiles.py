"""Tiles of the Triton kernels of the deconvolution, by kind of product.

The default is computed from the counts alone: no GPU has measured it yet. `use` replaces it where
another tile was measured to be faster.
"""

from typing import NamedTuple

import torch
import triton

NARROW = 4  # big channels up to which all four parities of a pixel fit into the 16 columns that a tile has at least
FLAT = (
    15  # big channels up to which the 16 taps are one run of 16K channels: padded to 16 each they would be mostly zeros
)
# Programs that fill a GPU: the multiprocessors of an H100 or H200 (an A100 has 108, a B200 148).
# The same everywhere, for equal sums.
PROGRAMS = 132
DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
KERNELS = {"up": 4, "up_narrow": 1, "down": 1, "down_flat": 1, "weight": 1, "weight_flat": 1}  # products a call
MOST_SHARED_BYTES = 227 * 1024  # of a block, on sm_90 and sm_100
MOST_SUMS = 128  # registers of a thread that its sums may take: half of all


class Kind(NamedTuple):
    """The properties of a product that determine its tile.

    The product is rows x columns of a result, each a sum of `summed` products.
    """

    kernel: str  # of KERNELS
    dtype: str  # of DTYPE_BYTES
    precision: str  # of float32 products: ieee | tf32
    rows: int
    columns: int
    summed: int


class Tile(NamedTuple):
    """Size and schedule of the work of a program.

    `depth` of the sum is computed in a step, with `num_stages` steps in flight.
    """

    rows: int
    columns: int
    depth: int
    num_warps: int
    num_stages: int


_used: dict[Kind, Tile] = {}


def kind_of(direction: str, small: torch.Size, big: torch.Size, dtype: torch.dtype) -> Kind:
    """Return the kind of a call.

    direction: up | down | weight; small [N, C, h, w], big [N, K, H, W].
    """
    (N, C, h, w), (K, H, W) = small, big[1:]
    like = str(dtype).removeprefix("torch."), _precision(dtype)
    if direction == "up":
        rows = N * ((H + 1) // 2) * ((W + 1) // 2)  # pixels of a parity
        return Kind("up_narrow", *like, rows, 4 * K, C) if K <= NARROW else Kind("up", *like, rows, K, C)
    suffix, window = ("_flat", 16 * K) if K <= FLAT else ("", K)
    if direction == "down":
        return Kind(f"down{suffix}", *like, N * h * w, C, window)
    return Kind(f"weight{suffix}", *like, C, window, N * h * w)


def tile_of(kind: Kind) -> Tile:
    """Return the tile that a call of this kind runs with."""
    return _used.get(kind) or default_tile(kind)


def default_tile(kind: Kind) -> Tile:
    """Return the largest tile that gives the GPU enough programs: it reads the least memory.

    `weight` splits its sum instead.
    """
    widest, columns = _widest(kind), min(_power_of_2(kind.columns), _widest(kind))
    if kind.kernel.startswith("weight"):
        return _tile(kind, min(_power_of_2(kind.rows), widest), columns)
    for tile_rows, tile_columns in ((128, 128), (128, 64), (64, 64)):
        size = min(tile_rows, widest), min(tile_columns, columns)
        if KERNELS[kind.kernel] * triton.cdiv(kind.rows, size[0]) * triton.cdiv(kind.columns, size[1]) >= PROGRAMS:
            break
    return _tile(kind, *size)


def tiles_to_try(kind: Kind) -> list[Tile]:
    """Return the tiles that are worth timing, the default first."""
    tiles, columns = [default_tile(kind)], min(_power_of_2(kind.columns), _widest(kind))
    for size in ((128, 128), (128, 64), (64, 128), (64, 64)):
        first = _tile(kind, min(size[0], _widest(kind)), min(size[1], columns))
        others = [first._replace(num_warps=12 - first.num_warps)]
        if kind.kernel != "up_narrow":
            others += [first._replace(num_stages=stages) for stages in (2, 4)]
        tiles += [tile for tile in (first, *others) if problem_of(kind, tile) is None]
    return list(dict.fromkeys(tiles))


def use(kind: Kind, tile: Tile) -> str | None:
    """Run calls of this kind with this tile from now on; return None, or the reason why not.

    Nothing changes where the calls cannot run with it.
    """
    problem = problem_of(kind, tile)
    if problem is None:
        _used[kind] = tile
    return problem


def forget() -> None:
    """Run every call with its default from now on."""
    _used.clear()


def problem_of(kind: Kind, tile: Tile) -> str | None:
    """Return the reason why a kernel cannot compute such a tile, or None.

    With None the kernel gives the right result.
    """
    if kind.kernel not in KERNELS or kind.dtype not in DTYPE_BYTES or kind.precision not in ("ieee", "tf32"):
        return "there is no such kind of call"
    sizes_exist = all(16 <= size <= 256 and size & (size - 1) == 0 for size in tile[:3])
    if not sizes_exist or tile.num_warps not in (4, 8) or not 1 <= tile.num_stages <= 5:
        return "no kernel has this tile"
    if tile.rows * tile.columns > MOST_SUMS * 32 * tile.num_warps:
        return "its sums take more registers than there are"
    operands = 9 if kind.kernel == "up_narrow" else 1
    shared = tile.num_stages * operands * (tile.rows + tile.columns) * tile.depth * DTYPE_BYTES[kind.dtype]
    if tile.num_stages > 1 and kind.precision != "ieee" and shared > MOST_SHARED_BYTES:  # else they lie in registers
        return "its operands take more shared memory than there is"
    return None


def launch_options(kind: Kind, tile: Tile) -> dict[str, int | str]:
    """Return the launch options of a tile."""
    return {
        "ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": tile.depth, "PRECISION": kind.precision,
        "num_warps": tile.num_warps, "num_stages": tile.num_stages,
    }  # fmt: skip


def _tile(kind: Kind, rows: int, columns: int) -> Tile:
    # Three stages of the largest fill 96 KB of shared memory: every GPU since sm_80 has 99.
    deepest = 16 if kind.dtype == "float32" and kind.precision == "ieee" else 128 // DTYPE_BYTES[kind.dtype]
    depth = next((d for d in (64, 32) if d <= deepest and kind.summed % d == 0), min(deepest, _power_of_2(kind.summed)))
    # The loop over nine operands is unrolled: three stages would hold 27 in shared memory, and four
    # warps spill the float32 ones.
    if kind.kernel == "up_narrow":
        return Tile(rows, columns, depth, 8, 1)
    return Tile(rows, columns, depth, 8 if rows * columns > 128 * 64 else 4, 3)


def _widest(kind: Kind) -> int:
    # Without matrix instructions the sums of a tile and all operands of a step lie in registers.
    return 64 if kind.precision == "ieee" else 128


def _power_of_2(size: int) -> int:
    # At least 16: the least that a matrix instruction takes.
    return max(triton.next_power_of_2(size), 16)


def _precision(dtype: torch.dtype) -> str:
    # Read at each launch: a program may set it at any time. It does not affect 16-bit products.
    exact = dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision != "tf32"
    return "ieee" if exact else "tf32"
