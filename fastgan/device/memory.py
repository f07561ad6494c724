"""Memory: what a process has, a full GPU as a UserError, and freed host memory that it keeps."""
import contextlib
import ctypes
import functools
import math
import os
import sys
from collections.abc import Iterator

import torch

from fastgan.errors import UserError


def memory_in_words() -> str:
    """Return "gpumem 1.23 GB", or "rss 1.23 GB" where this process does not use CUDA."""
    return f"{'gpumem' if torch.cuda.is_initialized() else 'rss'} {memory_gb():.2f} GB"


def memory_gb() -> float:
    """Return memory in GB (1e9 bytes).

    It is the peak of CUDA tensors, or the resident set where this process does not use CUDA.
    Outside Linux the resident set is its peak, and NaN on Windows, which has no call for it in the
    standard library.
    """
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e9
    if sys.platform.startswith("linux"):
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9
    if sys.platform == "win32":
        return math.nan
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # bytes on macOS


@contextlib.contextmanager
def cuda_oom_as_user_error() -> Iterator[None]:
    """Turn a failed CUDA allocation inside into a UserError.

    The message gives the requested and the free memory, and the remedies.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        # Torch's own sentences: the requested memory, and the memory that the GPU has and has left.
        asked, has, *_ = [*str(error).replace("CUDA out of memory. ", "").split(". "), "", ""]
        remedy = (
            "lower --batch-size or --resolution, stop other processes on the GPU, "
            "or keep the images in host memory with --data-backend stream"
        )
        raise UserError(f"the GPU is full: {asked.strip()}; {has.strip()}: {remedy}") from None


# mallopt's parameters for free memory on top that is given back, and for blocks that are mapped one
# by one.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST = 2**30  # bytes: of blocks that are kept; larger ones are mapped alone and given back, as before


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep memory that it frees, up to its own peak, from now on.

    Returns False, and changes nothing, where the C library is not glibc.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all(libc.mallopt(option, LARGEST) == 1 for option in (TRIM_THRESHOLD, MMAP_THRESHOLD))
