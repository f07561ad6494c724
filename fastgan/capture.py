"""Recording whole steps once and replaying them: CUDA graphs, and what is replayed when.

A launch is one or more whole steps (cadence.py): draw the random numbers, gather the images, update everything. Nothing is passed from one graph to
the next but the state that steps change in place, whose memory lies outside of the pool, so all graphs share one pool of memory and may be replayed
in any order, one after the other. The host's part of a launch is the replay; the Python of its K steps runs once, while they are recorded.
"""
import contextlib
import gc
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import torch

from fastgan.cadence import Cadence, Launch, Variant

Call = Callable[[], object]
WARM_UP_STEPS = 3  # libraries choose their algorithms and allocate workspaces in the first calls of a stream
SIZES = (1, 4, 16)  # steps in a launch that are tried out
MAX_LAUNCH_S = 0.25  # a run that is told to stop does so within about so long
NO_SLOWER = 1.005  # times the fastest: beyond that, more steps in a launch do not pay for the launches that they save
ROUNDS, ROUND_S = 5, 0.02


class Graphs(Protocol):
    """What records work on the device and replays it."""

    def warm_up(self, body: Call) -> None:
        """Run `body` as often as libraries need to settle, where it will be recorded. Raises where it makes the host wait for the device."""

    def record(self, body: Call) -> Call:
        """What does again on the device, from the memory as it will be then, all that `body` does there."""

    def synchronize(self) -> None:
        """Wait until the device has done what was replayed."""


class CudaGraphs:
    """CUDA graphs on one device, in one pool of memory. generators: those that recorded work draws from, beside torch's own."""

    def __init__(self, device: torch.device, generators: list[torch.Generator]):
        self.device, self.generators = device, generators
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def warm_up(self, body: Call) -> None:
        gc.collect()  # dead graphs of autograd keep the leaves' nodes alive, which belong to the stream that the step ran on before
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        try:
            with torch.cuda.stream(self.stream):
                for _ in range(WARM_UP_STEPS - 1):
                    body()
                with waiting_forbidden():
                    body()
        finally:
            current.wait_stream(self.stream)  # after a step that broke off too: who puts the state back must not overtake the steps before it

    def record(self, body: Call) -> Call:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        failures: list[BaseException] = []
        gc.collect()  # nothing that is freed meanwhile may call CUDA
        try:
            # thread_local: the threads that bring data go on with their own calls of CUDA meanwhile.
            with _no_garbage_collection(), _own_workspaces(), torch.cuda.stream(self.stream), \
                    torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                _remember_failure(body, failures)
        except Exception as error:
            self._renew_generators()
            self._leave_pool()
            # Ending a broken recording fails as well, and says less. Left in the list it would stay alive, with all tensors of its frames.
            raise failures.pop() if failures else error from None
        return graph.replay

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)

    def _renew_generators(self) -> None:
        """A recording that broke off leaves its generators waiting for an end that never comes (torch before 2.13); a copy of one does not."""
        for generator in (*self.generators, torch.cuda.default_generators[self._device_index]):
            generator.graphsafe_set_state(generator.clone_state())

    def _leave_pool(self) -> None:
        """A recording that broke off is still at its pool: the allocator would hold back what others free, keep the pool for ever and refuse the next
        recording into it. Where the recording had come to its end nothing of this is so, and the first call says so by an error."""
        with contextlib.suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(self._device_index, self.pool)
            torch._C._cuda_releasePool(self._device_index, self.pool)
        self.pool = torch.cuda.graph_pool_handle()

    @property
    def _device_index(self) -> int:
        return torch.cuda.current_device() if self.device.index is None else self.device.index


@contextlib.contextmanager
def waiting_forbidden() -> Iterator[None]:
    """Inside, whatever makes the host wait for the device raises a RuntimeError. Does nothing without CUDA."""
    if not torch.cuda.is_available():
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode does not see everything
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _own_workspaces() -> Iterator[None]:
    """What is recorded inside has cuBLAS's workspaces in its own pool.

    Else it would write, at every replay, into those that torch keeps for each stream until somebody clears them, and into whatever lies there then.
    torch.compile(mode="reduce-overhead") clears them all, and this does; what it records itself it guards in the same way.
    """
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()


def _remember_failure(body: Call, failures: list[BaseException]) -> None:
    try:
        body()
    except BaseException as error:
        failures.append(error)
        raise


class CapturedSteps:
    """Steps of all variants as recordings: single ones, and launches of `size` steps. other: has the single ones already."""

    def __init__(self, graphs: Graphs, steps: Mapping[Variant, Call], cadence: Cadence, size: int, other: "CapturedSteps | None" = None):
        self.size, self._cadence = size, cadence
        self._replays = {} if other is None else dict(other._replays)
        for launch in cadence.launches_of(size):
            if launch not in self._replays:
                self._replays[launch] = graphs.record(_one_after_another([steps[variant] for variant in launch]))

    def run(self, first: int, num: int) -> None:
        """The steps first to first + num - 1."""
        for launch in self._cadence.launches(first, num, self.size):
            self._replays[launch]()

    def replay(self, launch: Launch) -> None:
        """One launch, whatever is due."""
        self._replays[launch]()


def best_size(candidates: list[CapturedSteps], period: int, synchronize: Call) -> CapturedSteps:
    """The candidate with the most steps in a launch that is no slower than the fastest and can be stopped in time. period: of the cadence.

    candidates: smallest first. Fewer launches leave the host its time, also where the device is busy all the while.
    """
    seconds = _seconds_per_step(candidates, period, synchronize)
    limit = NO_SLOWER * min(seconds.values())
    good = [candidate for candidate in candidates if seconds[candidate.size] <= limit and candidate.size * seconds[candidate.size] <= MAX_LAUNCH_S]
    return good[-1] if good else candidates[0]


def _seconds_per_step(candidates: list[CapturedSteps], period: int, synchronize: Call) -> dict[int, float]:
    """Medians over rounds in which the candidates take turns, by size."""
    num = period * max(candidate.size for candidate in candidates)
    num *= max(1, round(ROUND_S / _seconds(candidates[0], num, synchronize)))
    rounds = [{candidate.size: _seconds(candidate, num, synchronize) / num for candidate in candidates} for _ in range(ROUNDS)]
    return {candidate.size: statistics.median(each[candidate.size] for each in rounds) for candidate in candidates}


def _seconds(candidate: CapturedSteps, num: int, synchronize: Call) -> float:
    synchronize()
    started = time.perf_counter()
    candidate.run(0, num)
    synchronize()
    return time.perf_counter() - started


def _one_after_another(calls: list[Call]) -> Call:
    def run() -> None:
        for call in calls:
            call()

    return run
