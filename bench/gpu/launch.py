"""Command lines of the Python processes of stages.

A stage starts Python as it is, or, in a rehearsal, through a module that makes everything small and
replaces CUDA graphs by a stand-in.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
REHEARSAL = "FASTGAN_BENCH_REHEARSAL"  # set in the stages of a rehearsal
MODULE = "bench.gpu.rehearse"


def is_rehearsed() -> bool:
    """Return True in the processes of a rehearsal."""
    return REHEARSAL in os.environ


def python(*arguments: str) -> list[str]:
    """Return the command that runs `python -m MODULE ...` as this process was run."""
    return [sys.executable, *(("-m", MODULE) if is_rehearsed() else ()), *arguments]
