"""Memory of the process, a full GPU as a UserError, and freed memory that the process keeps."""
import mmap
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from fastgan.device import memory
from fastgan.device.memory import cuda_oom_as_user_error
from fastgan.errors import UserError

TORCHS = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 139.80 GiB of which 1.25 GiB "
    "is free. Process 7 has 138.55 GiB memory in use. Of the allocated memory 137.00 GiB is allocated by PyTorch, "
    "and 1.00 GiB is reserved by PyTorch but unallocated."
)


def test_a_full_gpu_says_what_was_asked_for_and_what_is_free():
    with (
        pytest.raises(
            UserError, match=r"Tried to allocate 2.50 GiB; GPU 0 has .* 1.25 GiB is free: lower --batch-size"
        ),
        cuda_oom_as_user_error(),
    ):
        raise torch.OutOfMemoryError(TORCHS)


def test_another_message_is_kept_and_other_errors_pass():
    with pytest.raises(UserError, match="the GPU is full: no idea"), cuda_oom_as_user_error():
        raise torch.OutOfMemoryError("no idea")
    with pytest.raises(RuntimeError, match="something else"), cuda_oom_as_user_error():
        raise RuntimeError("something else")


@pytest.mark.gpu
def test_an_allocation_beyond_all_memory():
    with pytest.raises(UserError, match="the GPU is full: Tried to allocate .* free"), cuda_oom_as_user_error():
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")


PROGRAM = """
import resource, sys
from fastgan.device.memory import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    print(-1)
    raise SystemExit
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"1") * 40_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults_of_a_step(mode: str) -> int:
    """Return the page faults of a 40 MB block that was allocated before."""
    return int(subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True).stdout)


def test_a_block_that_comes_back_costs_no_page_faults():
    kept = faults_of_a_step("kept")
    if kept < 0:
        pytest.skip("the C library is not glibc")
    assert kept < 100
    assert faults_of_a_step("as it is") > 10 * max(kept, 1)


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory.__wrapped__() is False


def test_memory_of_the_process_grows_with_what_it_holds():
    before = memory.memory_gb()
    held = mmap.mmap(-1, 200_000_000)  # of the system: a tensor may lie in memory that the process has kept
    np.frombuffer(held, np.uint8)[:] = 1
    words = memory.memory_in_words()
    assert re.fullmatch(r"(rss|gpumem) \d+\.\d\d GB", words)
    assert 0.01 < before < 1000
    if words.startswith("rss"):
        assert memory.memory_gb() - before == pytest.approx(len(held) / 1e9, rel=0.2)
