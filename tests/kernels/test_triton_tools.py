import os
from pathlib import Path

import pytest
import torch
from triton_tools import CAPABILITIES, compile_for, compile_launches, run_interpreted

triton = pytest.importorskip("triton", reason="triton is not installed")
import triton.language as tl  # noqa: E402


@triton.jit
def _double_kernel(x, y, size, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, 2 * tl.load(x + i, i < size), i < size)


def double(x):
    y = torch.empty_like(x)
    _double_kernel[(triton.cdiv(x.numel(), 256),)](x, y, x.numel(), BLOCK=256)
    return y


def check_double(size):
    x = torch.arange(float(size))
    assert torch.equal(double(x), 2 * x)


@triton.jit
def _product_kernel(x, y, z):
    i = tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :]
    tl.store(z + i, tl.dot(tl.load(x + i), tl.load(y + i)).to(tl.bfloat16))


@triton.jit
def _cast_kernel(x, y):
    i = tl.arange(0, 8)
    tl.store(y + i, tl.load(x + i).to(tl.bfloat16))


def check_product_of_bfloat16():
    x, y = torch.randn(2, 16, 16).bfloat16()
    z = torch.empty_like(x)
    _product_kernel[(1,)](x, y, z)
    assert torch.equal(z, (x.double() @ y.double()).bfloat16())
    ties_and_extremes = torch.tensor(
        [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -3e38, 1e-40, float("inf"), float("nan"), 0.0]
    )
    _cast_kernel[(1,)](ties_and_extremes, z)
    assert torch.allclose(z.flatten()[:8], ties_and_extremes.bfloat16(), rtol=0, atol=0, equal_nan=True)


@triton.jit
def _sum_kernel(x, y, size):
    total = tl.load(x)
    for i in range(1, size):
        total += tl.load(x + i)
    tl.store(y, total)


def check_loop_to_a_bound_that_is_given():
    x, y = torch.arange(7.0), torch.empty(1)
    _sum_kernel[(1,)](x, y, 6)
    assert y.item() == 15


def check_that_fails(number):
    raise ValueError(f"no {number} here")


def check_that_skips():
    pytest.skip("because of the weather")


def check_that_crashes():
    os.abort()


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiles_for_a_gpu_that_is_not_there(capability):
    kernel = compile_for(
        _double_kernel, {"x": "*fp32", "y": "*fp32", "size": "i32"}, {"BLOCK": 256}, capability, num_warps=2
    )
    assert f".target sm_{capability}" in kernel.asm["ptx"]
    assert kernel.asm["cubin"].startswith(b"\x7fELF")
    assert ".maxntid 64" in kernel.asm["ptx"].replace(".reqntid", ".maxntid")


def test_promised_alignment_makes_loads_wide():
    narrow = compile_for(_double_kernel, {"x": "*fp32", "y": "*fp32", "size": "i32"}, {"BLOCK": 1024}, 90)
    wide = compile_for(_double_kernel, {"x": "*fp32:16", "y": "*fp32:16", "size": "i32:16"}, {"BLOCK": 1024}, 90)
    assert "ld.global.v4" not in narrow.asm["ptx"]
    assert "ld.global.v4" in wide.asm["ptx"]


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiles_what_a_function_launches(capability):
    aligned, odd = (
        compile_launches(lambda size=size: double(torch.empty(size, device="meta")), capability)
        for size in (4096, 4097)
    )
    assert len(aligned) == len(odd) == 1
    assert f".target sm_{capability}" in aligned[0].asm["ptx"]
    assert "ld.global.v2" in aligned[0].asm["ptx"]
    assert "ld.global.v2" not in odd[0].asm["ptx"]


@pytest.mark.parametrize("size", [1, 256, 1000])
def test_runs_a_function_in_the_interpreter(size):
    run_interpreted(check_double, size)


def test_runs_a_script_in_the_interpreter(tmp_path):
    script = tmp_path / "check.py"
    script.write_text("import os\nassert os.environ['TRITON_INTERPRET'] == '1'\nassert __name__ == '__main__'\n")
    run_interpreted(str(script))
    script.write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(pytest.fail.Exception, match="check.py.*\n.*exit code 3"):
        run_interpreted(str(script))


def test_bfloat16_is_multiplied_and_rounded_as_on_a_gpu():
    run_interpreted(check_product_of_bfloat16)


def test_loops_to_a_bound_that_the_kernel_is_given():
    run_interpreted(check_loop_to_a_bound_that_is_given)


def test_a_failure_is_reported_with_its_traceback_and_nothing_above_it():
    with pytest.raises(pytest.fail.Exception) as failure:
        run_interpreted(check_that_fails, 7)
    assert "check_that_fails(7)" in str(failure.value)
    assert f'File "{Path(__file__)}"' in str(failure.value)
    assert "ValueError: no 7 here" in str(failure.value)
    assert "/triton_tools.py" not in str(failure.value)


def test_a_skip_there_is_a_skip_here():
    with pytest.raises(pytest.skip.Exception, match="because of the weather"):
        run_interpreted(check_that_skips)


def test_a_crash_fails_its_own_test_alone():
    with pytest.raises(pytest.fail.Exception, match="died with exit code -6"):
        run_interpreted(check_that_crashes)
    run_interpreted(check_double, 3)
