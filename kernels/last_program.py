"""Detection of the last program of a launch, which combines the results of all programs.

Programs count themselves at a ticket, an int32 that is zero before and after: the last one resets
it, as a replayed CUDA graph needs it. Results are combined in the same order whichever program is
the last.
"""

import triton
import triton.language as tl

TICKETS = 4096  # of a device: groups of columns of the widest launch
MOST_RUNS = 128  # runs of rows whose sums the last program reads at a time
CACHED = tl.constexpr(".cg")  # other programs wrote it: read it from where all multiprocessors see it


@triton.jit
def is_last(ticket, num):
    """Return true in the last of the `num` programs that call this.

    All programs have then written their results, and the ticket is zero again.
    """
    tl.debug_barrier()  # all threads have written
    last = tl.atomic_add(ticket, 1, sem="acq_rel") == num - 1
    if last:
        tl.store(ticket, 0)
    return last


@triton.jit
def runs_at(start, runs, c, C, BLOCK_RUNS: tl.constexpr):
    """Return (numbers of BLOCK_RUNS runs, addresses of their columns c, mask of existing ones)."""
    run = start + tl.arange(0, BLOCK_RUNS)
    return run, run[:, None] * C + c[None, :], (run < runs)[:, None] & (c < C)[None, :]
