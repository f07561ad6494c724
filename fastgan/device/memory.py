"""Memory: a full GPU as a UserError, and freed host memory that the process keeps."""
import contextlib
import ctypes
import functools
from collections.abc import Iterator

import torch

from fastgan.errors import UserError


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
