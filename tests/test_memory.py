import pytest
import torch

from fastgan.errors import UserError
from fastgan.memory import full_gpu_said

TORCHS = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 139.80 GiB of which 1.25 GiB is free. Process 7 has 138.55 GiB "
    "memory in use. Of the allocated memory 137.00 GiB is allocated by PyTorch, and 1.00 GiB is reserved by PyTorch but unallocated."
)


def test_a_full_gpu_says_what_was_asked_for_and_what_is_free():
    with pytest.raises(UserError, match=r"Tried to allocate 2.50 GiB; GPU 0 has .* 1.25 GiB is free: lower --batch-size"), full_gpu_said():
        raise torch.OutOfMemoryError(TORCHS)


def test_another_message_is_kept_and_other_errors_pass():
    with pytest.raises(UserError, match="the GPU is full: no idea"), full_gpu_said():
        raise torch.OutOfMemoryError("no idea")
    with pytest.raises(RuntimeError, match="something else"), full_gpu_said():
        raise RuntimeError("something else")


@pytest.mark.gpu
def test_an_allocation_beyond_all_memory():
    with pytest.raises(UserError, match="the GPU is full: Tried to allocate .* free"), full_gpu_said():
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
