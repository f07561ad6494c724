"""How the last program of a launch is found, which puts together what all of them wrote.

Programs count themselves at a ticket, an int32 that is zero before and after: the last one leaves
it so, as a replayed CUDA graph needs it. Results are put together in the same order whoever that
is.
"""

import triton
import triton.language as tl

TICKETS = 4096  # of a device: groups of columns of the widest launch
MOST_RUNS = 128  # runs of rows whose sums the last program reads at a time
CACHED = tl.constexpr(".cg")  # other programs wrote it: read it from where all multiprocessors see it


@triton.jit
def is_last(ticket, num):
    """Return true in the last of the `num` programs that come here: all have written, the ticket is
    at zero.
    """
    tl.debug_barrier()  # all threads have written
    last = tl.atomic_add(ticket, 1, sem="acq_rel") == num - 1
    if last:
        tl.store(ticket, 0)
    return last


@triton.jit
def runs_at(start, runs, c, C, BLOCK_RUNS: tl.constexpr):
    """Return (numbers of BLOCK_RUNS runs, where their columns c lie, which of them there are)."""
    run = start + tl.arange(0, BLOCK_RUNS)
    return run, run[:, None] * C + c[None, :], (run < runs)[:, None] & (c < C)[None, :]
