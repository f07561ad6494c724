"""Fixtures shared by the tests of native kernels."""
import pytest
import torch

from fastgan.ops.dispatch import registry

ISAS = ("generic", "avx2", "avx512", "avx512_bf16")  # numbered as in csrc/cpu_features.h


@pytest.fixture(scope="session")
def native():
    """Return the operators of the library; skip without it."""
    if registry.native_problem("cpu"):
        pytest.skip(registry.native_problem("cpu"))
    return torch.ops.fastgan


@pytest.fixture(params=range(len(ISAS)), ids=ISAS)
def isa(request, native):
    """Run a test with the kernels of one set of vector instructions."""
    library, _ = registry._load()
    if library.fastgan_limit_isa(request.param) != request.param:
        library.fastgan_limit_isa(len(ISAS) - 1)
        pytest.skip("this machine does not have these instructions")
    yield request.param
    library.fastgan_limit_isa(len(ISAS) - 1)
