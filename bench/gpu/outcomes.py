"""A pytest plugin that writes the outcome of every test at once.

`pytest -p bench.gpu.outcomes --outcomes FILE`
"""
from pathlib import Path

import pytest

from bench.gpu import rows

MESSAGE_LENGTH = 300


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", type=Path, metavar="FILE", help="append a line of JSON for every test")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--outcomes")
    # A worker of pytest-xdist: its reports come to the process that started it
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(path))


class Outcomes:
    """Writer that appends to `path` as tests end."""

    def __init__(self, path: Path):
        self.path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Append a row for the test itself, or for the fixture that failed or skipped it."""
        if report.when == "call" or report.outcome != "passed":
            row = {
                "kind": "test",
                "test": report.nodeid,
                "outcome": report.outcome,
                "seconds": round(report.duration, 3),
            }
            rows.append(self.path, {**row, "message": _message(report)})


def _message(report: pytest.TestReport) -> str:
    """Return the first line of the error, or the reason of the skip."""
    lines = [line for line in report.longreprtext.splitlines() if line.strip()]
    errors = [line.removeprefix("E").strip() for line in lines if line.startswith("E  ")]
    return (errors or lines[-1:] or [""])[0][:MESSAGE_LENGTH]
