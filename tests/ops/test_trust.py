"""Every implementation is checked before it is relied on, and one that fails costs a warning, never the program."""
import math
import subprocess

import pytest
import torch

from fastgan import ops
from fastgan.ops import bias_act, deconv, findings, trust
from fastgan.ops.trust import three_way_problem


@pytest.fixture(autouse=True)
def forgetful(monkeypatch, tmp_path):
    """Nothing is known from before, and nothing is remembered."""
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    trust._failed_check.cache_clear()
    yield
    trust._failed_check.cache_clear()


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
    for implementation in ops.OPS[name]:
        if ops.unavailable(implementation, "cpu") is None:
            assert op.self_check(implementation, torch.device("cpu")) is None


@pytest.mark.parametrize("direction", ["up", "down", "weight"])
def test_a_form_of_deconv_that_is_wrong_is_found(monkeypatch, direction):
    right = getattr(deconv.deconv_forms, f"{direction}_subpixel")
    monkeypatch.setattr(deconv.deconv_forms, f"{direction}_subpixel", lambda *arguments: right(*arguments) * 1.01)
    with pytest.warns(UserWarning, match="deconv: the implementation 'subpixel' is not used"):
        problem = trust.problem("deconv", "subpixel", "cpu")
    assert f"it failed its check: {direction} in torch.float32 is off by" in problem


def test_an_error_in_a_kernel_is_a_verdict_and_is_remembered(monkeypatch):
    checks = []

    def self_check(implementation, device):
        checks.append(implementation)
        raise RuntimeError("invalid device function\nand more")

    monkeypatch.setattr(deconv, "self_check", self_check)
    for _ in range(2):
        trust._failed_check.cache_clear()  # as in a new process
        with pytest.warns(UserWarning, match="RuntimeError: invalid device function$"):
            trust.problem("deconv", "subpixel", "cpu")
    assert checks == ["subpixel"]


def test_what_is_not_available_is_not_checked(monkeypatch):
    monkeypatch.setenv("FASTGAN_OPS", "reference")
    assert trust.problem("deconv", "subpixel", "cpu") == "turned off by FASTGAN_OPS=reference"
    monkeypatch.delenv("FASTGAN_OPS")
    assert trust.problem("deconv", "triton", "cpu") == "it is not for cpu tensors"


def test_the_check_may_come_in_the_middle_of_an_autocast_forward_pass():
    with torch.autocast("cpu", torch.bfloat16):
        for name, implementations in ops.OPS.items():
            for implementation in implementations:
                if ops.unavailable(implementation, "cpu") is None:
                    assert trust.problem(name, implementation, "cpu") is None


def test_the_self_check_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    trust.problem("deconv", "subpixel", "cpu")
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("output", "code", "expected"),
    [
        ('["deconv cuda", "begun"]\n["deconv cuda", null]\n', 0, None),
        ('["deconv cuda", "begun"]\n["deconv cuda", "up is off"]\n', 0, "up is off"),
        ('["deconv cuda", "begun"]\n', -11, "the process that checked it ended with code -11: Segmentation fault"),
        ("", 1, "it was not checked"),
    ],
)
def test_a_kernel_that_ends_its_process_is_left_out(monkeypatch, output, code, expected):
    """The checks of CUDA kernels run in a child; what it said before it died counts."""
    child = subprocess.CompletedProcess([], code, stdout=output, stderr="...\nSegmentation fault\n")
    monkeypatch.setattr(trust.subprocess, "run", lambda *arguments, **options: child)
    monkeypatch.setattr(ops, "unavailable", lambda implementation, device_type: None)
    monkeypatch.setattr(findings, "_stamp", lambda device_type: "a GPU")
    if expected is None:
        assert trust.problem("deconv", "cuda", "cuda") is None
        return
    with pytest.warns(UserWarning, match="'cuda' is not used"):
        assert trust.problem("deconv", "cuda", "cuda") == f"it failed its check: {expected}"


def test_the_child_prints_a_verdict_for_everything_there_is(capsys):
    trust._main("cpu")
    lines = capsys.readouterr().out.splitlines()
    available = [name for names in ops.OPS.values() for name in names if ops.unavailable(name, "cpu") is None]
    assert len(lines) == 2 * len(available)
    assert '["deconv subpixel", null]' in lines
