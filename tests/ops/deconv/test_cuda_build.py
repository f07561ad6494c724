"""Every CUDA source compiles, and no kernel spills registers to slow memory."""
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCES = sorted((Path(__file__).parents[3] / "csrc").glob("*.cu"))
ARCHITECTURES = ("90", "80")  # a minute each on two cores
KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for 'sm_(?P<architecture>\d+)'"
    r".*?(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


class Kernel(NamedTuple):
    """Report of ptxas on a kernel; bytes of spilled registers a thread."""

    name: str
    architecture: str
    spilled: int
    registers: int
    rest: str  # barriers, and shared memory whose size is known beforehand


def kernels_of(report: str) -> Iterator[Kernel]:
    for found in KERNEL.finditer(report):
        spilled = int(found["stores"]) + int(found["loads"])
        yield Kernel(found["name"], found["architecture"], spilled, int(found["registers"]), found["rest"])


def compile_source(source: Path, architecture: str, folder: Path) -> subprocess.CompletedProcess:
    code = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
    result = folder / source.with_suffix(".fatbin").name
    command = ["nvcc", "-std=c++17", "-O3", "-fatbin", "-Xptxas", "-v", code, source, "-o", result]
    return subprocess.run(command, capture_output=True, text=True)


REPORT = """ptxas info    : Compiling entry function '_Z4fastv' for 'sm_80'
ptxas info    : Function properties for _Z4fastv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 480 bytes cmem[0]
ptxas info    : Compiling entry function '_Z4slowv' for 'sm_90'
ptxas info    : Function properties for _Z4slowv
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers
"""


def test_a_report_is_read():
    fast, slow = kernels_of(REPORT)
    assert fast[:4] == ("_Z4fastv", "80", 0, 32)
    assert slow[:4] == ("_Z4slowv", "90", 16, 255)


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_kernel_spills(tmp_path, architecture):
    with ThreadPoolExecutor(2) as pool:
        compiled = pool.map(lambda source: compile_source(source, architecture, tmp_path), SOURCES)
        results = dict(zip(SOURCES, compiled, strict=True))
    kernels = []
    for source, result in results.items():
        assert result.returncode == 0, f"{source.name}: {result.stderr}"
        assert "warning" not in result.stderr, f"{source.name}: {result.stderr}"
        kernels += kernels_of(result.stderr)
    print(*(f"sm_{k.architecture} {k.registers:3} registers{k.rest} {k.name}" for k in kernels), sep="\n")
    assert {k.architecture for k in kernels} == {architecture}
    assert len({k.name for k in kernels}) > 30, "ptxas reported fewer kernels than there are"
    assert [k for k in kernels if k.spilled] == []
