"""The CUDA kernels of the deconvolutions, run on the CPU by deconv_index_host.cpp: every index, fragment, barrier and copy of their source."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("deconv_index_host.cpp")
FLAGS = ["-std=c++17", "-O1", "-fno-strict-aliasing", "-Wall", "-Wno-unknown-pragmas", "-x", "c++"]
GROUPS = ["up", "down", "weight", "gathered", "few_channels", "scalar", "tile_table", "elements", "far_offsets", "division"]
GROUPS += [pytest.param("every_tile", marks=pytest.mark.thorough)]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if not sys.platform.startswith("linux") or shutil.which("g++") is None:
        pytest.skip("needs g++ on Linux")
    path = tmp_path_factory.mktemp("deconv") / "deconv_index_host"
    built = subprocess.run(["g++", *FLAGS, SOURCE, "-o", path], capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, "")
    return path


@pytest.mark.parametrize("group", GROUPS)
def test_kernels_run_on_the_cpu(program, group):
    run = subprocess.run([program, group], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, f"exit status {run.returncode}\n{run.stdout}{run.stderr}"


def test_an_unknown_group_fails(program):
    run = subprocess.run([program, "sideways"], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (1, "there is no group sideways\n")
