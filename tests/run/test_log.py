import json
import math
import os
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgan.errors import DiskError, UserError
from fastgan.run.log import RunLog, read_rows


def _log_of_rows(run_dir, *nimgs):
    log = RunLog(run_dir)
    for nimg in nimgs:
        log.row({"nimg": nimg, "d_loss": 0.5})
    return log


def _nimgs(run_dir):
    return [row["nimg"] for row in read_rows(run_dir)]


def test_log_lines_have_a_utc_time(tmp_path):
    log = RunLog(tmp_path / "a" / "run")
    log.write("first line")
    log.write("zweite Zeile: é")
    lines = (tmp_path / "a" / "run" / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["first line", "zweite Zeile: é"]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_floats_come_back_to_the_bit(tmp_path_factory, value):
    run_dir = tmp_path_factory.mktemp("run")
    RunLog(run_dir).row({"nimg": 1, "d_loss": value})
    assert read_rows(run_dir) == [{"nimg": 1, "d_loss": value}]


def test_each_row_is_on_the_disk_at_once(tmp_path):
    log = RunLog(tmp_path)
    assert read_rows(tmp_path) == []
    for nimg in (1, 2, 3):
        log.row({"nimg": nimg})
        assert _nimgs(tmp_path)[-1] == nimg


def test_nonfinite_floats_become_null_and_are_named(tmp_path):
    RunLog(tmp_path).row(
        {"nimg": 1, "d_loss": math.nan, "g_loss": -math.inf, "kimg": 0.001, "rung": "captured", "fid": None}
    )
    line = (tmp_path / "stats.jsonl").read_text()
    row = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert row == {
        "nimg": 1,
        "d_loss": None,
        "g_loss": None,
        "kimg": 0.001,
        "rung": "captured",
        "fid": None,
        "nonfinite": ["d_loss", "g_loss"],
    }


def test_a_folder_that_holds_a_run_is_refused(tmp_path):
    _log_of_rows(tmp_path, 1000)
    with pytest.raises(UserError, match=r"--resume .* --out") as caught:
        RunLog(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert _nimgs(tmp_path) == [1000]


def test_a_folder_with_other_files_is_accepted(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    RunLog(tmp_path).row({"nimg": 1})
    assert _nimgs(tmp_path) == [1]


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    for run_dir in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="a file is in its place"):
            RunLog(run_dir)


@given(resume_nimg=st.integers(0, 6000))
def test_resuming_drops_later_rows_and_nothing_else(tmp_path_factory, resume_nimg):
    run_dir = tmp_path_factory.mktemp("run")
    _log_of_rows(run_dir, *range(1000, 6000, 1000)).write("before")
    log = RunLog(run_dir, resume_nimg=resume_nimg)
    log.row({"nimg": resume_nimg + 1})
    log.write("after")
    assert _nimgs(run_dir) == [*(nimg for nimg in range(1000, 6000, 1000) if nimg <= resume_nimg), resume_nimg + 1]
    assert len((run_dir / "log.txt").read_text().splitlines()) == 2


def test_resuming_without_a_log_starts_one(tmp_path):
    RunLog(tmp_path, resume_nimg=1000).row({"nimg": 2000})
    assert _nimgs(tmp_path) == [2000]


def test_a_line_torn_at_any_byte_is_dropped(tmp_path):
    path = tmp_path / "stats.jsonl"
    _log_of_rows(tmp_path, 1000, 2000)
    first, second = path.read_bytes().splitlines(keepends=True)
    for length in range(1, len(second) - 1):
        path.write_bytes(first + second[:length])
        assert _nimgs(tmp_path) == [1000]
    path.write_bytes(first + second[:-1])  # only the end of the line is missing
    RunLog(tmp_path, resume_nimg=9000).row({"nimg": 10_000})
    assert _nimgs(tmp_path) == [1000, 2000, 10_000]


def test_a_damaged_line_elsewhere_is_named(tmp_path):
    _log_of_rows(tmp_path, 1000, 2000)
    path = tmp_path / "stats.jsonl"
    path.write_text('{"nimg": 1}\n{"nim\n{"nimg": 3}\n')
    with pytest.raises(UserError, match="line 2 of .*stats.jsonl"):
        read_rows(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["log.txt", "stats.jsonl"])
def test_a_full_disk(tmp_path, name):
    log = RunLog(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(DiskError, match=f"{name}: No space left"):
        log.write("text") if name == "log.txt" else log.row({"nimg": 1})
    log.close()


def test_without_the_tensorboard_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        RunLog(tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_event_files_hold_the_numbers_over_nimg(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = RunLog(tmp_path, tensorboard=True)
    log.row({"nimg": 1000, "kimg": 1.0, "d_loss": 0.5, "rung": "eager", "fid": None})
    log.row({"nimg": 2000, "kimg": 2.0, "d_loss": math.nan, "rung": "eager", "fid": 30})
    log.close()
    resumed = RunLog(tmp_path, tensorboard=True, resume_nimg=1000)
    resumed.row({"nimg": 3000, "kimg": 3.0, "d_loss": 0.25})
    resumed.close()
    events = accumulators.EventAccumulator(str(tmp_path), purge_orphaned_data=True).Reload()
    assert set(events.Tags()["scalars"]) == {"kimg", "d_loss", "fid"}
    assert [(event.step, event.value) for event in events.Scalars("d_loss")] == [(1000, 0.5), (3000, 0.25)]
