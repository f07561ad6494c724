"""Every implementation is checked before use; a failure costs a warning, never the program."""
import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch

from fastgan.ops import bias_act, deconv
from fastgan.ops.deconv import implementations
from fastgan.ops.dispatch import cache, check_subprocess, registry, self_checks
from fastgan.ops.dispatch.check_subprocess import Verdict, check_elsewhere
from fastgan.ops.dispatch.self_checks import three_way_problem


def as_in_a_new_process():
    self_checks._failed_check.cache_clear()
    self_checks._all_checked_elsewhere.cache_clear()


@pytest.fixture(autouse=True)
def forgetful(monkeypatch, tmp_path):
    """Start without cached results, and save none."""
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    as_in_a_new_process()
    yield
    as_in_a_new_process()


def test_twice_the_error_of_the_library_is_allowed_and_more_is_not():
    truth = torch.tensor([100.0, -50.0], dtype=torch.float64)
    reference = (truth + 1e-3).float()
    assert three_way_problem("it", (truth + 1.9e-3).float(), reference, truth) is None
    assert "it is off by 0.0021" in three_way_problem("it", (truth + 2.1e-3).float(), reference, truth)


def test_an_exact_library_leaves_room_for_rounding():
    truth = torch.tensor([1.0, 0.25], dtype=torch.float64)
    assert three_way_problem("it", truth.float() * (1 + 2**-22), truth.float(), truth) is None
    assert three_way_problem("it", truth.bfloat16() * (1 + 2**-7), truth.bfloat16(), truth) is None
    assert three_way_problem("it", truth.bfloat16() * (1 + 2**-6), truth.bfloat16(), truth) is not None
    assert three_way_problem("it", truth.float() * (1 + 2**-20), truth.float(), truth) is not None


def test_nan_and_another_shape_or_dtype_are_wrong():
    truth = torch.ones(2, dtype=torch.float64)
    for wrong in (torch.tensor([1.0, math.nan]), torch.ones(3), torch.ones(2, dtype=torch.bfloat16)):
        assert three_way_problem("it", wrong, torch.ones(2), truth) is not None


@pytest.mark.parametrize("op", [deconv, bias_act], ids=lambda op: op.__name__.split(".")[-1])
def test_all_that_can_run_here_pass(op):
    name = op.__name__.split(".")[-1]
    for implementation in registry.OPS[name]:
        if registry.unavailable(implementation, "cpu") is None:
            assert op.self_check(implementation, torch.device("cpu")) is None


@pytest.mark.parametrize("direction", ["up", "down", "weight"])
def test_a_form_of_deconv_that_is_wrong_is_found(monkeypatch, direction):
    right = getattr(implementations, f"{direction}_subpixel")
    monkeypatch.setattr(implementations, f"{direction}_subpixel", lambda *arguments: right(*arguments) * 1.01)
    with pytest.warns(UserWarning, match="deconv: the implementation 'subpixel' is not used"):
        problem = self_checks.problem("deconv", "subpixel", "cpu")
    assert f"it failed its check: {direction} in torch.float32 is off by" in problem


def test_an_error_in_a_kernel_is_a_verdict_and_is_remembered(monkeypatch):
    checks = []

    def self_check(implementation, device):
        checks.append(implementation)
        raise RuntimeError("invalid device function\nand more")

    monkeypatch.setattr(deconv, "self_check", self_check)
    for _ in range(2):
        as_in_a_new_process()
        with pytest.warns(UserWarning, match=r"RuntimeError: invalid device function \(delete .*verdicts-cpu-.*\)$"):
            self_checks.problem("deconv", "subpixel", "cpu")
    assert checks == ["subpixel"]


def test_what_is_not_available_is_not_checked(monkeypatch):
    monkeypatch.setenv("FASTGAN_OPS", "reference")
    assert self_checks.problem("deconv", "subpixel", "cpu") == "turned off by FASTGAN_OPS=reference"
    monkeypatch.delenv("FASTGAN_OPS")
    assert self_checks.problem("deconv", "triton", "cpu") == "it is not for cpu tensors"


def test_the_check_may_come_in_the_middle_of_an_autocast_forward_pass():
    with torch.autocast("cpu", torch.bfloat16):
        for name, implementations in registry.OPS.items():
            for implementation in implementations:
                if registry.unavailable(implementation, "cpu") is None:
                    assert self_checks.problem(name, implementation, "cpu") is None


def test_the_self_check_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    self_checks.problem("deconv", "subpixel", "cpu")
    assert torch.equal(torch.rand(2), expected)


@pytest.fixture
def gpu(monkeypatch):
    """Simulate a GPU with three implementations, whose checks end as `verdicts` says.

    `asked` lists the checks that children were started for.
    """
    monkeypatch.setattr(registry, "OPS", {"deconv": ("subpixel", "cuda"), "bias_act": ("cuda",)})
    monkeypatch.setattr(registry, "unavailable", lambda implementation, device_type: None)
    monkeypatch.setattr(cache, "_stamp", lambda device_type: "a GPU")
    gpu = SimpleNamespace(
        verdicts=dict.fromkeys(("deconv subpixel", "deconv cuda", "bias_act cuda"), Verdict(None)), asked=[]
    )

    def check_elsewhere(keys, device_type):
        gpu.asked.append(list(keys))
        for key in keys:
            yield key, gpu.verdicts[key]

    monkeypatch.setattr(self_checks, "check_elsewhere", check_elsewhere)
    return gpu


