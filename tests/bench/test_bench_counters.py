"""Counters beside a step's time, on events, warnings and segments as torch gives them.

The counting itself needs a GPU.
"""
import warnings
from types import SimpleNamespace

import pytest
import torch

from fastgan.bench import counters
from fastgan.bench.counters import Counters, MemoryMeter, count, idle_in_pools, launches, syncs

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def event(name, start=0.0, end=1.0, thread=1):
    return SimpleNamespace(name=name, thread=thread, time_range=SimpleNamespace(start=start, end=end))


def test_kernels_and_graphs_count_and_nothing_else():
    names = [
        "cudaLaunchKernel",
        "cudaLaunchKernelExC",
        "cuLaunchKernel",
        "cuLaunchKernelEx",
        "cudaGraphLaunch",
        "cudaLaunchCooperativeKernel",
    ]
    others = [
        "aten::add",
        "cudaMemcpyAsync",
        "cudaStreamSynchronize",
        "cudaMemsetAsync",
        "void at::native::vectorized_elementwise_kernel<4>",
    ]
    assert launches(event(name, 2.0 * index, 2.0 * index + 1) for index, name in enumerate(names + others)) == len(
        names
    )
    assert launches([]) == 0


def test_a_driver_call_within_a_runtime_call_is_the_same_launch():
    outer, inner = event("cudaLaunchKernel", 0.0, 5.0), event("cuLaunchKernel", 1.0, 4.0)
    after, of_the_backward_pass = event("cudaLaunchKernel", 5.0, 6.0), event("cudaLaunchKernel", 2.0, 3.0, thread=2)
    assert launches([inner, outer]) == 1
    assert launches([inner, after, outer]) == 2
    assert launches([inner, outer, of_the_backward_pass]) == 2


def test_events_of_a_profile_have_what_is_read_of_them():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        torch.ones(3).add_(1)
    events = profile.events()
    assert launches(events) == 0
    assert (
        launches(event("cudaLaunchKernel", each.time_range.start, each.time_range.end, each.thread) for each in events)
        > 0
    )


def test_only_warnings_of_waiting_count():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            warnings.warn(
                "called a synchronizing CUDA operation (Triggered internally at ...)", UserWarning, stacklevel=1
            )
        warnings.warn("Synchronization debug mode is a prototype feature", UserWarning, stacklevel=1)
    assert syncs(caught) == 3


def test_what_the_pools_of_graphs_keep_is_what_no_tensor_holds():
    segments = [
        # The common pool: free memory there is anybody's
        {"segment_pool_id": (0, 0), "total_size": 1000, "allocated_size": 10},
        {"segment_pool_id": (0, 1), "total_size": 500, "allocated_size": 120},
        {"segment_pool_id": (2, 0), "total_size": 50, "allocated_size": 0},
    ]
    assert idle_in_pools(segments) == 380 + 50


def test_without_cuda_nothing_is_counted_and_nothing_is_run():
    def call():
        raise AssertionError("a step was made for nothing")

    assert count(call, 1, CPU) == Counters(None, None)
    assert MemoryMeter(CPU).peak_mb(call) is None


def test_the_numbers_are_those_of_one_step(monkeypatch):
    calls = []
    monkeypatch.setattr(
        counters, "_profiled", lambda call: [event("cudaGraphLaunch", index, index + 0.5) for index in range(8)]
    )
    monkeypatch.setattr(counters, "_warnings", lambda call: [SimpleNamespace(message=counters.SYNC_WARNING)] * 32)
    assert counters.NUM_CALLS == 4
    assert count(lambda: calls.append(1), 2, CUDA) == Counters(kernel_launches=1.0, host_syncs=4.0)


@pytest.mark.gpu
def test_a_known_step_is_counted_on_a_gpu():
    x = torch.zeros(1 << 20, device=CUDA)

    def step():
        x.add_(1)
        x.mul_(2)
        x[0].item()

    step()
    counted = count(step, 1, CUDA)
    assert counted.kernel_launches == 2
    assert counted.host_syncs >= 1


@pytest.mark.gpu
def test_a_graph_is_one_launch_and_its_pool_is_memory_on_a_gpu():
    memory = MemoryMeter(CUDA)
    x = torch.zeros(1 << 22, device=CUDA)  # 16.8 MB
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(2):
            x.add_(torch.ones_like(x))
    assert count(graph.replay, 2, CUDA) == Counters(0.5, 0.0)
    assert 2 * 16 < memory.peak_mb(graph.replay) < 8 * 17


@pytest.mark.gpu
def test_the_highest_point_within_a_step_is_memory_on_a_gpu():
    memory = MemoryMeter(CUDA)
    assert memory.peak_mb(lambda: torch.zeros(1 << 22, device=CUDA).add(1)) == pytest.approx(
        2 * 4 * (1 << 22) / 1e6, rel=0.01
    )
