"""Tiles that were kept for a chip, and their transfer to the kernels.

The library's table is the same without a GPU.
"""

import importlib.util

import pytest
import torch

from fastgan.ops.dispatch import registry, tiles
from fastgan.ops.dispatch.cache import Findings

MULTIPROCESSORS = 132


@pytest.fixture(autouse=True)
def kept(monkeypatch, tmp_path):
    """Keep tiles in a cache of their own, under a device that exists."""
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(tiles, "kept", lambda: Findings("tiles", "cpu", tiles._is_row))
    return tiles.kept


@pytest.fixture(params=["cuda", "triton"])
def tiling(request):
    if request.param == "triton":
        if importlib.util.find_spec("triton") is None:
            pytest.skip("triton is not installed")
        from fastgan.kernels import deconv_tiles

        made = tiles.TritonTiles(deconv_tiles)
    else:
        library, problem = registry._load()
        if problem:
            pytest.skip(problem)
        made = tiles.LibraryTiles(library, MULTIPROCESSORS)
    yield made
    made.forget()


def images(batch=128, small=256, big=128, size=8, dtype=torch.bfloat16):
    return [
        torch.empty(shape, dtype=dtype, device="meta")
        for shape in ((batch, small, size, size), (batch, big, 2 * size, 2 * size))
    ]


def in_use(tiling, kind):
    if tiling.name == "cuda":
        return tiling.tile(kind)
    return tiling._kernels.tile_of(tiling._kernels.Kind(*kind))


@pytest.mark.parametrize("direction", tiles.DIRECTIONS)
def test_a_kept_tile_is_used_by_the_next_process_for_its_kind_alone(tiling, direction):
    kind, other = tiling.kind(direction, *images()), tiling.kind(direction, *images(small=264))
    default, *others = tiling.tiles(kind)
    assert in_use(tiling, kind) == default
    tiles.keep(tiling, kind, others[-1])
    tiling.forget()
    tiles.load(tiling)
    assert in_use(tiling, kind) == others[-1] != default
    assert in_use(tiling, other) == tiling.tiles(other)[0]
    tiling.forget()
    assert in_use(tiling, kind) == default


def test_the_words_of_a_kind_differ_with_all_that_decides(tiling):
    calls = [
        ("up", images()),
        ("down", images()),
        ("weight", images()),
        ("up", images(batch=64)),
        ("up", images(small=64)),
        ("up", images(big=64)),
    ]
    calls += [
        ("up", images(dtype=torch.float16)),
        ("up", images(big=3)),
        ("down", images(big=3)),
        ("up", images(dtype=torch.float32)),
    ]
    words = [tiling.words(tiling.kind(direction, *tensors)) for direction, tensors in calls]
    assert len(set(words)) == len(words)
    assert all(each.startswith(f"{tiling.name} ") for each in words)


def test_what_does_not_fit_is_ignored_with_a_sentence(tiling, kept):
    kind = tiling.kind("down", *images())
    default = tiling.tiles(kind)[0]
    tiles.keep(tiling, kind, (48, *default[1:]))
    with pytest.warns(
        UserWarning,
        match=rf"the tile \[48, .*\] that was kept for '{tiling.name} down .*' is ignored: no kernel has this tile",
    ):
        tiles.load(tiling)
    assert in_use(tiling, kind) == default


@pytest.mark.parametrize(
    ("kind", "tile"),
    [([], []), ([9] * 6, [64, 64, 1]), (["up"] * 6, ["a", "b", "c"]), ([0, 0, 3, 0, -1, 2**70], [64, 64, 1])],
)
def test_what_names_no_kind_is_ignored_with_a_sentence(tiling, kept, kind, tile):
    found = kept()
    found[f"{tiling.name} of another version"] = {"kind": kind, "tile": tile}
    found.save()
    with pytest.warns(UserWarning, match="of another version' is ignored: there is no such kind of call"):
        tiles.load(tiling)


def test_what_another_implementation_kept_is_not_read(tiling, kept):
    found = kept()
    found["other up"] = {"kind": [9], "tile": [9]}
    found["torn"] = 3
    found.save()
    tiles.load(tiling)
    assert kept().keys() == {"other up"}


def test_parts_of_a_sum_are_bounded():
    library, problem = registry._load()
    if problem:
        pytest.skip(problem)
    tiling = tiles.LibraryTiles(library, MULTIPROCESSORS)
    kind = tiling.kind("weight", *images(batch=1024, small=512, big=256))
    k_tiles = kind[-1]
    assert tiling.use(kind, (64, 64, k_tiles + 1)) == "its sum cannot be split into so many parts"
    assert tiling.use(kind, (64, 64, k_tiles)) == "so many parts of its sum take too much memory"
    assert tiling.use(kind, (64, 64, 0)) == "no kernel has this tile"
    few = tiling.kind("up", *images(big=3))
    assert tiling.words(few).startswith("cuda up few_channels bfloat16")
    assert "rows of windows" in tiling.use(few, (128, 10, 1))
    assert tiling.use(few, (128, 9, 1)) is None
    tiling.forget()
