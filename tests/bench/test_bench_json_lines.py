"""Rows that survive a kill in the middle of a write."""
import pytest

from fastgan.bench import json_lines
from fastgan.errors import DiskError


def test_rows_are_read_from_where_a_stage_began(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert json_lines.rows_since(path) == []
    json_lines.append_row(path, {"a": 1})
    start = path.stat().st_size
    json_lines.append_row(path, {"a": "ö\n"})
    assert json_lines.rows_since(path) == [{"a": 1}, {"a": "ö\n"}]
    assert json_lines.rows_since(path, start) == [{"a": "ö\n"}]


def test_a_torn_line_is_not_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    json_lines.append_row(path, {"a": 1})
    json_lines.append_text(path, '{"a": 2, "b"')
    assert json_lines.rows_since(path) == [{"a": 1}]


def test_a_tail_gives_whole_lines_once(tmp_path):
    path = tmp_path / "log.txt"
    tail = json_lines.Tail(path)
    assert tail.lines() == ""
    json_lines.append_text(path, "one\ntwo\nthr")
    assert tail.lines() == "one\ntwo\n"
    json_lines.append_text(path, "ee\n")
    assert (tail.lines(), tail.lines()) == ("three\n", "")


def test_a_file_that_cannot_be_written_is_a_disk_error(tmp_path):
    with pytest.raises(DiskError, match=tmp_path.name):
        json_lines.append_row(tmp_path, {"a": 1})
