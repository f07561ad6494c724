"""Rows survive what a kill does to a file."""
import pytest

from bench.gpu import rows
from fastgan.errors import DiskError


def test_rows_are_read_from_where_a_stage_began(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert (rows.size(path), rows.since(path)) == (0, [])
    rows.append(path, {"a": 1})
    start = rows.size(path)
    rows.append(path, {"a": "ö\n"})
    assert rows.since(path) == [{"a": 1}, {"a": "ö\n"}]
    assert rows.since(path, start) == [{"a": "ö\n"}]


def test_a_torn_line_is_neither_read_nor_added_to(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows.mend(path)  # there is nothing to mend
    assert not path.exists()
    rows.append(path, {"a": 1})
    with open(path, "a") as file:
        file.write('{"a": 2, "b"')
    assert rows.since(path) == [{"a": 1}]
    rows.mend(path)
    rows.append(path, {"a": 3})
    assert rows.since(path) == [{"a": 1}, {"a": 3}]


def test_a_file_that_is_one_torn_line_becomes_empty(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a"')
    rows.mend(path)
    assert path.read_text() == ""


def test_a_file_that_cannot_be_written_is_a_disk_error(tmp_path):
    with pytest.raises(DiskError, match=tmp_path.name):
        rows.append(tmp_path, {"a": 1})
