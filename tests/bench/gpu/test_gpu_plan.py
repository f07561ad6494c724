"""The plan: every command can be run, the main bars come early."""
import os
import subprocess
import sys

import pytest

from bench import __main__ as command_line
from bench.gpu import plan
from bench.machine import ROOT
from fastgan.errors import UserError


def test_names_are_unique_and_budgets_leave_room():
    assert len(set(plan.NAMES)) == len(plan.STAGES)
    for stage in plan.STAGES:
        assert 0 < 1.5 * stage.expected_s <= stage.budget_s <= 360


def test_the_main_bars_end_in_the_first_two_thirds():
    ends_at = 0
    for stage in plan.STAGES:
        ends_at += stage.expected_s
        if stage.name in ("dcgan-128", "mlp-128", "dcgan-1024"):
            assert ends_at <= plan.MINUTES * 60 * 2 / 3


def test_every_stage_writes_its_rows_where_it_is_told():
    for stage in plan.STAGES:
        command = stage.command("/some/where.jsonl")
        assert command[0] == sys.executable
        assert command.count("/some/where.jsonl") == 1
        assert plan.ROWS not in command


def test_eight_files_at_most_come_out():
    written_by_the_runner = {"log.txt", "table.txt", plan.RESULTS}
    assert len({stage.rows for stage in plan.STAGES} | written_by_the_runner | {"kernels.md"}) <= 8


def test_every_command_of_pytest_and_of_the_package_names_what_there_is():
    for stage in plan.STAGES:
        for argument in stage.arguments:
            path = argument.removeprefix("--ignore=")
            assert not path.startswith("tests") or (ROOT / path).exists()
            assert not argument.startswith("bench.") or (ROOT / (argument.replace(".", os.sep) + ".py")).exists()


@pytest.mark.parametrize("stage", [stage for stage in plan.STAGES if stage.arguments[:2] == ("-m", "bench")], ids=lambda stage: stage.name)
def test_bench_takes_every_command_of_the_plan(stage):
    options = command_line._parser().parse_args(stage.command("/some/where.jsonl")[3:])
    assert str(options.save) == "/some/where.jsonl"


def test_the_tests_are_split_without_a_gap():
    quick, rest = (next(stage for stage in plan.STAGES if stage.name == name) for name in ("tests-ops", "tests-rest"))
    files = {argument for argument in quick.arguments if argument.startswith("tests")}
    assert files == {argument.removeprefix("--ignore=") for argument in rest.arguments if argument.startswith("--ignore=")}
    assert "tests" in rest.arguments


def test_some_stages_in_the_order_of_the_plan():
    assert plan.chosen(None) == plan.STAGES
    assert [stage.name for stage in plan.chosen(["mlp-128", "checks"])] == ["checks", "mlp-128"]


def test_the_plan_is_told_without_a_gpu(capsys):
    assert command_line.main(["gpu", "--plan", "--minutes", "1"]) == 0
    shown = capsys.readouterr().out
    for stage in plan.STAGES:
        assert stage.name in shown
        assert stage.words() in shown
    assert shown.count("(not within 1 minutes)") == len(plan.STAGES) - 1
    assert command_line.main(["gpu", "--plan", "--only", "chip"]) == 0
    assert "dcgan" not in capsys.readouterr().out


def test_without_a_gpu_one_line_and_exit_code_2(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert command_line.main(["gpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bench: no NVIDIA GPU was found")
    assert len(error.strip().splitlines()) == 1


def test_the_plan_needs_neither_torch_nor_anything_else():
    code = "import sys; sys.modules['torch'] = None; from bench.__main__ import main; sys.exit(main(['gpu', '--plan']))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_a_deadline_that_is_none_is_refused():
    with pytest.raises(UserError, match="--minutes"):
        command_line.gpu(command_line._parser().parse_args(["gpu", "--minutes", "0"]))
