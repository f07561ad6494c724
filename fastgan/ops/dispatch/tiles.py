"""Tiles of the deconvolution kernels that were measured to be faster than the default on this chip.

A tile is the part of its result that one block of a kernel computes, and the split of its sum.
csrc/deconv_plan.h and kernels/deconv_tiles.py choose one from the sizes alone. `python -m
fastgan.bench.ops.deconv_tiles` times the others and keeps the winners here for every later process
on the same chip: the CUDA kernels receive them when they first pass as available, the Triton
kernels when they are imported. Any tile gives the right result.
"""

import ctypes
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Protocol

import torch

from fastgan.ops.dispatch.cache import Findings

DIRECTIONS = ("up", "down", "weight")  # numbered as in csrc/deconv_plan.h, as are the ways
WAYS = ("tensor_cores", "gathered", "few_channels", "scalar")
DTYPES = ("float32", "float64", "float16", "bfloat16")  # numbered as in csrc/dtype.h
NO_KIND = "there is no such kind of call"


class Tiling(Protocol):
    """The kernels of an implementation, with a choice of tiles.

    Kinds and tiles are sequences that JSON can hold.
    """

    name: str  # of the implementation: cuda | triton

    def kind(self, direction: str, small: torch.Tensor, big: torch.Tensor) -> tuple:
        """Return the kind of a call: the properties that calls with one best tile share.

        small [N, C, h, w], big [N, K, H, W].
        """

    def words(self, kind: Sequence) -> str:
        """Return the kind as readable text, which is also the key of its tile."""

    def tiles(self, kind: Sequence) -> list[tuple]:
        """Return the tiles that are worth timing, the default first."""

    def use(self, kind: Sequence, tile: Sequence) -> str | None:
        """Run calls of this kind with this tile from now on; return None, or the reason why not.

        Nothing changes where the calls cannot run with it.
        """

    def forget(self) -> None:
        """Run every call with its default from now on."""


class LibraryTiles:
    """The CUDA kernels of the library (csrc/deconv_tile_table.h).

    A tile: rows, columns, parts of the sum.
    """

    name = "cuda"

    def __init__(self, library: ctypes.CDLL, multiprocessors: int):
        self._library, self._multiprocessors = library, multiprocessors
        library.fastgan_deconv_set_tile.restype = ctypes.c_char_p

    def kind(self, direction: str, small: torch.Tensor, big: torch.Tensor) -> tuple[int, ...]:
        """Return the kind of a call with tensors that are aligned to 16 bytes; see Tiling."""
        (batch, channels, h, w), (others, H, W) = small.shape, big.shape[1:]
        shape, kind = _numbers((batch, channels, others, h, w, H, W)), _numbers([0] * 6)
        dtype = DTYPES.index(str(small.dtype).removeprefix("torch."))
        self._library.fastgan_deconv_kind(DIRECTIONS.index(direction), dtype, shape, kind)
        return tuple(kind)

    def words(self, kind: Sequence[int]) -> str:
        """Return, for example, `cuda up tensor_cores bfloat16 2048x256 of 64`.

        2048x256: rows and columns of the product. 64: tiles of its sum.
        """
        direction, way, dtype, m, n, k_tiles = kind
        return f"{self.name} {DIRECTIONS[direction]} {WAYS[way]} {DTYPES[dtype]} {m}x{n} of {k_tiles}"

    def tiles(self, kind: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the tiles that are worth timing; see Tiling."""
        count = self._library.fastgan_deconv_tiles(_numbers(kind), self._multiprocessors, None, 0)
        found = (ctypes.c_int64 * 3 * count)()
        self._library.fastgan_deconv_tiles(_numbers(kind), self._multiprocessors, found, count)
        return [tuple(tile) for tile in found]

    def tile(self, kind: Sequence[int]) -> tuple[int, ...]:
        """Return the tile that a call of this kind runs with."""
        tile = _numbers([0] * 3)
        self._library.fastgan_deconv_tile(_numbers(kind), self._multiprocessors, tile)
        return tuple(tile)

    def use(self, kind: Sequence[int], tile: Sequence[int]) -> str | None:
        """Set the tile of a kind; see Tiling."""
        if len(kind) != 6 or len(tile) != 3 or not all(isinstance(number, int) for number in (*kind, *tile)):
            return NO_KIND
        problem = self._library.fastgan_deconv_set_tile(_numbers(kind), _numbers(tile))
        return problem.decode() if problem else None

    def forget(self) -> None:
        """Restore the default tiles; see Tiling."""
        self._library.fastgan_deconv_forget_tiles()


class TritonTiles:
    """The Triton kernels. A tile: rows, columns, depth of a step, warps, stages."""

    name = "triton"

    def __init__(self, kernels: ModuleType):  # fastgan.kernels.deconv_tiles, which imports Triton
        self._kernels = kernels

    def kind(self, direction: str, small: torch.Tensor, big: torch.Tensor) -> tuple:
        """Return the kind of a call; see Tiling."""
        return self._kernels.kind_of(direction, small.shape, big.shape, small.dtype)

    def words(self, kind: Sequence) -> str:
        """Return, for example, `triton up bfloat16 tf32 2048x256 of 512`.

        2048x256: rows and columns of the product of the kernel `up`. 512: length of its sum.
        """
        kernel, dtype, precision, rows, columns, summed = kind
        return f"{self.name} {kernel} {dtype} {precision} {rows}x{columns} of {summed}"

    def tiles(self, kind: Sequence) -> list[tuple]:
        """Return the tiles that are worth timing; see Tiling."""
        return self._kernels.tiles_to_try(self._kernels.Kind(*kind))

    def use(self, kind: Sequence, tile: Sequence[int]) -> str | None:
        """Set the tile of a kind; see Tiling."""
        if len(kind) != 6 or len(tile) != 5 or not all(isinstance(number, int) for number in tile):
            return NO_KIND
        return self._kernels.use(self._kernels.Kind(*kind), self._kernels.Tile(*tile))

    def forget(self) -> None:
        """Restore the default tiles; see Tiling."""
        self._kernels.forget()


def kept() -> Findings:
    """Return the tiles of this chip by the words of their kind: {"kind": [...], "tile": [...]}."""
    return Findings("tiles", "cuda", _is_row)


def load(tiling: Tiling) -> None:
    """Let these kernels run with the tiles that were kept for this chip.

    Warns of tiles that do not fit, and ignores them.
    """
    for words, row in kept().items():
        if words.startswith(f"{tiling.name} "):
            problem = tiling.use(row["kind"], row["tile"])
            if problem is not None:
                warnings.warn(f"the tile {row['tile']} that was kept for {words!r} is ignored: {problem}", stacklevel=2)


def keep(tiling: Tiling, kind: Sequence, tile: Sequence) -> None:
    """Let later processes on this chip run calls of this kind with this tile."""
    found = kept()
    found[tiling.words(kind)] = {"kind": list(kind), "tile": list(tile)}
    found.save()


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and set(row) == {"kind", "tile"} and all(_is_plain(row[name]) for name in row)


def _is_plain(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, (int, str)) for value in values)


def _numbers(values: Sequence[int]) -> ctypes.Array:
    return (ctypes.c_int64 * len(values))(*values)
