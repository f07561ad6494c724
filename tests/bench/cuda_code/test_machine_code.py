"""The registers, memory and spills of a kernel, as the assembler counts them."""

import pytest
from triton_tools import compile_for

from fastgan.bench.cuda_code import machine_code


def test_memory_that_is_indexed_is_no_spill():
    """CUDA's cosine reduces large arguments in a table of its own."""
    triton = pytest.importorskip("triton", reason="triton is not installed")
    from triton.language.extra import libdevice

    tl = triton.language

    @triton.jit
    def cosine(x, y):
        at = tl.arange(0, 128)
        tl.store(y + at, libdevice.cos(tl.load(x + at)))

    compiled = compile_for(cosine, {"x": "*fp32", "y": "*fp32"}, {}, 90)
    assert ".local" in compiled.asm["ptx"]
    usage = machine_code._usage(compiled.asm["cubin"], compiled.asm["ptx"], compiled.metadata.shared)
    assert usage.spilled_bytes == 0
    assert 0 < usage.registers <= 255


def test_what_the_assembler_says_is_added_up():
    """A kernel whose threads may have 32 registers and hold 64 numbers."""
    lines = [f"ld.global.f32 %f{i}, [%rd1+{4 * i}];" for i in range(64)]
    lines += ["bar.sync 0;", *(f"st.global.f32 [%rd1+{4 * i}], %f{63 - i};" for i in range(64))]
    body = "\n".join(lines)
    ptx = f""".version 8.0
.target sm_90
.address_size 64
.visible .entry many(.param .u64 p) .maxnreg 24
{{
.reg .f32 %f<64>;
.reg .b64 %rd<2>;
ld.param.u64 %rd1, [p];
{body}
ret;
}}
"""
    pytest.importorskip("triton", reason="triton is not installed")
    assert machine_code._spilled_bytes(ptx) > 0
