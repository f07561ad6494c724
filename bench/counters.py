"""What a step costs beside its time, on CUDA: how often the host launches work and waits for it,
and the memory that it takes.

Everything here runs a call that makes `num_steps` steps a few times, and gives the numbers of one
step. Without CUDA nothing is counted: None.
"""
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

NUM_CALLS = 4  # that are counted; the steps must have reached their full speed before
SYNC_WARNING = "called a synchronizing CUDA operation"  # torch's, in torch.cuda.set_sync_debug_mode("warn")
# The calls of the host that start work on the device: one kernel, or one graph of any number of kernels.
LAUNCHES = (
    "cudaLaunchKernel",
    "cuLaunchKernel",
    "cudaLaunchCooperativeKernel",
    "cuLaunchCooperativeKernel",
    "cudaGraphLaunch",
    "cuGraphLaunch",
)


@dataclass(frozen=True)
class Counters:
    """What was counted of one step; None where it cannot be."""

    kernel_launches: float | None = None
    host_syncs: float | None = None


def count(call: Callable[[], object], num_steps: int, device: torch.device) -> Counters:
    """Launches and waits of a step.

    To be called after the timing: a profiler that has run once may slow every later launch down.
    """
    if device.type != "cuda":
        return Counters()
    steps = NUM_CALLS * num_steps
    return Counters(launches(_profiled(call)) / steps, syncs(_warnings(call)) / steps)


def launches(events: Iterable) -> int:
    """How many of a profiler's events (name, thread, time_range) are launches; one inside another,
    of the same thread, is the same launch.
    """
    num, end_of = 0, {}
    for event in sorted(
        (event for event in events if event.name.startswith(LAUNCHES)), key=lambda event: event.time_range.start
    ):
        if event.time_range.start >= end_of.get(event.thread, float("-inf")):
            num += 1
            end_of[event.thread] = event.time_range.end
    return num


def syncs(caught: Iterable[warnings.WarningMessage]) -> int:
    """How many of the warnings say that the host waited for the device."""
    return sum(SYNC_WARNING in str(warning.message) for warning in caught)


def _profiled(call: Callable[[], object]) -> Iterable:
    activities = (torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA)
    # Without it torch 2.11 warns of a second cycle's events
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        for _ in range(NUM_CALLS):
            call()
        torch.cuda.synchronize()
    return profile.events()


def _warnings(call: Callable[[], object]) -> list[warnings.WarningMessage]:
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in range(NUM_CALLS):
                call()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return caught


class MemoryMeter:
    """The memory that something takes from its building on.

    Make one before it is built; ask `peak_mb` when it runs at full speed.
    """

    def __init__(self, device: torch.device):
        self._on_cuda = device.type == "cuda"
        self._before = _held() if self._on_cuda else (0, 0)

    def peak_mb(self, call: Callable[[], object]) -> float | None:
        """MB (10^6 bytes) at the highest point of a few calls, above what was held before: tensors,
        and what the pools of CUDA graphs keep.
        """
        if not self._on_cuda:
            return None
        torch.cuda.reset_peak_memory_stats()
        for _ in range(NUM_CALLS):
            call()
        torch.cuda.synchronize()
        _, idle = _held()
        return (torch.cuda.max_memory_allocated() - self._before[0] + idle - self._before[1]) / 1e6


def _held() -> tuple[int, int]:
    """(bytes of tensors, bytes that the pools of graphs keep for the next replay beyond their
    tensors).
    """
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated(), idle_in_pools(torch.cuda.memory_snapshot())


def idle_in_pools(segments: Iterable[dict]) -> int:
    """Bytes of an allocator's segments that belong to CUDA graphs and hold no tensor: a replay
    writes there, and nobody else may.
    """
    return sum(
        segment["total_size"] - segment["allocated_size"]
        for segment in segments
        if tuple(segment["segment_pool_id"]) != (0, 0)
    )
