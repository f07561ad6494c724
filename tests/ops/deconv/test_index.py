"""The CUDA kernels of the deconvolutions, run on the CPU by the programs *_host.cpp.

They run every index, fragment, barrier and copy of the kernels' source.
"""
import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FLAGS = ["-std=c++17", "-O1", "-fno-strict-aliasing", "-Wall", "-Wno-unknown-pragmas", "-x", "c++"]
GROUPS = {
    "deconv_index_host": [
        "up", "down", "weight", "gathered", "few_channels", "scalar", "tile_table", "elements", "far_offsets",
        "division", pytest.param("every_tile", marks=pytest.mark.thorough),
    ],
    "deconv_stats_host": [
        "up", "down", "same_bits", "far_from_zero", "refusals", pytest.param("more", marks=pytest.mark.thorough),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Return a function from the name of a program to its path; build each program once."""
    if not sys.platform.startswith("linux") or shutil.which("g++") is None:
        pytest.skip("needs g++ on Linux")

    @functools.cache
    def program(name):
        path = tmp_path_factory.mktemp("deconv") / name
        built = subprocess.run(["g++", *FLAGS, HERE / f"{name}.cpp", "-o", path], capture_output=True, text=True)
        assert (built.returncode, built.stderr) == (0, "")
        return path

    return program


@pytest.mark.parametrize("group", GROUPS["deconv_index_host"])
def test_kernels_run_on_the_cpu(build, group):
    check(build("deconv_index_host"), group)


@pytest.mark.parametrize("group", GROUPS["deconv_stats_host"])
def test_kernels_that_sum_up_what_they_write_run_on_the_cpu(build, group):
    check(build("deconv_stats_host"), group)


def check(program, group):
    run = subprocess.run([program, group], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, f"exit status {run.returncode}\n{run.stdout}{run.stderr}"


@pytest.mark.parametrize("name", GROUPS)
def test_an_unknown_group_fails(build, name):
    run = subprocess.run([build(name), "sideways"], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (1, "there is no group sideways\n")
