"""CUDA code for a GPU that is only described.

It is generated, counted, and compiled to machine code where torch can.
"""
import pytest
import torch

from fastgan.bench.cuda_code import described_gpu
from fastgan.bench.cuda_code.code_cases import family, make_code_case
from fastgan.bench.cuda_code.generate import Settings, code_rows_of
from fastgan.errors import UserError

can_generate = pytest.mark.skipif(
    torch.version.cuda is None or torch.cuda.is_available() or not torch.__version__.startswith(described_gpu.KNOWN),
    reason="needs torch for CUDA on a machine without a GPU: bash bench/cuda_code/environment.sh FOLDER",
)
SETTINGS = Settings({}, "fastgan bench cuda-code")


def test_a_cpu_build_and_an_unknown_release_are_refused_in_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UserError, match=r"CPU build.*environment\.sh"):
        described_gpu.check_this_torch()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    with pytest.raises(UserError, match=r"2\.99\.0"):
        described_gpu.check_this_torch()


@can_generate
@pytest.mark.thorough
def test_the_smallest_step_has_launches_bytes_and_no_spill():
    (row,) = code_rows_of(make_code_case("mlp", batch_size=16), SETTINGS, print)
    assert row.problem is None
    assert row.triton_launches > 0
    assert row.library_by_kind["products"] > 0
    assert row.triton_bytes > 3 * 4 * 2 * 256 * 784  # Adam alone reads and writes three numbers a weight
    assert row.spills == 0


@can_generate
@pytest.mark.thorough
@pytest.mark.parametrize(
    "case", family(), ids=lambda case: f"{case.config.preset} {case.words} {case.config.run.batch_size}"
)
def test_every_phase_of_the_family_compiles_and_none_spills(case):
    for row in code_rows_of(case, SETTINGS, print):
        assert row.problem is None, row
        assert row.spills == 0, row
