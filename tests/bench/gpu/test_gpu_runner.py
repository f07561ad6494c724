"""The runner: deadlines and turns on a machine with a simulated clock.

A real run is cut off in the middle.
"""
import json
import signal
import socket
import subprocess
import sys
import tarfile
import time

import pytest

from fastgan.bench import json_lines
from fastgan.bench.exclusive import SOCKET
from fastgan.bench.gpu.evidence import EVIDENCE, REFUSALS
from fastgan.bench.gpu.plan import RESULTS
from fastgan.bench.gpu.runner import Outcome, Runner, exit_code
from fastgan.bench.gpu.stage import Limits, Stage
from fastgan.bench.gpu.stage_process import Ending
from fastgan.bench.places import ROOT
from fastgan.errors import DiskError

ONE, SEVERAL = Limits(1, 100.0), Limits(3, 100.0)


class FakeMachine:
    """A machine whose stages take a given number of seconds of computing and end as they are told.

    The clock advances by a quarter of a second a sleep.
    """

    def __init__(self, seconds: dict[str, float], endings: dict[str, Ending] | None = None):
        self.now, self.seconds, self.endings = 1000.0, seconds, endings or {}
        self.words: dict[str, list[str]] = {}  # output of a stage, by lines
        self.children: dict[str, FakeChild] = {}
        self.most_at_once = 0
        self.happens: dict[float, callable] = {}  # by time

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += 0.25
        running = [each for each in self.children.values() if each.ending() is None]
        self.most_at_once = max(self.most_at_once, len(running))
        for each in running:
            each.left -= 0 if each.is_paused else 0.25
        for at in [at for at in self.happens if at <= self.now]:
            self.happens.pop(at)()

    def start(self, command, log, environment) -> "FakeChild":
        name = command[-1]
        log.write_text("".join(f"{line}\n" for line in self.words.get(name, ())))
        self.children[name] = FakeChild(self, name, environment)
        return self.children[name]


