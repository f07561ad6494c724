import time

import pytest
import torch

from fastgan.device.throttle import AHEAD, Throttle


def test_without_a_gpu_there_is_nothing_to_wait_for():
    throttle = Throttle(torch.device("cpu"))
    for _ in range(3 * AHEAD):
        throttle.launched()


class Event:
    """Event of a device that never finishes by itself."""

    log: list[tuple[str, int]] = []

    def __init__(self, blocking=False):
        self.launch = None

    def record(self, stream):
        self.launch = sum(what == "recorded" for what, _ in self.log)
        self.log.append(("recorded", self.launch))

    def synchronize(self):
        if self.launch is not None:
            self.log.append(("waited for", self.launch))


def test_the_host_waits_for_the_launch_that_is_ahead_launches_old(monkeypatch):
    Event.log.clear()
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    throttle = Throttle(torch.device("cuda"))
    for _ in range(AHEAD + 3):
        throttle.launched()
    assert [launch for what, launch in Event.log if what == "waited for"] == [0, 1, 2]
    assert Event.log.index(("waited for", 0)) == Event.log.index(("recorded", AHEAD)) - 1


@pytest.mark.gpu
def test_the_host_is_held_back_on_a_gpu():
    throttle, started = Throttle(torch.device("cuda")), time.perf_counter()
    for _ in range(AHEAD + 1):
        torch.cuda._sleep(100_000_000)
        throttle.launched()
    assert time.perf_counter() - started > 0.02  # about 50 ms each at 2 GHz
    assert not torch.cuda.current_stream().query()
