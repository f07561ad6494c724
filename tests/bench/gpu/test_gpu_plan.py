"""The plan: every command can be run, the main bars come early."""
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from fastgan.bench import cli as command_line
from fastgan.bench import commands
from fastgan.bench.gpu import plan
from fastgan.bench.gpu.stage import expected_ends
from fastgan.bench.places import ROOT as PACKAGE_ROOT
from fastgan.errors import UserError
from fastgan.processes import GRACE_S

ROOT = Path(__file__).parents[3]  # of the checkout


def test_names_are_unique_and_budgets_leave_room():
    assert len(set(plan.NAMES)) == len(plan.STAGES)
    for stage in plan.STAGES:
        assert 0 < 1.5 * stage.expected_s <= stage.budget_s <= 360
        assert 0 <= stage.timed_s < stage.expected_s
        assert stage.slots <= plan.SLOTS
    assert plan.by_name("smoke").budget_s <= 40


@pytest.mark.parametrize("name", plan.CALLS)
def test_every_call_ends_within_its_minutes_and_begins_with_what_is_needed_first(name):
    stages = plan.chosen(None, name)
    ends = expected_ends(stages, plan.PLANNED)
    assert set(ends) == set(plan.CALLS[name])
    assert max(ends.values()) <= 60 * plan.MINUTES < 600 - 2 * GRACE_S
    assert [stage.name for stage in stages[:3]] == ["smoke", "library", "checks"]
    assert all(stage.is_alone for stage in stages[:3])


def test_the_main_bars_are_in_the_second_call_and_end_in_its_first_two_thirds():
    ends = expected_ends(plan.chosen(None, "bars"), plan.PLANNED)
    assert max(ends[name] for name in ("dcgan-128", "mlp-128", "dcgan-1024")) <= plan.MINUTES * 60 * 2 / 3


def test_what_a_compiler_times_is_alone():
    assert all(
        stage.is_alone
        for stage in plan.STAGES
        if "--autotune" in stage.arguments or "run.autotune=true" in stage.arguments
    )


def test_some_of_a_call_in_its_order():
    assert [stage.name for stage in plan.chosen(["kernels", "smoke"], "diagnose")] == ["smoke", "kernels"]
    assert plan.chosen(["job"], "diagnose") == ()


@pytest.mark.parametrize("name", plan.CALLS)
def test_the_script_of_a_call_is_short_and_runs_it(name):
    script = ROOT / "bench" / "gpu" / "calls" / f"{name}.sh"
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert len("\n".join(lines)) < 1500
    [command] = [line for line in lines if "-m bench gpu" in line]
    assert f"--call {name}" in command
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


def test_every_stage_writes_its_rows_where_it_is_told():
    for stage in plan.STAGES:
        command = stage.command("/some/where.jsonl")
        assert command[0] == sys.executable
        assert command.count("/some/where.jsonl") == 1
        assert not {plan.ROWS, plan.WORKERS} & set(command)


def test_eight_files_at_most_come_out():
    written_by_the_runner = {"log.txt", "table.txt", "evidence.tar.gz", plan.RESULTS}
    assert len({stage.rows for stage in plan.STAGES} | written_by_the_runner) <= 8


def test_every_command_of_pytest_and_of_the_package_names_what_there_is():
    for stage in plan.STAGES:
        for argument in stage.arguments:
            path = argument.removeprefix("--ignore=")
            assert not path.startswith("tests") or (ROOT / path).exists()
            assert (
                not argument.startswith("fastgan.")
                or importlib.util.find_spec(argument)
            )


@pytest.mark.parametrize(
    "stage",
    [stage for stage in plan.STAGES if stage.arguments[:3] == ("-m", "fastgan", "bench")],
    ids=lambda stage: stage.name,
)
def test_bench_takes_every_command_of_the_plan(stage):
    options = command_line._parser("bench").parse_args(stage.command("/some/where.jsonl")[4:])
    assert str(options.save) == "/some/where.jsonl"


def test_without_a_checkout_the_tests_are_left_out(monkeypatch):
    monkeypatch.setattr("fastgan.bench.gpu.stage.CHECKOUT", None)
    left_out = [stage.name for stage in plan.STAGES if "without a checkout" in stage.missing()]
    assert left_out == ["tests-ops", "tests-rest"]


def test_commands_are_told_as_a_user_types_them():
    assert plan.by_name("ops-128").words().startswith("fastgan bench ops --batch-size 128 ")
    assert plan.by_name("smoke").words().startswith("python -m fastgan.bench.gpu.smoke ")


def test_the_tests_are_split_without_a_gap():
    quick, rest = (next(stage for stage in plan.STAGES if stage.name == name) for name in ("tests-ops", "tests-rest"))
    files = {argument for argument in quick.arguments if argument.startswith("tests")}
    assert files == {
        argument.removeprefix("--ignore=") for argument in rest.arguments if argument.startswith("--ignore=")
    }
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
    assert shown.count("(not within 1 minutes)") == len(plan.STAGES) - 2
    assert command_line.main(["gpu", "--plan", "--only", "chip"]) == 0
    assert "dcgan" not in capsys.readouterr().out


def test_without_a_gpu_one_line_and_exit_code_2(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert command_line.main(["gpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bench: no NVIDIA GPU was found")
    assert len(error.strip().splitlines()) == 1


def test_the_plan_needs_neither_torch_nor_anything_else():
    code = "import sys; sys.modules['torch'] = None; from fastgan.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "bench", "gpu", "--plan"]
    assert subprocess.run(command, cwd=PACKAGE_ROOT, capture_output=True).returncode == 0


def test_a_deadline_that_is_none_is_refused():
    with pytest.raises(UserError, match="--minutes"):
        commands.gpu(command_line._parser("bench").parse_args(["gpu", "--minutes", "0"]))


def test_a_call_without_any_of_the_stages_is_refused():
    with pytest.raises(UserError, match="--call rest has none of the stages job"):
        commands.gpu(command_line._parser("bench").parse_args(["gpu", "--call", "rest", "--only", "job"]))


def test_workers_where_pytest_xdist_is_installed(monkeypatch):
    stage = plan.by_name("tests-ops")
    for is_installed, workers in ((True, ["-n", "8"]), (False, [])):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=is_installed: found or None)
        command = stage.command("rows")
        assert [word for word in command if word in ("-n", "8")] == workers
        assert command[command.index("-W") + 1] == "default"
    assert "-n 8" in stage.words()
