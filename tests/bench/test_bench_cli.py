"""The two ways to start bench, and where it keeps what it measures."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastgan
from fastgan import cli
from fastgan.bench.cli import _parser, main
from fastgan.bench.commands import cuda_code_command

CHECKOUT = Path(__file__).parents[2]
PACKAGE_ROOT = Path(fastgan.__file__).parents[1]
COMMANDS = ("step", "ops", "loader", "quality", "gpu", "cuda-code", "table")


def printed(code: str, folder: Path = PACKAGE_ROOT) -> str:
    """Return the last line that a process prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_its_help_lists_the_commands_under_the_name_by_which_it_was_started(capsys):
    for run, prog in (
        (lambda: cli.main(["bench", "--help"]), "fastgan bench"),
        (lambda: main(["--help"], prog="python -m bench"), "python -m bench"),
    ):
        with pytest.raises(SystemExit) as ended:
            run()
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: {prog} [-h] COMMAND")
        assert all(f"\n    {name}" in shown for name in COMMANDS)


def test_other_commands_do_not_load_it():
    code = """
import sys
from fastgan import cli
for words in (["--help"], ["train", "--help"], ["train", "--list-presets"]):
    try:
        cli.main(words)
    except SystemExit:
        pass
print([name for name in sys.modules if name.startswith("fastgan.bench")])
"""
    assert printed(code) == "[]"


def test_in_a_checkout_no_module_is_loaded_under_two_names():
    code = """
import runpy, sys
sys.argv = ["bench", "gpu", "--plan"]
try:
    runpy.run_module("bench", run_name="__main__")
except SystemExit:
    pass
print([name for name in sys.modules if name.split(".")[0] == "bench"], "fastgan.bench.gpu.plan" in sys.modules)
"""
    assert printed(code, CHECKOUT) == "['bench'] True"


def test_without_a_checkout_rows_are_kept_in_the_present_folder(tmp_path):
    for name in ("fastgan", "bench", "kernels"):
        if (PACKAGE_ROOT / name).exists():
            (tmp_path / name).symlink_to(PACKAGE_ROOT / name)
    code = "from fastgan.bench import cli, places, step_rows; print(places.CHECKOUT, step_rows.STEP_RESULTS, cli.HOME)"
    assert printed(code, tmp_path) == "None step.jsonl ./"


def test_a_reader_that_goes_away_is_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "fastgan", "bench", "gpu", "--plan"]
    done = subprocess.run(command, cwd=PACKAGE_ROOT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_command_of_generated_code_is_whole_and_names_no_file():
    words = "cuda-code --preset dcgan --batch-size 128 --augment ada --cond --combo --no-machine-code --ops deconv=cuda"
    options = _parser("bench").parse_args([*words.split(), "--keep", "/tmp/code", "--json", "/tmp/rows", "--save"])
    again = cuda_code_command(options)
    assert "/tmp" not in again
    assert vars(_parser("bench").parse_args(again.split()[2:])) | {"keep": options.keep, "json": options.json} == {
        **vars(options), "save": None
    }  # fmt: skip
    family = _parser("bench").parse_args(["cuda-code", "--family"])
    assert cuda_code_command(family) == "fastgan bench cuda-code --family"
