"""Memory: a full GPU as a UserError, and freed host memory that is kept."""
import contextlib
import ctypes
import functools
from collections.abc import Iterator

import torch

from fastgan.errors import UserError


@contextlib.contextmanager
def cuda_oom_as_user_error() -> Iterator[None]:
    """An allocation that fails inside becomes a UserError that says what was asked for, what is
    free, and what can be done.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        # torch's own sentences: how much was asked for, and how much the GPU has and has left.
        asked, has, *_ = [*str(error).replace("CUDA out of memory. ", "").split(". "), "", ""]
        remedy = "lower --batch-size or --resolution, end what else runs there, or keep the images in host memory with --data-backend stream"
        raise UserError(f"the GPU is full: {asked.strip()}; {has.strip()}: {remedy}") from None


# Mallopt's names for free memory on top that is given back, and for blocks that are mapped one by
# one
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST = 2**30  # bytes: of blocks that are kept; what is larger is mapped by itself and given back, as before


@functools.cache
def keep_freed_memory() -> bool:
    """From now on this process keeps memory that it frees, up to its own peak.

    False, and nothing changes, where the C library is not glibc.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all(libc.mallopt(option, LARGEST) == 1 for option in (TRIM_THRESHOLD, MMAP_THRESHOLD))
