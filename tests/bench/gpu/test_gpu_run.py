"""The runner: the deadline with a clock that is told the time, and a real run that is cut off in the middle."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from bench.gpu import rows
from bench.gpu.child import Ending
from bench.gpu.plan import RESULTS, Stage
from bench.gpu.run import Outcome, Runner, default_out, exit_code, signals_received
from bench.machine import ROOT
from fastgan.errors import DiskError


class FakeMachine:
    """Stages last as long as it is told, and end as it is told; what it is asked for is remembered."""

    def __init__(self, seconds: dict[str, float], endings: dict[str, Ending] | None = None):
        self.now, self.seconds, self.endings, self.allowed = 1000.0, seconds, endings or {}, {}
        self.words: dict[str, list[str]] = {}  # what a stage says, by lines

    def clock(self) -> float:
        return self.now

    def run_child(self, command, log, seconds, stopped) -> Ending:
        name = command[-1]
        self.allowed[name] = seconds
        self.now += min(self.seconds[name], seconds)
        with open(log, "a") as file:
            file.write("".join(f"{line}\n" for line in self.words.get(name, ())))
        if self.seconds[name] > seconds:
            return Ending(None, f"stopped after {seconds:.0f} s")
        return self.endings.get(name, Ending(0, ""))


def stage(name, expected_s=10, budget_s=30, needs=()):
    return Stage(name, (name,), expected_s, budget_s, RESULTS, "nothing", needs)


def run(tmp_path, machine, stages, minutes=1.0, received=()):
    said = []
    runner = Runner(tmp_path, minutes, list(received), said.append, machine.clock, machine.run_child)
    return {outcome.stage: outcome for outcome in runner.run(tuple(stages))}, said


def test_what_does_not_fit_is_skipped_and_what_fits_later_runs(tmp_path):
    machine = FakeMachine({"a": 25, "b": 20, "d": 9})
    outcomes, said = run(tmp_path, machine, [stage("a"), stage("b"), stage("c", expected_s=20), stage("d", expected_s=15)])
    assert [outcome.state for outcome in outcomes.values()] == ["ok", "ok", "skipped", "ok"]
    assert outcomes["c"].reason == "takes about 20 s, 15 s are left"
    assert [outcome.seconds for outcome in outcomes.values()] == [25.0, 20.0, 0.0, 9.0]
    assert machine.allowed == {"a": 30, "b": 30, "d": 15}  # its budget, or what is left
    assert "go on with: python -m bench gpu --only c" in said[-1]


def test_a_stage_is_ended_by_its_budget_and_by_the_deadline(tmp_path):
    machine = FakeMachine({"a": 100, "b": 100, "c": 1})
    outcomes, _ = run(tmp_path, machine, [stage("a", budget_s=50), stage("b"), stage("c")])
    assert [(outcome.state, outcome.reason) for outcome in outcomes.values()] == [
        ("cut off", "stopped after 50 s"),
        ("cut off", "stopped after 10 s"),
        ("skipped", "takes about 10 s, 0 s are left"),
    ]
    assert machine.now == 1060


def test_a_failure_ends_its_stage_alone(tmp_path):
    machine = FakeMachine({"a": 1, "b": 1, "c": 1}, {"a": Ending(-11, "killed by SIGSEGV"), "c": Ending(1, "exit code 1")})
    machine.words = {"b": ["fine"], "c": ["Traceback", "ValueError: no", ""]}
    outcomes, said = run(tmp_path, machine, [stage("a"), stage("b"), stage("c")])
    assert [outcome.state for outcome in outcomes.values()] == ["failed", "ok", "failed"]
    assert [outcome.reason for outcome in outcomes.values()] == ["killed by SIGSEGV", "", "exit code 1: ValueError: no"]
    assert said[0].split() == ["a", "failed", "1.0", "s", "killed", "by", "SIGSEGV"]


def test_a_module_that_is_missing_skips_its_stage_alone(tmp_path):
    outcomes, _ = run(tmp_path, FakeMachine({"b": 1}), [stage("a", needs=("json", "no_such_module")), stage("b", needs=("json",))])
    assert (outcomes["a"].state, outcomes["a"].reason) == ("skipped", "no_such_module not installed")
    assert outcomes["b"].state == "ok"


def test_after_a_signal_nothing_starts_and_the_table_is_written(tmp_path):
    outcomes, said = run(tmp_path, FakeMachine({}), [stage("a"), stage("b")], received=[signal.SIGTERM])
    assert {outcome.reason for outcome in outcomes.values()} == {"interrupted by SIGTERM"}
    assert (tmp_path / "table.txt").read_text() == said[-1] + "\n"


def test_outcomes_are_rows_and_the_log_names_every_stage(tmp_path):
    run(tmp_path, FakeMachine({"a": 1}), [stage("a")])
    [row] = rows.since(tmp_path / RESULTS)
    assert (row["kind"], row["stage"], row["state"], row["command"]) == ("stage", "a", "ok", "python a")
    assert (tmp_path / "log.txt").read_text().splitlines() == ["==== a: python a", "==== a: ok after 1.0 s"]


@pytest.mark.parametrize(
    ("states", "received", "code"),
    [
        (["ok", "skipped"], [], 0),
        (["ok", "failed"], [], 1),
        (["cut off"], [], 1),
        (["ok"], [signal.SIGTERM], 143),
        (["cut off"], [signal.SIGINT], 130),
    ],
)
def test_exit_codes(states, received, code):
    outcomes = [Outcome("a", state, 1.0, "", "", "python a", "", None) for state in states]
    assert exit_code(outcomes, received) == code


def test_a_folder_that_cannot_be_made_is_a_disk_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="file"):
        Runner(tmp_path / "file", 1.0, [])


def test_folders_of_two_runs_differ_by_date(monkeypatch):
    assert default_out().parent == ROOT / "bench" / "results"
    assert default_out().name.startswith("gpu-20")


def test_signals_are_noted_and_their_handlers_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with signals_received() as received:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert received == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) == before


# --- a run of real processes ---------------------------------------------------------------------------------------------------------------------

ROWS_THEN_SLEEP = """
import json, sys, time
with open(sys.argv[1], "a") as file:
    for index in range(3):
        file.write(json.dumps({"kind": "test", "test": str(index), "outcome": "passed"}) + chr(10))
    file.write("{torn")
    file.flush()
    time.sleep(60)
"""
SCRIPT = f"""
import pathlib, sys
from bench.gpu.plan import RESULTS, ROWS, Stage
from bench.gpu.run import Runner, exit_code, signals_received
stages = tuple(Stage(name, ("-c", {ROWS_THEN_SLEEP!r}, ROWS), 5, 60, RESULTS, "") for name in ("first", "second"))
with signals_received() as received:
    outcomes = Runner(pathlib.Path(sys.argv[1]), 5, received).run(stages)
sys.exit(exit_code(outcomes, received))
"""


def test_a_run_that_is_cut_off_leaves_whole_rows_and_the_table(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    path = tmp_path / RESULTS
    for _ in range(400):
        if path.exists() and path.read_bytes().endswith(b"torn"):
            break
        time.sleep(0.05)
    process.terminate()
    shown, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["kind"] for row in found] == ["test"] * 3 + ["stage"] * 2
    assert [(row["stage"], row["state"], row["figure"]) for row in found[3:]] == [("first", "cut off", "3 passed"), ("second", "skipped", "")]
    assert found[3]["reason"] == "interrupted by SIGTERM"
    assert (tmp_path / "table.txt").read_text() in shown
