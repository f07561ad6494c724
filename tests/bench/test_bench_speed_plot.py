"""The plot of measured speed: which rows become bars, and the picture."""
from pathlib import Path

import pytest
from PIL import Image

from fastgan.bench import cli as command_line
from fastgan.bench import speed_plot
from fastgan.errors import DiskError, UserError

ROWS = Path(__file__).parents[2] / "bench" / "results" / "step.jsonl"
MACHINE = {"cpu": "Some CPU", "cores": 2, "threads": 2, "flags": ["avx2"], "memory_gb": 8, "gpu": None, "driver": None,
           "gpu_limits": None, "os": "Some Linux", "python": "3.11.7", "torch": "2.13.0", "triton": None}  # fmt: skip


def row(preset="dcgan", implementation="plain", dtype="fp32", ratio=1.0, machine=MACHINE):
    """Return the columns of a row that the plot reads."""
    return {"preset": preset, "resolution": 64, "channels": 3, "batch_size": 16, "implementation": implementation,
            "dtype": dtype, "ratio_to_plain": ratio, "ratio_to_plain_quartiles": ratio and [ratio - 0.1, ratio + 0.1],
            "command": "", "machine": machine}  # fmt: skip


def drawn(monkeypatch, tmp_path, rows):
    """Return the widths of the bars and the texts of the picture of `rows`."""
    seen = {}
    draw = speed_plot._draw

    def spy(axes, steps):
        draw(axes, steps)
        seen["widths"] = [patch.get_width() for patch in axes.patches]
        seen["texts"] = [text.get_text() for text in axes.texts]
        seen["steps"] = [label.get_text() for label in axes.get_yticklabels()]

    monkeypatch.setattr(speed_plot, "_draw", spy)
    speed_plot.plot(rows, tmp_path / "plot.png")
    return seen


def test_the_newest_row_of_each_bar_is_drawn_in_the_order_of_the_legend(monkeypatch, tmp_path):
    rows = [row(implementation="compiled", dtype="bf16", ratio=2.0), row(),
            row(implementation="accelerated", dtype="bf16", ratio=1.5),
            row(implementation="compiled", dtype="bf16", ratio=3.0),
            row(implementation="eager", dtype="bf16", ratio=9.0), row("mlp")]  # fmt: skip
    seen = drawn(monkeypatch, tmp_path, rows)
    assert seen["widths"] == [1.0, 1.5, 3.0, 1.0]
    assert seen["texts"] == ["1", "1.50", "3.00", "1"]
    assert seen["steps"] == ["dcgan 64x64x3\nbatch 16", "mlp 64x64x3\nbatch 16"]


def test_fp32_of_fastgan_is_drawn_where_no_accelerated_loop_was_measured(monkeypatch, tmp_path):
    compiled = [row(implementation="compiled", dtype=dtype, ratio=ratio) for dtype, ratio in (("fp32", 2), ("bf16", 3))]
    assert drawn(monkeypatch, tmp_path, [row(), *compiled])["widths"] == [1, 2, 3]
    accelerated = row(implementation="accelerated", dtype="bf16", ratio=1.5)
    assert drawn(monkeypatch, tmp_path, [row(), accelerated, *compiled])["widths"] == [1, 1.5, 3]


def test_machines_do_not_share_a_picture(monkeypatch, tmp_path):
    elsewhere = row(implementation="compiled", dtype="bf16", ratio=7.0, machine={**MACHINE, "cpu": "Other CPU"})
    assert drawn(monkeypatch, tmp_path, [elsewhere, row()])["widths"] == [1.0]


def test_the_picture_is_small_and_wide_enough(tmp_path):
    rows = [row(preset, name, dtype, 1.5) for preset in ("dcgan", "mlp", "r3gan") for name, dtype in speed_plot.SERIES]
    path = tmp_path / "new" / "speed.png"
    speed_plot.plot(rows, path)
    assert path.stat().st_size < 60_000
    with Image.open(path) as image:
        assert image.width == 1600
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("rows", [[], [{"preset": "mlp"}], [row(ratio=None)]])
def test_rows_that_give_no_bar_are_refused(tmp_path, rows):
    with pytest.raises(UserError, match="bench step"):
        speed_plot.plot(rows, tmp_path / "speed.png")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_place_of_the_picture_is_a_disk_error(tmp_path):
    with pytest.raises(DiskError):
        speed_plot.plot([row()], tmp_path)


def test_the_table_command_draws(tmp_path, capsys):
    assert command_line.main(["table", str(ROWS), "--plot", str(tmp_path / "speed.png")]) == 0
    assert (tmp_path / "speed.png").exists()
    assert "dcgan 64x64x3 batch 64" in capsys.readouterr().out
