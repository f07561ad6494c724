"""Timing of operators on their device.

On a CPU the wall clock measures it. On CUDA it must not: a layer keeps the device busy for 10 to 40
us and the host that launches it for 20 to 80 us, so events around calls launched one by one measure
the host, which a captured step does not have. There several calls are recorded as a CUDA graph and
replayed, or, where they cannot be recorded, launched while the device still sleeps. Either way the
device finds all work waiting.
"""
import contextlib
import functools
import gc
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import torch

from fastgan.device.cuda_graphs import CudaGraphs

Call = Callable[[], object]
WALL_CLOCK, GRAPH, QUEUE = "wall clock", "graph replays", "queue"
RECORDED_CALLS = (64, 8, 1)  # in a graph; a launch of it costs the device some microseconds, which short calls share
MOST_QUEUED = 64  # calls behind a sleep: the driver's queue holds about a thousand launches
SLEEP_S, TRIES = 2e-4, 5


class HostWaitsError(RuntimeError):
    """The calls cannot be launched ahead of the device.

    Its time cannot be told from the host's.
    """


class Timer(Protocol):
    """Times one operator, repeatedly.

    how: WALL_CLOCK, GRAPH, or QUEUE with the reason why it is not GRAPH.
    """

    how: str

    def seconds(self, num_calls: int) -> float:
        """Return the seconds a call, as the mean of about `num_calls` calls in a row.

        Raises HostWaitsError where calls on CUDA make the host wait.
        """


def timer(run: Call, device_type: str) -> Timer:
    """Return a timer of `run`, after a first call that creates anything made on first use.

    run: launches its work on the current device of this type and changes nothing that matters; on
    CUDA it is called on another stream as well, with autocast's cache off. May be used anywhere in
    eager code, inside autocast and in a backward pass. Errors of `run` propagate.
    """
    return DeviceTimer(run, CudaQueue(), _graphs()) if device_type == "cuda" else WallClockTimer(run)


def device_seconds(run: Call, num_calls: int, device_type: str) -> float:
    """Return the seconds a call of `run` takes on its device.

    It is the mean of about `num_calls` calls in a row; see `timer`.
    """
    return timer(run, device_type).seconds(num_calls)


class WallClockTimer:
    """Timer of work that is done when the call returns."""

    how = WALL_CLOCK

    def __init__(self, run: Call):
        self._run = run
        run()

    def seconds(self, num_calls: int) -> float:
        started = time.perf_counter()
        for _ in range(num_calls):
            self._run()
        return (time.perf_counter() - started) / num_calls


class DeviceTimer:
    """Timer of queued work.

    queue: measures the time that the device takes. graphs: record calls, in memory of their own.
    """

    def __init__(self, run: Call, queue: "CudaQueue", graphs: CudaGraphs):
        self.how = GRAPH
        self._run, self._queue, self._graphs = run, queue, graphs
        self._replays: dict[int, Call] = {}
        self._record(1)

    def seconds(self, num_calls: int) -> float:
        recorded = next(size for size in RECORDED_CALLS if size <= max(1, num_calls))
        if self._record(recorded):
            times = max(1, round(num_calls / recorded))
            return self._queue.seconds(_repeated(self._replays[recorded], times)) / (times * recorded)
        queued = min(max(1, num_calls), MOST_QUEUED)
        return self._queue.seconds(_repeated(self._run, queued)) / queued

    def _record(self, num_calls: int) -> bool:
        """Record `num_calls` calls as a graph and replay it once.

        Returns False where that is impossible; `how` then gives the reason.
        """
        if self.how == GRAPH and num_calls not in self._replays:
            try:
                with _undisturbed():
                    if not self._replays:
                        self._graphs.warm_up(self._run)
                    replay = self._graphs.record(_repeated(self._run, num_calls))
                replay()
                self._replays[num_calls] = replay
            except Exception as error:  # not recordable; an error of the calls themselves is raised again below
                words = (str(error).strip().splitlines() or ["no message"])[0]
                self.how = f"{QUEUE}, for they cannot be recorded: {type(error).__name__}: {words}"
                self._replays.clear()
                self._run()
        return self.how == GRAPH


class CudaQueue:
    """The current stream of CUDA's current device."""

    def __init__(self):
        self._sleep_s = SLEEP_S

    def seconds(self, launch: Call) -> float:
        """Return the seconds that the device takes for the work that `launch` launches.

        All of it waits behind a kernel that sleeps until the host has launched it. Raises
        HostWaitsError where the host cannot launch all of it, however long the sleep.
        """
        for _ in range(TRIES):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            began = time.perf_counter()
            torch.cuda._sleep(round(self._sleep_s * _cycles_per_second()))
            start.record()
            launch()
            end.record()
            host_s, was_ahead = time.perf_counter() - began, not start.query()
            end.synchronize()
            if was_ahead:
                return start.elapsed_time(end) / 1e3
            self._sleep_s = 2 * host_s + SLEEP_S
        how_long = f"{self._sleep_s:.2g} s"
        raise HostWaitsError(f"the host did not launch them within {how_long} ahead of the device: they make it wait")


@functools.cache
def _cycles_per_second() -> float:
    """Return the frequency of the clock that torch.cuda._sleep counts."""
    cycles = 1_000_000
    for _ in range(2):  # the first one loads the kernel
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        torch.cuda._sleep(cycles)
        end.record()
        end.synchronize()
    return 1e3 * cycles / start.elapsed_time(end)


def _graphs() -> CudaGraphs:
    return CudaGraphs(torch.device("cuda", torch.cuda.current_device()), [])


def _repeated(call: Call, times: int) -> Call:
    def run() -> None:
        for _ in range(times):
            call()

    return run


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Disable autocast's cache inside, and limit garbage collection to objects made inside.

    Cached casts would outlive the memory of the graph. A recording collects garbage several times,
    and with the compiler there are a million objects.
    """
    caches, freezes = torch.is_autocast_cache_enabled(), gc.get_freeze_count() == 0
    torch.set_autocast_cache_enabled(False)
    if freezes:
        gc.freeze()
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(caches)
        if freezes:
            gc.unfreeze()