class FakeChild:
    def __init__(self, machine, name, environment):
        self.machine, self.name, self.environment = machine, name, environment
        self.group, self.left, self.is_paused, self.ended_by = (
            50_000_000 + len(machine.children),
            machine.seconds[name],
            False,
            None,
        )

    def ending(self):
        if self.ended_by is not None:
            return Ending(-self.ended_by, "killed")
        return self.machine.endings.get(self.name, Ending(0, "")) if self.left <= 0 else None

    def wait(self, seconds):
        return self.ending()

    def pause(self):
        self.is_paused = True

    def resume(self):
        self.is_paused = False

    def signal(self, number):
        if number in (signal.SIGTERM, signal.SIGKILL) and self.ending() is None:
            self.ended_by = number

    def asks_for_its_turn(self):
        """Connect as bench/exclusive.py does."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.environment[SOCKET])
        connection.sendall(f"{self.group}\n".encode())
        return connection


def stage(name, expected_s=10, budget_s=30, needs=(), **fields):
    return Stage(name, (name,), expected_s, budget_s, RESULTS, "nothing", needs, **fields)


def run(tmp_path, machine, stages, minutes=1.0, received=(), limits=ONE):
    said = []
    received = received if isinstance(received, list) else list(received)
    runner = Runner(tmp_path / "out", minutes, received, limits, said.append, {"FASTGAN_CACHE": str(tmp_path)},
                    clock=machine.clock, sleep=machine.sleep, start=machine.start)  # fmt: skip
    return {outcome.stage: outcome for outcome in runner.run(tuple(stages))}, said


def test_what_does_not_fit_is_skipped_and_what_fits_later_runs(tmp_path):
    machine = FakeMachine({"a": 25, "b": 20, "d": 9})
    outcomes, said = run(
        tmp_path, machine, [stage("a"), stage("b"), stage("c", expected_s=20), stage("d", expected_s=10)]
    )
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "a": "ok",
        "b": "ok",
        "c": "skipped",
        "d": "ok",
    }
    assert outcomes["c"].reason == "takes about 20 s, 20 s are left"
    assert [outcomes[name].seconds for name in "abcd"] == [25.0, 20.0, 0.0, 9.0]
    assert "go on with: fastgan bench gpu --only c" in said[-2]
    assert said[-1].startswith("evidence: ")


def test_a_stage_is_ended_by_its_budget_and_by_the_deadline(tmp_path):
    machine = FakeMachine({"a": 100, "b": 100, "c": 1})
    outcomes, _ = run(tmp_path, machine, [stage("a", budget_s=45), stage("b"), stage("c")])
    assert {name: (outcome.state, outcome.reason) for name, outcome in outcomes.items()} == {
        "a": ("cut off", "stopped after 45 s"),
        "b": ("cut off", "stopped after 15 s"),
        "c": ("skipped", "takes about 10 s, 10 s are left"),
    }
    assert 1060 <= machine.now < 1061


def test_a_failure_ends_its_stage_alone(tmp_path):
    machine = FakeMachine(
        {"a": 1, "b": 1, "c": 1}, {"a": Ending(-11, "killed by SIGSEGV"), "c": Ending(1, "exit code 1")}
    )
    machine.words = {"b": ["fine"], "c": ["Traceback", "ValueError: no", ""]}
    outcomes, said = run(tmp_path, machine, [stage("a"), stage("b"), stage("c")])
    assert [outcome.state for outcome in outcomes.values()] == ["failed", "ok", "failed"]
    assert [outcome.reason for outcome in outcomes.values()] == ["killed by SIGSEGV", "", "exit code 1: ValueError: no"]
    assert said[0].split() == ["a", "failed", "1.0", "s", "killed", "by", "SIGSEGV"]


def test_what_is_missing_skips_its_stage_alone(tmp_path):
    stages = [
        stage("a", needs=("json", "no_such_module")),
        stage("b", programs=("no-such-program",)),
        stage("c", needs=("json",), programs=("sh",)),
    ]
    outcomes, _ = run(tmp_path, FakeMachine({"c": 1}), stages)
    assert [outcome.reason for outcome in outcomes.values()] == [
        "no_such_module not installed",
        "no-such-program not installed",
        "",
    ]
    assert outcomes["c"].state == "ok"


def test_after_a_signal_nothing_starts_what_runs_is_ended_and_the_table_is_written(tmp_path):
    machine, received = FakeMachine({"a": 20}), []
    machine.happens[1003.0] = lambda: received.append(signal.SIGTERM)
    outcomes, said = run(tmp_path, machine, [stage("a"), stage("b")], received=received)
    assert {outcome.reason for outcome in outcomes.values()} == {"interrupted by SIGTERM"}
    assert [outcome.state for outcome in outcomes.values()] == ["cut off", "skipped"]
    assert (tmp_path / "out" / "table.txt").read_text() == said[-2] + "\n"
    with tarfile.open(tmp_path / "out" / "evidence.tar.gz") as archive:
        assert {"log.txt", "table.txt", "results.jsonl"} <= set(archive.getnames())


def test_outcomes_are_rows_and_the_log_has_what_every_stage_said(tmp_path):
    machine = FakeMachine({"a": 1})
    machine.words = {"a": ["hello"]}
    run(tmp_path, machine, [stage("a")])
    [row] = json_lines.rows_since(tmp_path / "out" / RESULTS)
    assert (row["kind"], row["stage"], row["state"], row["command"]) == ("stage", "a", "ok", "python a")
    assert (tmp_path / "out" / "log.txt").read_text().splitlines() == [
        "==== a: python a",
        "---- a",
        "hello",
        "==== a: ok after 1.0 s",
    ]


# --- several at once --------------------------------------------------------------------------------------------------


def test_as_many_run_at_once_as_there_is_room_for_and_some_are_alone(tmp_path):
    machine = FakeMachine(dict.fromkeys("abcde", 5))
    run(
        tmp_path,
        machine,
        [stage("a", slots=2), stage("b"), stage("c"), stage("d"), stage("e", is_alone=True)],
        limits=SEVERAL,
    )
    assert machine.most_at_once == 2
    assert machine.now == pytest.approx(1000 + 15, abs=1.5)  # a with b, then c with d, then e


def test_memory_limits_what_runs_at_once(tmp_path):
    machine = FakeMachine(dict.fromkeys("abc", 2))
    run(
        tmp_path,
        machine,
        [stage("a", memory_gb=60), stage("b", memory_gb=60), stage("c", memory_gb=40)],
        limits=SEVERAL,
    )
    assert machine.most_at_once == 2


def test_while_one_measures_the_others_stand_still_and_their_time_does_not_count(tmp_path):
    machine, held = FakeMachine({"a": 20, "b": 20}), []
    machine.happens[1004.0] = lambda: held.append(machine.children["a"].asks_for_its_turn())
    seen = {}
    machine.happens[1008.0] = lambda: seen.update(
        a=machine.children["a"].is_paused, b=machine.children["b"].is_paused, lent=held[0].recv(1)
    )
    machine.happens[1014.0] = lambda: held[0].close()
    outcomes, _ = run(tmp_path, machine, [stage("a", budget_s=25), stage("b", budget_s=25)], limits=SEVERAL)
    assert seen == {"a": False, "b": True, "lent": b"g"}
    assert [outcome.state for outcome in outcomes.values()] == ["ok", "ok"]
    assert outcomes["a"].seconds == outcomes["b"].seconds == 20.0
    assert machine.now == pytest.approx(1030, abs=1)


def test_nothing_begins_beside_one_that_measures(tmp_path):
    machine, held = FakeMachine({"a": 10, "b": 2, "c": 2}), []
    machine.happens[1001.0] = lambda: held.append(machine.children["a"].asks_for_its_turn())
    machine.happens[1001.5] = lambda: setattr(machine.children["b"], "ended_by", signal.SIGSEGV)  # its place is free
    seen = []
    machine.happens[1006.0] = lambda: seen.append("c" in machine.children) or held[0].close()
    outcomes, _ = run(tmp_path, machine, [stage("a"), stage("b"), stage("c")], limits=Limits(2, 100.0))
    assert seen == [False]
    assert outcomes["c"].state == "ok"


def test_one_that_waits_for_its_turn_is_not_charged_and_gets_it_when_the_other_dies(tmp_path):
    machine, held = FakeMachine({"a": 8, "b": 16}), {}
    machine.happens[1001.0] = lambda: held.update(a=machine.children["a"].asks_for_its_turn())
    machine.happens[1002.0] = lambda: held.update(b=machine.children["b"].asks_for_its_turn())

    def dies():
        machine.children["a"].ended_by = signal.SIGSEGV
        held["a"].close()

    machine.happens[1005.0] = dies
    machine.happens[1009.0] = lambda: held.update(lent=held["b"].recv(1)) or held["b"].close()
    outcomes, _ = run(tmp_path, machine, [stage("a"), stage("b")], limits=SEVERAL)
    assert held["lent"] == b"g"
    assert outcomes["a"].state == "failed"
    assert (outcomes["b"].state, outcomes["b"].seconds) == ("ok", 16.0)
    assert machine.now > 1016


def test_a_refused_rung_is_bisected_next_and_once(tmp_path):
    refusal = {"kind": "refusal", "preset": "mlp", "batch_size": 8, "resolution": 28, "channels": 1, "amp": True,
               "refused": ["captured"], "reasons": ["no"], "tracebacks": ["Traceback ..."]}  # fmt: skip

    class Refusing(FakeMachine):
        def start(self, command, log, environment):
            if command[-1] in ("a", "b"):
                (log.parent / REFUSALS).write_text(json.dumps(refusal) + "\n")
                assert environment[EVIDENCE] == str(log.parent)
            if "fastgan.bench.gpu.bisect" in command:
                command = ["bisect"]
            return super().start(command, log, environment)

    machine = Refusing({"a": 1, "b": 1, "c": 1, "bisect": 1})
    stages = [stage("a", environment=(("KEY", "value"),)), stage("b"), stage("c")]
    outcomes, _ = run(tmp_path, machine, stages, minutes=10)
    assert list(outcomes) == ["a", "bisect-1", "b", "c"]
    assert machine.children["bisect"].environment["KEY"] == "value"
    refusals = [row for row in json_lines.rows_since(tmp_path / "out" / RESULTS) if row["kind"] == "refusal"]
    assert [(row["stage"], row["tracebacks"]) for row in refusals] == [
        ("a", ["Traceback ..."]),
        ("b", ["Traceback ..."]),
    ]


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
        Runner(tmp_path / "file", 1.0, [], ONE)


# --- a run of real processes ------------------------------------------------------------------------------------------

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
from fastgan.processes import signals_received
from fastgan.bench.gpu.plan import RESULTS
from fastgan.bench.gpu.runner import Runner, exit_code
from fastgan.bench.gpu.stage import ROWS, Limits, Stage
stages = tuple(Stage(name, ("-c", {ROWS_THEN_SLEEP!r}, ROWS), 5, 60, RESULTS, "") for name in ("first", "second"))
with signals_received() as received:
    outcomes = Runner(pathlib.Path(sys.argv[1]), 5, received, Limits(1, 100.0)).run(stages)
sys.exit(exit_code(outcomes, received))
"""


def test_a_run_that_is_cut_off_leaves_whole_rows_and_the_table(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    path = tmp_path / RESULTS
    for _ in range(400):
        if path.exists() and path.read_bytes().count(b"\n") == 3:  # collected as they come
            break
        time.sleep(0.05)
    process.terminate()
    shown, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["kind"] for row in found] == ["test"] * 3 + ["stage"] * 2
    assert [(row["stage"], row["state"], row["figure"]) for row in found[3:]] == [
        ("first", "cut off", "3 passed"),
        ("second", "skipped", ""),
    ]
    assert found[3]["reason"] == "interrupted by SIGTERM"
    assert (tmp_path / "table.txt").read_text() in shown
