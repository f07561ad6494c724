"""A CUDA device whose time, like the host's, is a number.

Work waits in a queue, and the host is as slow as a test defines.
"""
import torch

CYCLES_PER_SECOND, LAUNCH_S = 1.5e9, 5e-6


class VirtualCuda:
    """A replacement for torch.cuda's events, sleep and synchronisation, and for CUDA graphs.

    It also replaces the clock that timing.py reads.
    """

    def __init__(self, monkeypatch, timing):
        self.host_s = self.idle_from_s = 0.0
        self.recording: list[float] | None = None
        self.num_recordings = 0
        device = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                self.at_s = max(device.host_s, device.idle_from_s)

            def query(self):
                return device.host_s >= self.at_s

            def synchronize(self):
                device.host_s = max(device.host_s, self.at_s)

            def elapsed_time(self, end):
                assert end.query()
                return 1e3 * (end.at_s - self.at_s)

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: device.launch(cycles / CYCLES_PER_SECOND))
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: device.wait())
        monkeypatch.setattr(timing, "_graphs", lambda: device)
        monkeypatch.setattr(timing.time, "perf_counter", lambda: device.host_s)
        timing._cycles_per_second.cache_clear()

    def launch(self, seconds: float, host_s: float = LAUNCH_S) -> None:
        """Launch an operator.

        The host is busy for host_s, the device for `seconds` as soon as it comes to it.
        """
        self.host_s += host_s
        if self.recording is not None:
            self.recording.append(seconds)
        else:
            self.idle_from_s = max(self.idle_from_s, self.host_s) + seconds

    def wait(self) -> None:
        """Make the host wait, which is forbidden while a graph is recorded."""
        if self.recording is not None:
            raise RuntimeError("operation not permitted when stream is capturing\nsecond line")
        self.host_s = max(self.host_s, self.idle_from_s)

    def warm_up(self, body) -> None:
        body()

    def record(self, body):
        self.num_recordings += 1
        self.recording = work = []
        try:
            body()
        finally:
            self.recording = None

        def replay() -> None:
            self.launch(0.0)
            for seconds in work:
                self.launch(seconds, host_s=0.0)

        return replay
