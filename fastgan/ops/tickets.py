"""Memory in which the programs of our Triton kernels count themselves (kernels/last_program.py)."""

import functools

import torch

CAPTURED_FIRST = "a CUDA graph was recorded before the first call on {} of {}: run the step once, then record it"


@functools.cache
def tickets(device: torch.device, op: str) -> torch.Tensor:
    """Return int32 [TICKETS] for the launches of an operator on a device, zeros between them.

    One tensor serves all calls, since new zeros would cost every call a launch. So calls must come
    one after the other, on one stream at a time, as all of a step does. It must outlive every graph
    that holds its address, and not lie in a graph's pool, where only replays of that graph would
    set it to zero. Raises RuntimeError where a graph is being recorded and there is none yet.
    """
    from fastgan.kernels import last_program

    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(CAPTURED_FIRST.format(device, op))
    return torch.zeros(last_program.TICKETS, dtype=torch.int32, device=device)
