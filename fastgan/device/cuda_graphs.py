"""CUDA graphs: the only code that records them, and the state that a recording needs around it."""
import contextlib
import gc
import warnings
from collections.abc import Callable, Iterator

import torch

Call = Callable[[], object]
WARM_UP_STEPS = 3  # libraries choose their algorithms and allocate workspaces in the first calls of a stream


class CudaGraphs:
    """CUDA graphs on one device, in one memory pool.

    generators: those that recorded work draws from, beside torch's own.
    """

    def __init__(self, device: torch.device, generators: list[torch.Generator]):
        self.device, self.generators = device, generators
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def warm_up(self, body: Call) -> None:
        # Dead autograd graphs keep the leaves' nodes alive, which belong to the stream that the
        # step ran on before.
        gc.collect()
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        try:
            with torch.cuda.stream(self.stream):
                for _ in range(WARM_UP_STEPS - 1):
                    body()
                with waiting_forbidden():
                    body()
        finally:
            # After a failed step too: restoring the state must not overtake the steps before it.
            current.wait_stream(self.stream)

    def record(self, body: Call) -> Call:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        failures: list[BaseException] = []
        gc.collect()  # no object that is freed during the recording may call CUDA
        try:
            # thread_local: the threads that load data continue their own CUDA calls meanwhile.
            with _no_garbage_collection(), _own_workspaces(), torch.cuda.stream(self.stream), \
                    torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                _remember_failure(body, failures)
        except Exception as error:
            self._renew_generators()
            self._leave_pool()
            # Ending a failed recording fails as well, with a less useful error. Left in the list it
            # would stay alive, with all tensors of its frames.
            raise failures.pop() if failures else error from None
        return graph.replay

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)

    def _renew_generators(self) -> None:
        """Replace the state of each generator by a copy of it, after a recording that failed.

        A failed recording leaves its generators waiting for an end that never comes (torch before
        2.13); a copy of the state does not wait.
        """
        for generator in (*self.generators, torch.cuda.default_generators[self._device_index]):
            generator.graphsafe_set_state(generator.clone_state())

    def _leave_pool(self) -> None:
        """Detach a failed recording from its memory pool and start a new pool.

        A failed recording still allocates from its pool: the allocator would hold back memory that
        others free, keep the pool for ever and refuse the next recording into it. If the recording
        had already ended, the first call raises an error, which is ignored.
        """
        with contextlib.suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(self._device_index, self.pool)
            torch._C._cuda_releasePool(self._device_index, self.pool)
        self.pool = torch.cuda.graph_pool_handle()

    @property
    def _device_index(self) -> int:
        return torch.cuda.current_device() if self.device.index is None else self.device.index


@contextlib.contextmanager
def waiting_forbidden() -> Iterator[None]:
    """Raise a RuntimeError for any operation inside that makes the host wait for the device.

    Does nothing without CUDA.
    """
    if not torch.cuda.is_available():
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning that the mode does not detect everything
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
    """Give work that is recorded inside cuBLAS workspaces in the pool of its own graph.

    Otherwise every replay would write into the workspaces that torch keeps for each stream until
    they are cleared, and into any data that lies there by then.
    torch.compile(mode="reduce-overhead") clears all workspaces, and so does this function; torch
    protects its own recordings in the same way.
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
