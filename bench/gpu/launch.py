"""How a stage starts Python: as it is, or, in a rehearsal, through what makes everything small and
puts a stand-in in the place of CUDA graphs.
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
    """The command that runs `python -m MODULE ...` as this process was run."""
    return [sys.executable, *(("-m", MODULE) if is_rehearsed() else ()), *arguments]
