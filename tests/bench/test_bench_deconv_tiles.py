"""The sweep of tiles: timed tiles, excluded tiles and the kept choice.

Kernels and the timer are simulated.
"""

import pytest
import torch

from fastgan.bench import json_lines
from fastgan.bench.ops import deconv_tiles as bench_tiles
from fastgan.ops.dispatch import tiles
from fastgan.ops.dispatch.cache import Findings

DEFAULT, FAST, SLOW, WRONG, BROKEN, REFUSED = (
    (64, 64, 1),
    (128, 64, 1),
    (128, 128, 1),
    (64, 64, 2),
    (64, 64, 4),
    (64, 64, 8),
)
MICROSECONDS = {DEFAULT: 10.0, FAST: 8.0, SLOW: 12.0}


class MadeUp:
    """Kernels of five tiles.

    The result of `run` and the time of a call depend on the tile in use.
    """

    name = "cuda"

    def __init__(self, microseconds=MICROSECONDS, every=(DEFAULT, FAST, SLOW, WRONG, BROKEN, REFUSED)):
        self.microseconds, self.every, self.in_use, self.timed = microseconds, list(every), {}, []

    def kind(self, direction, small, big):
        return (direction, *small.shape, *big.shape)

    def words(self, kind):
        return f"{self.name} {' '.join(map(str, kind))}"

    def tiles(self, kind):
        return self.every

    def use(self, kind, tile):
        if tuple(tile) == REFUSED:
            return "no kernel has this tile"
        self.in_use[tuple(kind)] = tuple(tile)
        return None

    def forget(self):
        self.in_use.clear()

    def run(self):
        [tile] = self.in_use.values()
        if tile == BROKEN:
            raise RuntimeError("out of resources")
        return torch.full((3,), 2.0 if tile == WRONG else 1.0, dtype=torch.bfloat16)

    def timer(self, run, num_calls, device_type):
        assert (run(), num_calls, device_type)[1:] == (bench_tiles.NUM_CALLS, "cpu")
        [tile] = self.in_use.values()
        self.timed.append(tile)
        return 1e-6 * self.microseconds[tile] * (1 + 0.001 * (len(self.timed) % 5))


def call_of(made_up):
    return bench_tiles.Call(
        "up somewhere", "up", 10**9, torch.zeros(2, 8, 3, 3), torch.zeros(2, 8, 6, 6), {"cuda": made_up.run}
    )


@pytest.fixture(autouse=True)
def kept(monkeypatch, tmp_path):
    """Return the kept choices, in a cache of its own under a device that is there."""
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tiles, "kept", lambda: Findings("tiles", "cpu", tiles._is_row))
    return tiles.kept


def test_a_row_for_every_tile_and_the_fastest_is_kept(tmp_path, kept):
    made_up = MadeUp()
    found = bench_tiles.sweep_all(iter([call_of(made_up)]), [made_up], made_up.timer, tmp_path / "rows.jsonl")
    assert found == json_lines.rows_since(tmp_path / "rows.jsonl")
    assert [row["tile"] for row in found] == [list(tile) for tile in made_up.every]
    assert [row["is_default"] for row in found] == [True, False, False, False, False, False]
    assert [row["is_winner"] for row in found] == [False, True, False, False, False, False]
    assert [row["microseconds"] for row in found[:3]] == pytest.approx([10, 8, 12], rel=0.01)
    assert found[0]["ratio_to_default"] == 1
    assert found[1]["ratio_to_default"] == pytest.approx(1.25, rel=0.01)
    assert found[1]["tflops"] == pytest.approx(1e9 / 8e-6 / 1e12, rel=0.01)
    assert [row["problem"] is None for row in found] == [True, True, True, False, False, False]
    assert found[3]["problem"] == "its result is off by 1, where 0.0078 are allowed"
    assert [row["problem"] for row in found[4:]] == ["RuntimeError: out of resources", "no kernel has this tile"]
    assert "microseconds" not in found[3]
    assert set(made_up.timed) == {DEFAULT, FAST, SLOW}
    [row] = kept().values()
    assert row["tile"] == list(FAST)
    assert list(made_up.in_use.values()) == [FAST]  # for what runs next in this process


def test_what_is_within_the_noise_is_not_kept(kept):
    made_up = MadeUp({DEFAULT: 10.0, FAST: 9.98, SLOW: 12.0})
    found = bench_tiles.sweep_tiles(call_of(made_up), made_up, made_up.timer)
    assert [row["is_winner"] for row in found[:3]] == [True, False, False]
    assert not kept()
    assert list(made_up.in_use.values()) == [DEFAULT]


def test_a_default_that_wins_again_replaces_what_was_kept(kept):
    made_up = MadeUp()
    bench_tiles.sweep_tiles(call_of(made_up), made_up, made_up.timer)
    made_up.microseconds = {DEFAULT: 7.0, FAST: 8.0, SLOW: 12.0}
    bench_tiles.sweep_tiles(call_of(made_up), made_up, made_up.timer)
    [row] = kept().values()
    assert row["tile"] == list(DEFAULT)


def test_an_only_tile_is_timed_once(kept):
    made_up = MadeUp(every=[DEFAULT])
    [row] = bench_tiles.sweep_tiles(call_of(made_up), made_up, made_up.timer)
    assert made_up.timed == [DEFAULT]
    assert (row["is_winner"], row["rounds"]) == (True, 1)


def test_the_calls_of_a_step_are_four_layers_in_three_directions():
    every = list(bench_tiles.calls("dcgan", 2, torch.float32, torch.device("cpu")))
    assert [call.direction for call in every] == ["up", "down", "weight"] * 4
    assert every[0].words == "up 512 -> 256 at 4 -> 8 batch 2"
    for call in every[:3]:
        result = call.runs["reference"]()
        assert call.flop == 2 * 2 * 512 * 4 * 4 * 256 * 16
        assert (
            result.shape
            == {"up": call.big, "down": call.small, "weight": torch.empty(512, 256, 4, 4)}[call.direction].shape
        )


def test_what_cannot_be_used_has_a_row_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(
        bench_tiles.self_checks, "problem", lambda op, name, device_type: f"{op} {name} is not for {device_type}"
    )
    assert bench_tiles.available(["cuda", "triton"], tmp_path / "rows.jsonl") == []
    assert [row["problem"] for row in json_lines.rows_since(tmp_path / "rows.jsonl")] == [
        "deconv cuda is not for cuda",
        "deconv triton is not for cuda",
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path, capsys):
    assert bench_tiles.main(["--rows", str(tmp_path / "rows.jsonl")]) == 2
    assert capsys.readouterr().err == "bench: tiles are timed on a GPU, and torch sees no CUDA device\n"
