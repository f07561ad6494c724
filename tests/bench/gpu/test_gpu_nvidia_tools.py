"""The native library, Nsight Compute and compute-sanitizer: decisions from their output."""

import json

import pytest

from fastgan.bench import json_lines
from fastgan.bench.gpu import chip, nvidia_tools
from fastgan.ops.dispatch import registry

FITS = {"problem": None, "wanted": "sm_90", "architectures": ["sm_80", "sm_90", "sm_90 ptx"]}


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (FITS, ""),
        ({**FITS, "architectures": ["sm_90a"]}, ""),
        ({**FITS, "architectures": None}, ""),  # no cuobjdump: its kernels ran
        ({**FITS, "wanted": None}, ""),
        ({**FITS, "architectures": ["sm_80", "sm_90 ptx"]}, "it has no machine code for sm_90, only sm_80, sm_90 ptx"),
        ({**FITS, "problem": "it does not load"}, "it does not load"),
    ],
)
def test_which_library_fits(found, why):
    assert chip.unfit(found) == why


@pytest.mark.parametrize(
    ("before", "problem", "after", "used", "why"),
    [
        (FITS, None, None, "prebuilt", ""),
        ({**FITS, "problem": "it was not built"}, "", FITS, "built", "it was not built"),
        ({**FITS, "architectures": ["sm_80"]}, "", {**FITS, "architectures": ["sm_80"]}, "built",
         "it has no machine code for sm_90, only sm_80"),
        ({**FITS, "problem": "it was not built"}, "cmake is not installed", {**FITS, "problem": "it was not built"},
         "none", "it was not built; then: cmake is not installed; then: it was not built"),
    ],
)  # fmt: skip
def test_a_library_is_built_only_where_what_is_there_does_not_fit(
    tmp_path, monkeypatch, before, problem, after, used, why
):
    answers = [before, after]
    monkeypatch.setattr(chip, "tried", lambda device_type: answers.pop(0))
    monkeypatch.setattr(chip, "build", lambda: problem)
    row = chip.settle("cuda", tmp_path / "rows.jsonl")
    assert (row["used"], row["why"]) == (used, why)
    assert json_lines.rows_since(tmp_path / "rows.jsonl") == [row]


def test_trying_it(monkeypatch, capsys):
    assert chip.main(["library", "--try", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problem"] == registry.native_problem("cpu")
    assert found["wanted"] is None
    monkeypatch.setattr(chip.sys, "executable", "/bin/false")
    assert chip.tried("cpu")["problem"].startswith("trying it ended with code 1")


def test_without_cmake_nothing_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(chip, "CHECKOUT", tmp_path)
    assert chip.build() == "cmake is not installed"


def test_without_a_checkout_nothing_is_built(monkeypatch):
    monkeypatch.setattr(chip, "CHECKOUT", None)
    assert chip.build() == "there is no checkout to build it from"


# --- compute-sanitizer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code", "errors", "problem"),
    [
        ("========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors", 0, 0, None),
        ("========= Invalid __global__ write\n========= ERROR SUMMARY: 3 errors", 0, 3, "3 errors"),
        ("========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)", 0, 0, None),
        ("========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)", 0, 2, "2 errors"),
        ("Error: device not supported\n", 255, None, "no summary, code 255: Error: device not supported"),
    ],
)
def test_what_the_sanitizer_found(said, code, errors, problem):
    assert nvidia_tools.verdict(said, code) == {"errors": errors, "problem": problem}


def test_every_native_operator_is_checked_by_every_tool(tmp_path, monkeypatch):
    keys = nvidia_tools.keys()
    assert "deconv cuda" in keys
    monkeypatch.setattr(
        nvidia_tools,
        "sanitize",
        lambda tool, key: {"kind": "sanitizer", "tool": tool, "op": key, "errors": 0, "problem": None},
    )
    assert nvidia_tools.main(["sanitizer", "--rows", str(tmp_path / "rows.jsonl")]) == 0
    found = json_lines.rows_since(tmp_path / "rows.jsonl")
    assert len(found) == len(nvidia_tools.SANITIZERS) * len(keys)
    monkeypatch.setattr(
        nvidia_tools,
        "sanitize",
        lambda tool, key: {"kind": "sanitizer", "tool": tool, "op": key, "errors": 1, "problem": "1 errors"},
    )
    assert nvidia_tools.main(["sanitizer", "--rows", str(tmp_path / "rows.jsonl")]) == 1


def test_what_it_runs_is_a_self_check(capsys):
    """The command behind the tool, for the operators that a CPU has."""
    exec(nvidia_tools.sanitizer_command("memcheck", "deconv subpixel")[-1].replace("'cuda'", "'cpu'"), {})
    said = capsys.readouterr().out
    assert [json.loads(line) for line in said.splitlines() if line.strip()][-1][:2] == ["deconv subpixel", None]


def test_a_tool_that_is_missing_or_hangs_is_a_problem(monkeypatch):
    monkeypatch.setattr(nvidia_tools, "sanitizer_command", lambda tool, key: ["no-such-program"])
    assert nvidia_tools.sanitize("memcheck", "deconv cuda")["problem"] == "it did not end: FileNotFoundError"
    monkeypatch.setattr(nvidia_tools, "sanitizer_command", lambda tool, key: ["sleep", "60"])
    monkeypatch.setattr(nvidia_tools, "CASE_S", 0.1)
    assert nvidia_tools.sanitize("memcheck", "deconv cuda")["problem"] == "it did not end: TimeoutExpired"


# --- Nsight Compute ---------------------------------------------------------------------------------------------------

TABLE = """==PROF== Connected to process 1
"ID","Kernel Name","dram__throughput.avg.pct_of_peak_sustained_elapsed","gpu__time_duration.sum",\
"launch__registers_per_thread"
"","","%","us","register/thread"
"0","triton_red_fused_0","71.5","10.5","32"
"1","Kernel2","12.0","1,020.25","255"
"2","triton_red_fused_0","80.5","12.5","32"
a warning of the step, at the end
"""


def test_counters_are_rows_the_longest_launch_of_each_kernel():
    found = nvidia_tools.parse_counters(TABLE)
    assert found == [
        {"kind": "ncu", "name": "Kernel2", "unit": "us", "dram_percent": 12.0, "duration": 1020.25, "registers": 255.0},
        {
            "kind": "ncu",
            "name": "triton_red_fused_0",
            "unit": "us",
            "dram_percent": 80.5,
            "duration": 12.5,
            "registers": 32.0,
        },
    ]
    assert nvidia_tools.parse_counters("==ERROR== no counters\n") == []


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("triton_poi_fused_add_3", "triton_poi_fused_add_3"),
        ("void cutlass::Kernel2<cutlass_80_wmma(int)::X>(cutlass::Params)", "Kernel2"),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float> >(int)",
            "vectorized_elementwise_kernel",
        ),
        ("sm90_xmma_fprop_implicit_gemm_bf16", "sm90_xmma_fprop_implicit_gemm_bf16"),
    ],
)
def test_the_name_of_a_kernel_without_its_template(name, base):
    assert nvidia_tools.base_name(name) == base


def test_ncu_leaves_the_clocks_alone_and_profiles_what_the_child_asks_for():
    command = nvidia_tools.ncu_command(["a.b", "c"], ["-m", "fastgan.bench.gpu.nvidia_tools"])
    assert command[command.index("--clock-control") + 1] == "none"
    assert command[command.index("--profile-from-start") + 1] == "off"
    assert command[command.index("--kernel-name") + 1] == r"regex:^(a\.b|c)$"
    assert command[-2:] == ["-m", "fastgan.bench.gpu.nvidia_tools"]
