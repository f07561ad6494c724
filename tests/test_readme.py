"""The commands and examples of the README work."""
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fastgan.metrics.names import parse

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_the_first_command_is_the_main_job_and_the_second_the_tests():
    commands = re.findall(r"^pip install .*$", TEXT, flags=re.MULTILINE)
    assert commands[0].startswith("pip install . && fastgan train --amp --compile")
    assert commands[1].startswith("pip install '.[test]' && pytest")


@pytest.mark.slow
def test_the_main_job_runs(tmp_path):
    """The README's first command runs, with 20 steps instead of the whole run."""
    command = re.search(r"fastgan (train --amp --compile)", TEXT)[1]
    arguments = [*shlex.split(command), "--steps", "20", "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-m", "fastgan", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "fakes000001.png").exists()
    assert '"compiled"' in (tmp_path / "run" / "stats.jsonl").read_text()


def test_every_train_command_of_the_readme_is_understood():
    from fastgan.cli import commands as cli_commands
    from fastgan.cli.parser import make_parser

    commands = re.findall(r"^fastgan (train [^#`\n]*)", TEXT, flags=re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        if "--resume" not in command:
            assert cli_commands.configuration(make_parser().parse_args(shlex.split(command))), command


def test_every_metric_of_the_readme_is_known():
    asked = re.findall(r"--metrics (\S+)", TEXT)
    assert len(asked) >= 2
    for names in asked:
        assert parse(names, num_real=50_000)


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    """The examples run one after the other, with short runs and no compiling in the place of theirs."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL))
    code = code.replace("compile=True", "compile=False").replace('"D": 2e-4})', '"D": 2e-4}, compile=False)')
    code, changed = re.subn(r"kimg=\d+", "kimg=0.2", code)
    assert changed == 3
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def test_the_example_of_a_step_runs(tmp_path, monkeypatch):
    page = (README.parent / "docs" / "own-networks.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code.replace("batch_size=256", "batch_size=256, compile=False").replace("kimg=100", "kimg=8"),
                 "own-networks.md", "exec"), names)  # fmt: skip
    assert names["samples"].shape == (1000, 2)


def test_every_path_that_the_readme_names_exists():
    pages = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#:]+)\)", pages)
    assert links
    for link in links:
        assert (README.parent / link).exists(), link
