"""Rows of generated code: the model, the table, the comparison."""
import dataclasses
import json

import pytest

from fastgan.bench.cuda_code.code_rows import (
    BANDWIDTH,
    LAUNCH_US,
    LEAST_US,
    CodeRow,
    code_table,
    compare_code,
    modelled_us,
    read_json,
)
from fastgan.errors import UserError

ROW = CodeRow(
    preset="dcgan", phase="update", batch_size=128, resolution=64, words="", triton_launches=100, library_launches=40,
    triton_bytes=10**9, spills=0, modelled_us=600.0, launches_by_kind={}, bytes_by_kind={}, library_by_kind={},
    kernels=80, registers=96, shared_bytes=16384, problem=None, implementations={},
    command="fastgan bench cuda-code", date="",
    commit="abc", torch="2.11.0+cu130", triton="3.6.0",
)  # fmt: skip


def test_a_launch_costs_its_bytes_and_itself_and_never_less_than_the_least():
    assert modelled_us([0, 0]) == 2 * LEAST_US
    assert modelled_us([int(BANDWIDTH)]) == pytest.approx(1e6 + LAUNCH_US)


def test_a_comparison_gives_both_numbers_and_their_ratio():
    before = dataclasses.asdict(ROW)
    after = dataclasses.asdict(dataclasses.replace(ROW, triton_launches=30, triton_bytes=5 * 10**8))
    line = compare_code([after], [before]).splitlines()[-1]
    assert "140 -> 70 (0.50)" in line
    assert "1,000 -> 500 (0.50)" in line
    assert "600 -> 600 (1.00)" in line
    assert "not in the other file" in compare_code([after | {"phase": "D"}], [before])


def test_a_table_says_what_was_modelled_and_why_there_is_no_code():
    failed = dataclasses.replace(ROW, preset="cgan", triton_launches=0, problem="InductorError: AssertionError")
    table = code_table([dataclasses.asdict(ROW), dataclasses.asdict(failed)])
    assert "nothing ran on a GPU" in table
    assert "| dcgan 64x64 batch 128 | update | 100 | 40 | 1,000 | 600 | 80 | 96 | 16 | 0 |" in table
    assert "InductorError: AssertionError" in table


@pytest.mark.parametrize("text", ["", "{}", '[{"preset": "dcgan"}]', "\x00"])
def test_a_file_that_is_no_list_of_rows_is_named(tmp_path, text):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"rows\.json"):
        read_json(path)


def test_what_json_writes_can_be_compared(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([dataclasses.asdict(ROW)]))
    assert read_json(path)[0]["triton_launches"] == 100
