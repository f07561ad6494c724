"""Freed memory stays with the process, so that the next step finds it without page faults."""
import subprocess
import sys

import pytest

from fastgan import host_memory

PROGRAM = """
import resource, sys
from fastgan.host_memory import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    print(-1)
    raise SystemExit
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"1") * 40_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults_of_a_step(mode: str) -> int:
    """Page faults of a block of 40 MB that was there before."""
    return int(subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True).stdout)


def test_a_block_that_comes_back_costs_no_page_faults():
    kept = faults_of_a_step("kept")
    if kept < 0:
        pytest.skip("the C library is not glibc")
    assert kept < 100
    assert faults_of_a_step("as it is") > 10 * max(kept, 1)


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda name: object())
    assert host_memory.keep_freed_memory.__wrapped__() is False
