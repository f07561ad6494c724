"""Rows: kept, read back, shown."""
import dataclasses
import io
import json

import pytest
from rich.console import Console

from fastgan.bench import cli as command_line
from fastgan.bench import json_lines, step_report, step_rows, tables
from fastgan.errors import DiskError, UserError

MACHINE = {
    "cpu": "Some CPU", "cores": 2, "threads": 2, "flags": ["avx2"], "memory_gb": 8, "gpu": None, "driver": None,
    "gpu_limits": None, "os": "Some Linux", "python": "3.11.7", "torch": "2.13.0", "triton": None,
}  # fmt: skip
ROW = step_rows.StepRow(
    preset="dcgan", resolution=64, channels=3, batch_size=16, implementation="compiled", dtype="bf16",
    imgs_per_sec=1234.5, imgs_per_sec_quartiles=(1200.0, 1300.0), spread=0.08,
    ratio_to_plain=2.5, ratio_to_plain_quartiles=(2.4, 2.6), ratio_to_accelerated=1.25,
    ratio_to_accelerated_quartiles=(1.2, 1.3),
    gflop_per_image=2.275, gflops=2800.0, matmul_gflops=5600.0, percent_of_matmul=50.0, compile_s=34.56,
    paid_after_images=12_345, rounds=9, steps_per_round=4, note="", command="fastgan bench step --preset dcgan",
    date="2026-01-01T00:00:00+00:00", commit="abc123", torch="2.13.0", machine=MACHINE,
)  # fmt: skip


def as_read(row):
    return json.loads(json.dumps(dataclasses.asdict(row)))


def test_rows_are_appended_and_read_back(tmp_path):
    path = tmp_path / "new" / "step.jsonl"
    slower = dataclasses.replace(ROW, imgs_per_sec=1.0)
    json_lines.append_rows(path, [ROW])
    json_lines.append_rows(path, [slower, ROW])
    assert json_lines.read_rows(path, step_rows.StepRow) == [as_read(ROW), as_read(slower), as_read(ROW)]


def test_a_line_that_is_no_row_is_named(tmp_path):
    path = tmp_path / "step.jsonl"
    json_lines.append_rows(path, [ROW])
    path.write_text(path.read_text() + "{not json\n")
    with pytest.raises(UserError, match=r"step\.jsonl, line 2 is not JSON"):
        json_lines.read_rows(path, step_rows.StepRow)
    path.write_text('{"preset": "mlp"}\n')
    with pytest.raises(UserError, match=r"line 1 is no row of bench: it lacks batch_size"):
        json_lines.read_rows(path, step_rows.StepRow)
    with pytest.raises(UserError, match=r"missing\.jsonl"):
        json_lines.read_rows(tmp_path / "missing.jsonl", step_rows.StepRow)


def test_a_file_that_cannot_be_written_is_a_disk_error(tmp_path):
    with pytest.raises(DiskError, match=tmp_path.name):
        json_lines.append_rows(tmp_path, [ROW])


def test_the_table_holds_the_latest_row_of_each_thing_measured():
    other = dataclasses.replace(
        ROW, implementation="plain", dtype="fp32", compile_s=0.0, paid_after_images=None, ratio_to_accelerated=None
    )
    again = dataclasses.replace(ROW, imgs_per_sec=2000.0)
    table = step_rows.step_table([as_read(row) for row in (ROW, other, again)])
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 2
    assert len({line.count("|") for line in lines}) == 1
    speeds = "2,000 (1,200–1,300) | 2.5 (2.4–2.6) | 1.25 (1.2–1.3)"
    assert lines[2] == f"| dcgan 64x64x3 batch 16 | compiled | bf16 | {speeds} | 2,800 | 50 | 34.6 | 12,300 |"
    assert lines[3].split(" | ")[-1].strip(" |") == ""  # nothing was compiled
    assert table.count(ROW.command) == 1
    assert "the median of the ratios within a round" in table


def test_a_tuned_step_is_another_subject():
    tuned = dataclasses.replace(ROW, command=ROW.command + step_rows.TUNED, imgs_per_sec=1000.0)
    table = step_rows.step_table([as_read(row) for row in (ROW, tuned)])
    assert "| dcgan 64x64x3 batch 16 | compiled | bf16 | 1,230" in table
    assert "| dcgan 64x64x3 batch 16 tuned | compiled | bf16 | 1,000" in table


def test_machines_and_commits_do_not_share_a_table():
    elsewhere = dataclasses.replace(ROW, machine={**MACHINE, "cpu": "Other CPU"})
    later = dataclasses.replace(ROW, commit="def456")
    table = step_rows.step_table([as_read(row) for row in (ROW, elsewhere, later)])
    assert table.count("| preset |") == 3
    assert "Other CPU" in table
    assert "commit def456" in table


def test_a_rung_that_never_pays_says_so():
    row = as_read(dataclasses.replace(ROW, paid_after_images=None))
    pays_after = step_rows.COLUMNS.index("pays after")
    assert step_rows.cells(row)[pays_after] == "never"
    assert step_rows.cells({**row, "implementation": "accelerated"})[pays_after] == ""


def test_rows_from_before_anything_was_counted_are_read(tmp_path):
    old = {
        key: value
        for key, value in as_read(ROW).items()
        if key not in ("kernel_launches", "host_syncs", "peak_memory_mb")
    }
    path = tmp_path / "step.jsonl"
    path.write_text(json.dumps(old) + "\n")
    assert json_lines.read_rows(path, step_rows.StepRow) == [as_read(ROW)]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_is_counted_on_a_gpu_is_shown_where_it_was_counted(is_terminal):
    counted = dataclasses.replace(ROW, kernel_launches=12.25, host_syncs=0.0, peak_memory_mb=456.7)
    table = step_rows.step_table([as_read(ROW), as_read(dataclasses.replace(counted, dtype="fp32"))])
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert lines[0].endswith("| pays after | launches | syncs | peak MB |")
    assert lines[2].endswith("| 12,300 |  |  |  |")
    assert lines[3].endswith("| 12,300 | 12.2 | 0 | 457 |")
    assert "launches" not in step_rows.step_table([as_read(ROW)])
    output = io.StringIO()
    step_report.show([counted], Console(file=output, force_terminal=is_terminal, width=250, no_color=True))
    assert all(text in output.getvalue() for text in ("peak MB", "12.2", "457"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.01234, "0.0123"), (1.0, "1"), (99.96, "100"), (123.4, "123"), (45_678.0, "45,700")],
)
def test_three_significant_digits(value, text):
    assert tables.significant(value) == text


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_report_ends_with_what_to_compare(is_terminal):
    plain = dataclasses.replace(
        ROW, implementation="plain", dtype="fp32", imgs_per_sec=500.0, note="the machine was busy"
    )
    output = io.StringIO()
    step_report.show([plain, ROW], Console(file=output, force_terminal=is_terminal, width=200, no_color=True))
    assert (
        "fastgan's fastest is compiled bf16: 1,230 imgs/sec, 1.25 (1.2–1.3) times the accelerated loop"
        in output.getvalue()
    )
    assert "plain fp32: the machine was busy" in output.getvalue()
    assert ("| preset |" in output.getvalue()) is not is_terminal


def test_the_table_command(tmp_path, capsys):
    json_lines.append_rows(tmp_path / "step.jsonl", [ROW])
    assert command_line.main(["table", str(tmp_path / "step.jsonl")]) == 0
    assert "dcgan 64x64x3 batch 16" in capsys.readouterr().out
    assert command_line.main(["table", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
