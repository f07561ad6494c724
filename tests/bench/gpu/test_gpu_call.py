"""The surroundings of a run: places, memory, environment, folders, signals."""

from types import SimpleNamespace

import pytest

from fastgan.bench.gpu import call, plan
from fastgan.bench.places import RESULTS


@pytest.mark.parametrize(("cores", "slots"), [(16, 5), (32, 5), (8, 2), (2, 1)])
def test_fewer_cores_have_fewer_places(monkeypatch, cores, slots):
    monkeypatch.setattr(call, "cores", lambda: cores)
    monkeypatch.setattr(call, "memory_gb", lambda: None)
    assert call.limits().slots == slots
    assert call.limits().memory_gb == plan.MEMORY_SHARE * plan.UNKNOWN_MEMORY_GB


def test_the_memory_of_a_gpu(monkeypatch):
    monkeypatch.setattr(call.subprocess, "run", lambda *command, **options: SimpleNamespace(stdout="143771\n"))
    assert call.memory_gb() == pytest.approx(150.8, abs=0.1)

    def missing(*command, **options):
        raise FileNotFoundError

    monkeypatch.setattr(call.subprocess, "run", missing)
    assert call.memory_gb() is None


def test_stages_share_the_cores_and_keep_caches_where_they_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(call, "cores", lambda: 16)
    assert call.environment(5, None) == {"TORCHINDUCTOR_COMPILE_THREADS": "3"}
    kept = call.environment(5, tmp_path)
    assert kept["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "inductor")
    assert {"TRITON_CACHE_DIR", "FASTGAN_CACHE", call.KEPT} <= kept.keys()


def test_folders_of_two_runs_differ_by_date():
    assert call.default_out().parent == RESULTS
    assert call.default_out().name.startswith("gpu-20")
