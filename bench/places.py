"""Where the package lies, where measurements are kept, and the compiler cache of a measurement."""
import contextlib
import os
from pathlib import Path

import fastgan

ROOT = Path(fastgan.__file__).parents[1]  # `python -m fastgan` that starts here runs this very package
CHECKOUT = ROOT if (ROOT / "pyproject.toml").is_file() else None  # None where the package is installed
# The present folder where there is no checkout
RESULTS = CHECKOUT / "bench" / "results" if CHECKOUT else Path()
DOCS = CHECKOUT / "docs" if CHECKOUT else Path()
KEPT = "FASTGAN_BENCH_KEEPS_CACHE"  # set: the caches that the environment names are used


def compiler_cache(folder: str) -> contextlib.AbstractContextManager:
    """Let Inductor and Triton use an empty cache below `folder`, or the kept one, inside."""
    if KEPT in os.environ:
        return contextlib.nullcontext()
    from torch._inductor.utils import fresh_cache  # slow to import, and not needed where nothing is compiled

    return fresh_cache(dir=folder, delete=False)
