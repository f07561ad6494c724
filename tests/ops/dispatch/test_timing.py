"""Timing: the device's time on CUDA, whatever the host does, and the wall clock on a CPU."""
import gc

import pytest
import torch
from virtual_cuda import VirtualCuda

from fastgan.device.cuda_graphs import CudaGraphs
from fastgan.ops.dispatch import timing

US, MS = 1e-6, 1e-3


@pytest.fixture
def cuda(monkeypatch):
    yield VirtualCuda(monkeypatch, timing)
    timing._cycles_per_second.cache_clear()


def test_a_cpu_is_timed_by_the_wall_clock(monkeypatch):
    now, calls = 0.0, []

    def run():
        nonlocal now
        now += 0.5
        calls.append(now)

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
    each = timing.timer(run, "cpu")
    assert (each.how, each.seconds(4), len(calls)) == ("wall clock", 0.5, 5)


@pytest.mark.parametrize("num_calls", [1, 5, 8, 50, 64, 200])
@pytest.mark.parametrize("host_s", [1 * US, 1 * MS])
def test_the_host_is_not_measured(cuda, num_calls, host_s):
    assert timing.device_seconds(lambda: cuda.launch(10 * US, host_s), num_calls, "cuda") == pytest.approx(10 * US)


def test_events_around_launches_would_measure_the_host(cuda):
    """The virtual device can be measured wrongly, which timing.py avoids."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(8):
        cuda.launch(10 * US, 1 * MS)
    end.record()
    end.synchronize()
    assert start.elapsed_time(end) / 8 == pytest.approx(1.0, rel=0.02)  # milliseconds


def test_a_graph_is_recorded_once_for_a_number_of_calls(cuda):
    each = timing.timer(lambda: cuda.launch(10 * US), "cuda")
    for num_calls in (1, 1, 9, 12, 100, 64):
        each.seconds(num_calls)
    assert (each.how, cuda.num_recordings) == ("graph replays", 3)


def test_what_cannot_be_recorded_is_queued_and_that_is_said(cuda):
    def run():
        if cuda.recording is not None:
            raise ValueError("not while a graph is recorded")
        cuda.launch(10 * US, 1 * MS)

    each = timing.timer(run, "cuda")
    for num_calls in (1, 30, 1000):
        assert each.seconds(num_calls) == pytest.approx(10 * US)
    assert each.how == "queue, for they cannot be recorded: ValueError: not while a graph is recorded"


def test_what_makes_the_host_wait_has_no_time_of_its_own(cuda):
    def run():
        cuda.launch(10 * US)
        cuda.wait()

    each = timing.timer(run, "cuda")
    assert (
        each.how == "queue, for they cannot be recorded: RuntimeError: operation not permitted when stream is capturing"
    )
    with pytest.raises(timing.HostWaitsError, match="they make it wait"):
        each.seconds(3)


def test_what_is_wrong_with_the_calls_goes_through(cuda):
    def run():
        raise ZeroDivisionError("broken")

    with pytest.raises(ZeroDivisionError, match="broken"):
        timing.timer(run, "cuda")


def test_a_host_that_is_held_up_once_is_asked_again(cuda):
    held_up = [0.0, 0.0, 0.5, 0.0]  # seconds, of the calls one after the other

    def launch():
        cuda.launch(10 * US, held_up.pop(0) if held_up else 0.0)

    queue = timing.CudaQueue()
    assert [queue.seconds(launch) for _ in range(3)] == pytest.approx([10 * US] * 3)
    assert held_up == []


@pytest.mark.parametrize("was_on", [True, False])
def test_autocast_keeps_nothing_of_a_recording_and_garbage_collection_is_as_it_was(cuda, was_on):
    seen = []

    def run():
        seen.append((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled(), gc.get_freeze_count() > 0))
        cuda.launch(10 * US)

    with torch.autocast("cpu", torch.bfloat16, cache_enabled=was_on):
        timing.device_seconds(run, 8, "cuda")
        assert torch.is_autocast_cache_enabled() is was_on
    assert set(seen) == {(True, False, True)}
    assert gc.get_freeze_count() == 0


@pytest.mark.gpu
@pytest.mark.parametrize("stream", [None, "other"])
def test_a_real_device_inside_a_backward_pass_under_autocast(stream):
    """Times a convolution from within autograd's own thread.

    Graph and queue agree, and the result of the pass is right.
    """
    x, weight = torch.randn(64, 64, 32, 32, device="cuda"), torch.randn(64, 64, 3, 3, device="cuda", requires_grad=True)
    found = {}

    class Measured(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y.clone()

        @staticmethod
        def backward(ctx, dy):
            each = timing.timer(lambda: torch.nn.functional.conv2d(x, weight, padding=1), "cuda")
            found["graph"], found["how"] = each.seconds(20), each.how
            each.how = timing.QUEUE
            found["queue"] = each.seconds(20)
            return 2 * dy

    with torch.cuda.stream(torch.cuda.Stream() if stream else None), torch.autocast("cuda", torch.bfloat16):
        y = torch.ones(8, device="cuda", requires_grad=True)
        (dy,) = torch.autograd.grad(Measured.apply(y).sum(), y)
        assert dy.tolist() == [2.0] * 8
    assert found["how"] == timing.GRAPH
    assert 0.5 < found["graph"] / found["queue"] < 2
    torch.rand(4, device="cuda")  # the default generator was not left in a recording


@pytest.mark.gpu
def test_a_real_recording_that_fails_leaves_the_device_in_order():
    """A call that reads a number back cannot be recorded.

    Afterwards memory, random numbers and recordings work as before.
    """
    x = torch.randn(1000, device="cuda")
    each = timing.timer(lambda: x.sum().item(), "cuda")
    assert each.how.startswith("queue, for they cannot be recorded: ")
    with pytest.raises(timing.HostWaitsError):
        each.seconds(2)
    torch.rand(4, device="cuda")
    assert timing.timer(lambda: x * 2, "cuda").how == timing.GRAPH
    CudaGraphs(torch.device("cuda"), []).record(lambda: x * 2)()
