"""The figure of a stage, and the table at the end of a run."""
import json

import pytest

from fastgan.bench import json_lines
from fastgan.bench.gpu import plan, summary
from fastgan.bench.gpu.runner import Outcome

STEP_ROW = {
    "preset": "dcgan", "resolution": 64, "channels": 3, "batch_size": 128, "implementation": "captured",
    "dtype": "bf16", "imgs_per_sec": 95_321.0, "imgs_per_sec_quartiles": [95_000.0, 96_000.0], "ratio_to_plain": 3.1,
    "ratio_to_plain_quartiles": [3.0, 3.2],
    "ratio_to_accelerated": 1.42, "ratio_to_accelerated_quartiles": [1.4, 1.45], "gflops": 216_000.0,
    "percent_of_matmul": 27.9, "compile_s": 35.0, "kernel_launches": 0.31, "host_syncs": 0.0, "peak_memory_mb": 1234.5,
    "paid_after_images": 1000, "note": "", "command": "fastgan bench step --autotune",
}  # fmt: skip
PLAIN_ROW = {
    **STEP_ROW,
    "implementation": "plain",
    "imgs_per_sec": 30_000.0,
    "ratio_to_accelerated": None,
    "compile_s": 0.0,
}


def kernel_rows(rung):
    total = {"kind": "total", "rung": rung, "kernels": 210.0, "microseconds": 1340.0}
    return [
        total,
        *(
            {"kind": "kernel", "rung": rung, "name": f"kernel_{n}", "microseconds": 10.0 * n, "share": n / 100}
            for n in range(1, 9)
        ),
    ]


def check(name, problem):
    return {"kind": "check", "op": "deconv", "implementation": name, "problem": problem}


def row_of_test(outcome, name="tests/test_a.py::test_a", message=""):
    return {"kind": "test", "test": name, "outcome": outcome, "message": message}


@pytest.mark.parametrize(
    ("file", "found", "words"),
    [
        (plan.STEP, [PLAIN_ROW, STEP_ROW], "captured 95,300 imgs/sec, 1.42 x accelerated, 3.1 x plain, 27.9 % matmul"),
        (plan.STEP, [{**STEP_ROW, "ratio_to_plain": None}],
         "captured 95,300 imgs/sec, 1.42 x accelerated, 27.9 % matmul"),
        (plan.STEP, [PLAIN_ROW], "no rung of fastgan"),
        (plan.KERNELS, kernel_rows("eager") + kernel_rows("compiled"),
         "eager 210 kernels 1,340 us; compiled 210 kernels 1,340 us"),
        (plan.LOADER, [{"a": 1}, {"a": 2}], "2 rows"),
        (plan.RESULTS, [check("cuda", None), check("triton", "off by 1")], "1 of 2 right; not used: deconv triton"),
        (plan.RESULTS, [row_of_test("passed"), row_of_test("failed"), row_of_test("passed")], "2 passed, 1 failed"),
        (plan.RESULTS, [{"kind": "machine"}], "1 rows"),
        (plan.RESULTS, [{"kind": "chip", "copy_gbytes_per_s": 4310.0,
                         "matmul_tflops": {"bf16": 778.4, "tf32": 412.0, "fp32": 51.9}}],
         "copy 4,310 GB/s, bf16 778, TF32 412, fp32 51.9 TFLOP/s"),
        (plan.RESULTS, [{"kind": "job", "total_s": 61.26, "compile_s": 41.02, "imgs_per_sec": 88_123.0}],
         "61.3 s to the last grid, compiling 41.0 s, 88,100 imgs/sec"),
        (plan.RESULTS, [{"kind": "smoke", "step": "a", "problem": None},
                        {"kind": "smoke", "step": "b", "problem": "no"}], "1 of 2 right; not: b"),
        (plan.RESULTS, [{"kind": "library", "used": "prebuilt", "architectures": ["sm_90"]}], "prebuilt, sm_90"),
        (plan.RESULTS, [{"kind": "choice", "chosen": "cuda"}, {"kind": "choice", "chosen": "cuda"}], "chosen: cuda 2"),
        (plan.RESULTS, [{"kind": "culprit", "rung": "captured", "culprit": "the operator deconv=cuda"}],
         "captured: the operator deconv=cuda"),
        (plan.RESULTS, [{"kind": "sanitizer", "tool": "memcheck", "op": "deconv cuda", "problem": "3 errors"}],
         "0 of 1 clean; not: memcheck deconv cuda"),
        (plan.RESULTS, [{"kind": "ncu", "name": "k", "dram_percent": 80.5}],
         "1 kernels; the longest, k, at 80.5 % of the memory's rate"),
        (plan.RESULTS, [{"kind": "sweep", "imgs_per_sec": 1000.0, "cudnn_benchmark": True, "combo_kernels": False}],
         "1,000 imgs/sec with benchmark=True combo=False"),
        (plan.RESULTS, [], ""),
    ],
)  # fmt: skip
def test_the_figure_of_rows(file, found, words):
    assert summary.figure(file, found) == words


def test_the_figure_of_operators_counts_who_is_fastest():
    ratios = {
        ("up", "reference"): 1.0,
        ("up", "cuda"): 1.5,
        ("up", "triton"): 1.2,
        ("down", "reference"): 1.0,
        ("down", "cuda"): 0.8,
    }
    found = [
        {"op": "deconv", "call": call, "dtype": "bf16", "implementation": name, "ratio_to_reference": ratio}
        for (call, name), ratio in ratios.items()
    ]
    assert summary.figure(plan.OPS, found) == "2 calls, fastest: cuda 1, reference 1"


