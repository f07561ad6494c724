"""The choice of implementations: measured, unmeasured and forced.

The fastest measured one runs, in code that is traced the reference runs without a measurement, and
a forced one wherever it fits.
"""
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from virtual_cuda import VirtualCuda

import fastgan
from fastgan.errors import UserError
from fastgan.ops.deconv import deconv, implementations
from fastgan.ops.dispatch import autotune, cache, self_checks, timing

IS_EAGER = autotune._is_eager  # as it is outside of the tests


@pytest.fixture
def eager_calls(monkeypatch):
    """Time eager calls on first use, as users have it."""
    monkeypatch.setattr(autotune, "_is_eager", IS_EAGER)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch, tmp_path):
    """Set up an empty table, nothing forced, and passed self-checks of every implementation."""
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(autotune, "_forced", {})
    monkeypatch.setattr(self_checks, "problem", lambda op, implementation, device_type: None)
    autotune._table.cache_clear()
    yield
    autotune._table.cache_clear()


class Clock:
    """Clock that advances only in the candidates."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def candidate(self, name, *seconds):
        """Return a candidate that takes these times in turn, repeatedly.

        Its first call also has something to load.
        """
        first = name not in self.calls

        def run():
            number = self.calls.count(name)
            self.calls.append(name)
            self.now += seconds[number % len(seconds)] + (1.0 if first and number == 0 else 0.0)

        return run


def pick(candidates, call="up"):
    return autotune.pick("deconv", call, candidates, "cpu")


def test_the_fastest_is_chosen_and_remembered_by_the_next_process(monkeypatch):
    clock = Clock(monkeypatch)
    candidates = {
        "reference": clock.candidate("reference", 2.0),
        "subpixel": clock.candidate("subpixel", 1.5),
        "cpu": clock.candidate("cpu", 1.0),
    }
    with autotune.measuring():
        assert pick(candidates) == "cpu"
        timed = len(clock.calls)
        assert pick(candidates) == "cpu"
    autotune._table.cache_clear()
    assert pick(candidates) == "cpu"
    assert pick(candidates, "another call") == "reference"
    assert len(clock.calls) == timed
    row = autotune.table()["deconv up on cpu"]
    assert row.chosen == "cpu"
    assert row.microseconds["subpixel"] == [1.5e6] * 3


def test_an_eager_call_is_timed_on_first_use_and_remembered(monkeypatch, eager_calls):
    clock = Clock(monkeypatch)
    candidates = {"reference": clock.candidate("reference", 2.0), "cpu": clock.candidate("cpu", 1.0)}
    assert pick(candidates) == "cpu"
    timed = len(clock.calls)
    assert pick(candidates) == "cpu"
    autotune._table.cache_clear()
    assert pick(candidates) == "cpu"
    assert len(clock.calls) == timed


def test_a_deterministic_run_times_no_eager_call(monkeypatch, eager_calls):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(autotune, "_is_fixed", True)
    assert pick({"reference": clock.candidate("reference", 2.0), "cpu": clock.candidate("cpu", 1.0)}) == "reference"
    assert clock.calls == []


def test_a_call_that_is_traced_or_recorded_is_not_timed(monkeypatch, eager_calls):
    """Tensors have no values there, or the clock would be a part of the recording."""
    clock = Clock(monkeypatch)
    candidates = {"reference": clock.candidate("reference", 2.0), "cpu": clock.candidate("cpu", 1.0)}
    with FakeTensorMode():
        assert pick(candidates) == "reference"
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert pick(candidates) == "reference"
    with monkeypatch.context() as patch:
        patch.setattr(autotune, "_device_types", lambda: ("cpu", "cuda"))
        for is_recorded in (True, False):
            patch.setattr(torch.cuda, "is_current_stream_capturing", lambda is_recorded=is_recorded: is_recorded)
            assert autotune._is_eager("cuda") != is_recorded
    assert autotune.pick("deconv", "up", candidates, "mps") == "reference"
    assert clock.calls == []


@pytest.mark.slow
def test_a_step_that_was_warmed_up_is_compiled_with_the_fastest(monkeypatch, eager_calls):
    """Compilation by itself times nothing."""
    timed = []

    def fastest(candidates, device_type):
        timed.append(sorted(candidates))
        return autotune.Times("subpixel", {}, {})

    monkeypatch.setattr(autotune, "_fastest", fastest)
    ran = []
    for name in ("up_subpixel", "down_subpixel", "weight_subpixel"):
        run = getattr(implementations, name)
        monkeypatch.setattr(implementations, name, lambda *args, name=name, run=run: ran.append(name) or run(*args))
    x, weight = (torch.randn(size, requires_grad=True) for size in ((2, 3, 4, 4), (3, 5, 4, 4)))
    step = torch.compile(lambda: deconv(x, weight).square().sum(), backend="aot_eager", fullgraph=True)
    step().backward()
    assert (timed, ran) == ([], [])
    torch._dynamo.reset()
    assert fastgan.ops.warm_up(lambda: step().backward()) == "deconv: subpixel 3 (kinds of calls)"
    assert len(timed) == 3
    ran.clear()
    step().backward()
    assert set(ran) == {"down_subpixel", "up_subpixel", "weight_subpixel"}
    assert len(timed) == 3
    torch._dynamo.reset()


def test_a_gain_within_the_noise_is_no_gain(monkeypatch):
    clock = Clock(monkeypatch)
    noisy = {"reference": clock.candidate("reference", 1.0, 1.2, 0.9), "cpu": clock.candidate("cpu", 0.85, 0.95, 1.15)}
    with autotune.measuring():
        assert pick(noisy) == "reference"
    assert set(autotune.table()["deconv up on cpu"].microseconds) == {"reference", "cpu"}


def test_the_hopeless_are_not_timed_to_the_end(monkeypatch):
    clock = Clock(monkeypatch)
    with autotune.measuring():
        pick({"reference": clock.candidate("reference", 1.0), "cpu": clock.candidate("cpu", 50.0)})
    assert clock.calls.count("cpu") == 3
    assert clock.calls.count("reference") == 3 + autotune.ROUNDS


def test_other_work_on_the_machine_does_not_hide_a_large_gain(monkeypatch):
    """Every other round takes ten times as long: quartiles overlap, rounds do not.

    This holds for whichever candidate runs then.
    """
    clock = Clock(monkeypatch)
    with autotune.measuring():
        assert (
            pick({"reference": clock.candidate("reference", 6.0, 60.0), "cpu": clock.candidate("cpu", 1.0, 10.0)})
            == "cpu"
        )
    row = autotune.table()["deconv up on cpu"].microseconds
    assert row["cpu"][2] > row["reference"][0]


def test_what_looks_slow_once_is_not_hopeless(monkeypatch):
    clock = Clock(monkeypatch)
    with autotune.measuring():
        assert (
            pick(
                {"reference": clock.candidate("reference", 2.0), "cpu": clock.candidate("cpu", 0.0, 50.0, *[1.0] * 100)}
            )
            == "cpu"
        )


def test_an_unclear_gain_is_timed_again(monkeypatch):
    clock = Clock(monkeypatch)
    unclear = [1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 1.0]  # a third of the rounds is disturbed
    with autotune.measuring():
        assert (
            pick(
                {
                    "reference": clock.candidate("reference", 2.0),
                    "cpu": clock.candidate("cpu", 1.0, 1.0, 1.0, *unclear, *[1.0] * 30),
                }
            )
            == "cpu"
        )
    assert clock.calls.count("reference") == 3 + 2 * autotune.ROUNDS

def test_what_failed_its_check_is_never_run(monkeypatch):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(
        self_checks,
        "problem",
        lambda op, implementation, device_type: "it is wrong" if implementation == "cpu" else None,
    )
    with autotune.measuring():
        assert pick({"reference": clock.candidate("reference", 2.0), "cpu": clock.candidate("cpu", 1.0)}) == "reference"
    assert "cpu" not in clock.calls


def test_a_chosen_one_that_does_not_fit_any_more_is_not_used(monkeypatch):
    clock = Clock(monkeypatch)
    reference = clock.candidate("reference", 2.0)
    with autotune.measuring():
        pick({"reference": reference, "cpu": clock.candidate("cpu", 1.0)})
    assert pick({"reference": reference, "subpixel": reference}) == "reference"


def test_the_environment_turns_it_all_off(monkeypatch):
    clock = Clock(monkeypatch)
    monkeypatch.setenv("FASTGAN_OPS", "reference")
    autotune._forced["deconv"] = "cpu"
    with autotune.measuring():
        assert pick({"reference": clock.candidate("reference", 2.0), "cpu": clock.candidate("cpu", 1.0)}) == "reference"
    assert clock.calls == []


def test_a_forced_one_runs_where_it_fits_without_measuring():
    autotune.force({"deconv": "subpixel"})
    assert pick({"reference": None, "subpixel": None}) == "subpixel"
    assert pick({"reference": None, "cpu": None}) == "reference"
    autotune.force({"deconv": "auto"})
    assert pick({"reference": None, "subpixel": None}) == "reference"
    autotune.force({"deconv": "reference"})
    assert pick({"reference": None, "subpixel": None}) == "reference"


def test_what_cannot_be_forced_is_refused_with_the_reason(monkeypatch):
    with pytest.raises(UserError, match="ops.deconv=cudnn is unknown: choose auto or one of reference, subpixel"):
        autotune.force({"deconv": "cudnn"})
    monkeypatch.setattr(self_checks, "problem", lambda op, implementation, device_type: "torch sees no CUDA device")
    with pytest.raises(UserError, match="ops.deconv=cuda cannot be used: torch sees no CUDA device"):
        autotune.force({"deconv": "cuda"})
    assert autotune._forced == {}


def test_what_was_picked_while_measuring_is_counted(monkeypatch):
    clock = Clock(monkeypatch)
    candidates = {"reference": clock.candidate("reference", 2.0), "cpu": clock.candidate("cpu", 1.0)}
    with autotune.measuring():
        assert autotune.used() == "none"
        for call in ("up", "up", "down"):
            pick(candidates, call)
        pick({"reference": None}, "weight")
    pick(candidates, "a call that training will not make")
    assert autotune.used() == "deconv: cpu 2, reference 1 (kinds of calls)"
    with autotune.measuring():
        assert autotune.used() == "none"


def test_an_unreadable_row_is_measured_again(monkeypatch, tmp_path):
    clock = Clock(monkeypatch)
    candidates = {"reference": clock.candidate("reference", 2.0), "cpu": clock.candidate("cpu", 1.0)}
    path = autotune._table("cpu").path
    path.parent.mkdir()
    path.write_text('{"deconv up": {"chosen": 3}, "deconv down": "cpu"}')
    autotune._table.cache_clear()
    with autotune.measuring():
        assert pick(candidates) == "cpu"


def test_real_time_is_measured_too():
    big, small = torch.randn(400, 400), torch.randn(4, 4)
    with autotune.measuring():
        assert pick({"reference": lambda: big @ big, "cpu": lambda: small @ small}) == "cpu"


@pytest.fixture
def cuda(monkeypatch):
    monkeypatch.setattr(cache, "_stamp", lambda device_type: "virtual")
    yield VirtualCuda(monkeypatch, timing)
    timing._cycles_per_second.cache_clear()


@pytest.mark.parametrize("is_recordable", [True, False])
def test_on_cuda_a_slow_host_does_not_hide_the_faster_kernel(cuda, is_recordable):
    """The kernel takes a quarter of the library's time on the device.

    Its Python takes a millisecond, which a captured step does not have.
    """

    def candidate(device_s, host_s):
        def run():
            if cuda.recording is not None and not is_recordable:
                raise RuntimeError("cannot be recorded")
            cuda.launch(device_s, host_s)

        return run

    with autotune.measuring():
        assert (
            autotune.pick(
                "deconv", "up", {"reference": candidate(40e-6, 20e-6), "triton": candidate(10e-6, 1e-3)}, "cuda"
            )
            == "triton"
        )
    row = autotune.Times(**autotune._table("cuda")["deconv up"])
    assert row.microseconds["reference"] == pytest.approx([40.0] * 3)
    assert row.microseconds["triton"] == pytest.approx([10.0] * 3)
    how = timing.GRAPH if is_recordable else "queue, for they cannot be recorded: RuntimeError: cannot be recorded"
    assert row.timed == {"reference": how, "triton": how}


@pytest.mark.parametrize("who", ["reference", "triton"])
def test_what_makes_the_host_wait_is_left_out(cuda, who):
    def candidate(name, device_s):
        def run():
            cuda.launch(device_s)
            if name == who:
                cuda.wait()

        return run

    candidates = {
        "reference": candidate("reference", 40e-6),
        "cuda": candidate("cuda", 20e-6),
        "triton": candidate("triton", 10e-6),
    }
    with autotune.measuring():
        assert autotune.pick("deconv", "up", candidates, "cuda") == ("reference" if who == "reference" else "cuda")
    assert "they make it wait" in autotune._table("cuda")["deconv up"]["timed"][who]