def test_a_crash_on_a_gpu_leaves_out_one_implementation_and_is_remembered(gpu, tmp_path):
    gpu.verdicts["deconv cuda"] = Verdict("the process of the check was killed by SIGSEGV")
    for _ in range(2):
        as_in_a_new_process()
        with pytest.warns(UserWarning, match="deconv: the implementation 'cuda' is not used"):
            problem = self_checks.problem("deconv", "cuda", "cuda")
        [kept] = tmp_path.glob("ops/verdicts-cuda-*.json")
        assert (
            problem == f"it failed its check: {gpu.verdicts['deconv cuda'].problem} (delete {kept} to check it again)"
        )
        assert self_checks.problem("bias_act", "cuda", "cuda") is None
        assert self_checks.problem("deconv", "subpixel", "cuda") is None
    assert gpu.asked == [["deconv subpixel", "deconv cuda", "bias_act cuda"]]
    kept.unlink()
    as_in_a_new_process()
    gpu.verdicts["deconv cuda"] = Verdict(None)
    assert self_checks.problem("deconv", "cuda", "cuda") is None


def test_what_the_machine_is_to_blame_for_is_tried_again_by_the_next_process_alone(gpu):
    gpu.verdicts["bias_act cuda"] = Verdict("OutOfMemoryError: CUDA out of memory", is_own=False)
    for key in 2 * ["bias_act"]:
        self_checks._failed_check.cache_clear()
        with pytest.warns(UserWarning, match="is not used, for it was not checked: OutOfMemoryError"):
            assert (
                self_checks.problem(key, "cuda", "cuda") == "it was not checked: OutOfMemoryError: CUDA out of memory"
            )
    as_in_a_new_process()
    gpu.verdicts["bias_act cuda"] = Verdict(None)
    assert self_checks.problem("bias_act", "cuda", "cuda") is None
    assert gpu.asked == [["deconv subpixel", "deconv cuda", "bias_act cuda"], ["bias_act cuda"]]


def test_verdicts_are_written_as_they_come(gpu, monkeypatch, tmp_path):
    def interrupted(keys, device_type):
        yield keys[0], Verdict(None)
        raise KeyboardInterrupt

    monkeypatch.setattr(self_checks, "check_elsewhere", interrupted)
    with pytest.raises(KeyboardInterrupt):
        self_checks.problem("deconv", "cuda", "cuda")
    [kept] = tmp_path.glob("ops/verdicts-cuda-*.json")
    assert json.loads(kept.read_text()) == {"deconv subpixel": None}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_lack_of_memory_or_disk_is_not_the_fault_of_the_implementation(monkeypatch, error):
    def self_check(implementation, device):
        raise error

    monkeypatch.setattr(deconv, "self_check", self_check)
    verdict = self_checks._check("deconv", "subpixel", "cpu")
    assert verdict.problem.startswith(type(error).__name__)
    assert not verdict.is_own
    assert "in self_check" in verdict.details


def test_a_real_child_says_what_it_found():
    available = [
        f"{op} {name}"
        for op, names in registry.OPS.items()
        for name in names
        if registry.unavailable(name, "cpu") is None
    ]
    assert dict(check_elsewhere(available, "cpu")) == dict.fromkeys(available, Verdict(None))


def test_a_real_child_that_crashes(monkeypatch):
    script = ("import os, signal, sys; from fastgan.ops import deconv; from fastgan.ops.dispatch import self_checks;"
              "deconv.self_check = lambda *_: os.kill(os.getpid(), signal.SIGSEGV); "
              "self_checks.serve(sys.argv[1], sys.argv[2:])")
    monkeypatch.setattr(check_subprocess, "CHILD", (sys.executable, "-c", script))
    [(key, verdict)] = check_elsewhere(["deconv subpixel"], "cpu")
    assert (key, verdict.problem) == (
        "deconv subpixel",
        "the process of the check was killed by SIGSEGV",
    )
    assert verdict.is_own


@pytest.mark.gpu
def test_a_process_that_read_outside_the_memory_of_a_gpu_has_no_say_in_what_follows(monkeypatch):
    """An index outside a tensor breaks every later use of the device by that process."""
    script = ("import sys, torch; from fastgan.ops import deconv; from fastgan.ops.dispatch import self_checks;"
              "deconv.self_check = "
              "lambda _, device: torch.zeros(2, device=device)[torch.tensor([9], device=device)].item();"
              "self_checks.serve(sys.argv[1], sys.argv[2:])")
    monkeypatch.setattr(check_subprocess, "CHILD", (sys.executable, "-c", script))
    names = [
        f"{op} {name}"
        for op in ("deconv", "leaky_relu_bce")
        for name in registry.OPS[op]
        if registry.unavailable(name, "cuda") is None
    ]
    for key, verdict in check_elsewhere(names, "cuda"):
        assert (verdict.problem is None) == (not key.startswith("deconv")), verdict.problem
        assert verdict.problem is None or ("CUDA error" in verdict.problem and verdict.is_own)