def test_rows_that_look_otherwise_end_nothing():
    assert summary.figure(plan.STEP, [{"implementation": "captured"}]).startswith("1 rows, no figure: KeyError")


def outcome(name, state="ok", figure="", reason=""):
    return Outcome(name, state, 12.34, figure, reason, "python", "", None)


def fill(folder, file, found):
    for row in found:
        json_lines.append_row(folder / file, row)


def test_the_table_has_steps_kernels_problems_and_stages(tmp_path):
    fill(tmp_path, plan.STEP, [PLAIN_ROW, {**STEP_ROW, "note": "K = 8"}])
    fill(tmp_path, plan.KERNELS, kernel_rows("compiled"))
    fill(
        tmp_path,
        plan.RESULTS,
        [check("triton", "off by 1"), row_of_test("failed", message="assert\n1 == 2"), row_of_test("passed")],
    )
    lines = summary.summary(
        [outcome("dcgan-128", figure="captured"), outcome("chip", "cut off", reason="no time")], tmp_path
    ).splitlines()
    captured = next(line for line in lines if line.startswith("dcgan 64x64x3 batch 128 tuned  captured"))
    assert captured.split("  ")[2:5] == ["bf16", "95,300 (95,000–96,000)", "3.1 (3–3.2)"]
    assert captured.split()[-3:] == ["0.31", "0", "1,230"]
    assert "captured: K = 8" in lines
    assert [line for line in lines if "kernel_" in line] == [
        f"compiled: {n} % {10 * n} us kernel_{n}" for n in (8, 7, 6, 5)
    ]
    assert "check deconv triton: off by 1" in lines
    assert "failed tests/test_a.py::test_a: assert 1 == 2" in lines
    assert lines[-4:-2] == [
        "dcgan-128        ok         12.3 s  captured",
        "chip             cut off    12.3 s  no time",
    ]
    assert lines[-2] == f"rows and log: {tmp_path}"
    assert lines[-1] == "go on with: fastgan bench gpu --only chip"


def test_culprits_sweeps_and_a_head_are_shown_and_a_bisection_is_nothing_to_go_on_with(tmp_path):
    culprit = {
        "kind": "culprit",
        "preset": "mlp",
        "rung": "captured",
        "culprit": "reading the images",
        "reason": "RuntimeError: no",
    }
    refusal = {"kind": "refusal", "stage": "mlp-128", "preset": "mlp", "reasons": ["the captured step is not used"]}
    smoke = {"kind": "smoke", "step": "a kernel", "problem": "Traceback\nAssertionError: wrong"}
    library = {"kind": "library", "used": "built", "why": "it has no machine code for sm_90, only sm_80"}
    sanitizer = {"kind": "sanitizer", "tool": "memcheck", "op": "deconv cuda", "problem": "3 errors"}
    sweep = {"kind": "sweep", "preset": "dcgan", "batch_size": 128, "imgs_per_sec": 1000.0, "rung": "captured",
             "deconv": "auto", "cudnn_benchmark": True, "combo_kernels": False}  # fmt: skip
    fill(
        tmp_path,
        plan.RESULTS,
        [refusal, culprit, smoke, library, sanitizer, sweep, {**sweep, "imgs_per_sec": 2000.0, "combo_kernels": True}],
    )
    lines = summary.summary([outcome("bisect-1", "cut off", reason="stopped")], tmp_path, "a head").splitlines()
    assert lines[:6] == [
        "a head", "culprit mlp captured: reading the images (RuntimeError: no)",
        "refused in mlp-128: mlp the captured step is not used",
        "smoke a kernel: AssertionError: wrong", "library built: it has no machine code for sm_90, only sm_80",
        "memcheck deconv cuda: 3 errors",
    ]  # fmt: skip
    sweeps = [line for line in lines if line.startswith("sweep")]
    assert sweeps[0] == "sweep dcgan 128: 2,000 imgs/sec captured deconv=auto benchmark=True combo=True"
    assert len(sweeps) == 2
    assert not any(line.startswith("go on with") for line in lines)


def test_the_table_of_nothing_is_short(tmp_path):
    assert summary.summary([outcome("a")], tmp_path).splitlines()[-1] == f"rows and log: {tmp_path}"


def test_a_long_table_is_cut_and_its_end_is_not(tmp_path):
    fill(tmp_path, plan.STEP, [{**STEP_ROW, "note": f"note {n} " + "long " * 100} for n in range(80)])
    fill(tmp_path, plan.RESULTS, [row_of_test("failed", name="x" * 400) for _ in range(30)])
    lines = summary.summary([outcome(name) for name in plan.NAMES], tmp_path).splitlines()
    assert len(lines) == summary.LINES
    assert max(map(len, lines[:-1])) <= summary.WIDTH
    assert any("lines more" in line for line in lines)
    assert [line.split()[0] for line in lines if " ok " in line] == list(plan.NAMES)


def test_more_problems_than_fit_are_counted(tmp_path):
    fill(tmp_path, plan.RESULTS, [row_of_test("failed", name=f"test_{n}") for n in range(15)])
    assert "... and 3 more in results.jsonl" in summary.summary([outcome("a")], tmp_path)


def test_a_file_that_cannot_be_shown_is_said(tmp_path):
    (tmp_path / plan.STEP).write_text(json.dumps({"a": 1}) + "\n")
    assert "no table of step.jsonl: KeyError" in summary.summary([outcome("a")], tmp_path)
