"""Counters of a step on CUDA: launches, waits of the host, and memory.

Each counter calls a function that makes `num_steps` steps a few times, and gives the numbers of one
step. Without CUDA nothing is counted: None.
"""
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

NUM_CALLS = 4  # that are counted; the steps must have reached their full speed before
SYNC_WARNING = "called a synchronizing CUDA operation"  # torch's, in torch.cuda.set_sync_debug_mode("warn")
# Host calls that start work on the device: one kernel, or one graph of any number of kernels.
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
    """The counts of one step; None where they cannot be taken."""

    kernel_launches: float | None = None
    host_syncs: float | None = None


def count(call: Callable[[], object], num_steps: int, device: torch.device) -> Counters:
    """Count the launches and waits of a step.

    Call it after the timing: a profiler that has run once may slow down every later launch.
    """
    if device.type != "cuda":
        return Counters()
    steps = NUM_CALLS * num_steps
    return Counters(launches(_profiled(call)) / steps, syncs(_warnings(call)) / steps)


def launches(events: Iterable) -> int:
    """Return the number of launches among a profiler's events (name, thread, time_range).

    An event inside another one of the same thread belongs to the same launch.
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
    """Return the number of warnings that report a wait of the host for the device."""
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
    """Memory that an implementation takes from its building on.

    Make one before it is built; ask `peak_mb` when it runs at full speed.
    """

    def __init__(self, device: torch.device):
        self._on_cuda = device.type == "cuda"
        self._before = _held() if self._on_cuda else (0, 0)

    def peak_mb(self, call: Callable[[], object]) -> float | None:
        """Return the peak memory of a few calls in MB (10^6 bytes), above what was held before.

        Counted are tensors, and what the pools of CUDA graphs keep.
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
    """Return (bytes of tensors, bytes that graph pools keep beyond their tensors).

    The pools of CUDA graphs keep the latter for the next replay.
    """
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated(), idle_in_pools(torch.cuda.memory_snapshot())


def idle_in_pools(segments: Iterable[dict]) -> int:
    """Return the bytes of segments that belong to CUDA graphs and hold no tensor.

    The segments are those of an allocator. A replay writes there, and nothing else may.
    """
    return sum(
        segment["total_size"] - segment["allocated_size"]
        for segment in segments
        if tuple(segment["segment_pool_id"]) != (0, 0)
    )
