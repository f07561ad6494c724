"""The compiler cache that a step is built with.

Either an empty one, so that the compile time can be measured, or one that is kept from run to run.
"""

import contextlib
import os

KEPT = "FASTGAN_BENCH_KEEPS_CACHE"  # set: the caches that the environment names are used


def compiler_cache(folder: str) -> contextlib.AbstractContextManager:
    """Let Inductor and Triton use an empty cache below `folder`, or the kept one, inside."""
    if KEPT in os.environ:
        return contextlib.nullcontext()
    from torch._inductor.utils import fresh_cache  # slow to import, and not needed where nothing is compiled

    return fresh_cache(dir=folder, delete=False)
