"""The Triton kernels of BatchNorm's sums, in the interpreter and compiled for absent GPUs.

The interpreted kernels are compared with the reference.
"""

import functools
import re
from unittest import mock

import pytest
import torch
from checking import assert_close_to_truth
from triton_tools import CAPABILITIES, compile_launches, run_interpreted

from fastgan.ops import batch_norm as op

pytest.importorskip("triton", reason="triton is not installed")

SIZES = {  # shape of x, parts: one program and many, ragged rows and channels, groups of columns, lanes without rows
    "image": ((4, 3, 5, 7), 2),
    "two rows": ((2, 1, 1, 1), 1),
    "several groups": ((2, 70, 3, 3), 1),
    "several runs": ((6, 33, 13, 11), 3),
    "vectors": ((130, 40), 2),
    "many runs": ((2, 2, 128, 150), 1),
}
SHORT = ("image", "several groups", "vectors")  # the others take seconds
SLOPES = {"linear": 1.0, "relu": 0.0, "leaky relu": 0.2}
TRAINED = {"G, last": ((128, 64, 32, 32), 1), "D, both halves": ((256, 512, 4, 4), 2), "narrow": ((64, 24, 8, 8), 1)}


def random(shape, dtype, seed, offset=0.0):
    x = (offset + torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def kernels_and_tickets():
    from fastgan.kernels import batch_norm as kernels
    from fastgan.kernels import last_program

    return kernels, torch.zeros(last_program.TICKETS, dtype=torch.int32)


def check_statistics(shape, parts, dtype):
    kernels, tickets = kernels_and_tickets()
    x, start = random(shape, dtype, 0), [torch.linspace(1, 2, shape[1]), torch.linspace(2, 3, shape[1])]
    types = torch.float32, torch.float32, torch.float64
    running, reference_running, truth_running = (tuple(each.to(dtype, copy=True) for each in start) for dtype in types)
    ours = kernels.statistics(x, *running, tickets, 0.1, 1e-5, parts)
    op.batch_norm_reference(x.double(), None, None, *truth_running, 0.1, 1e-5, 1.0, parts)
    op.batch_norm_reference(x.float(), None, None, *reference_running, 0.1, 1e-5, 1.0, parts)
    reference, truth = (op.statistics_reference(x.to(t), 1e-5, parts) for t in (torch.float32, torch.float64))
    for each in zip((*ours, *running), (*reference, *reference_running), (*truth, *truth_running), strict=True):
        assert_close_to_truth(*each, atol=8 * torch.finfo(torch.float32).eps * each[2].abs().max().item())
    assert not tickets.any(), "the last programs must leave their tickets at zero"
    again = kernels.statistics(x, None, None, tickets, 0.1, 1e-5, parts)
    assert all(torch.equal(*each) for each in zip(ours, again, strict=True)), "a second launch found something else"


def check_a_large_mean():
    """Check a large mean: a difference of means of squares would lose a tenth of the variance."""
    kernels, tickets = kernels_and_tickets()
    x = random((6, 33, 13, 11), torch.float32, 0, 1000.0)
    _, rstd = kernels.statistics(x, None, None, tickets, 0.1, 1e-5, 3)
    torch.testing.assert_close(rstd, op.statistics_reference(x.double(), 1e-5, 3)[1].float(), rtol=5e-5, atol=0)


def check_gradient_sums(shape, parts, dtype, slope, affine):
    kernels, tickets = kernels_and_tickets()
    x, dy = random(shape, dtype, 0, 1.0), random(shape, dtype, 1)
    weight, bias = (torch.linspace(-1, 1, shape[1]), torch.linspace(1, -1, shape[1])) if affine else (None, None)
    mean, rstd = op.statistics_reference(x.float(), 1e-5, parts)
    ours = kernels.gradient_sums(x, dy, mean, rstd, weight, bias, tickets, slope)

    def reference(t):
        return op.gradient_sums_reference(
            *(None if each is None else each.to(t) for each in (x, dy, mean, rstd, weight, bias)), slope
        )

    for each in zip(ours, reference(torch.float32), reference(torch.float64), strict=True):
        assert_close_to_truth(*each, atol=8 * torch.finfo(torch.float32).eps * (1 + each[2].abs().max().item()))
    assert not tickets.any(), "the last programs must leave their tickets at zero"


def check_other_plans():
    """Check runs of a single tile, and sums of runs that the last program reads one at a time."""
    from fastgan.kernels import batch_norm as kernels
    from fastgan.kernels import last_program

    with (
        mock.patch.multiple(kernels, TILE=64, COLUMNS=4, PROGRAMS=40, FEWEST_STEPS=1),
        mock.patch.object(last_program, "MOST_RUNS", 2),
    ):
        check_statistics((3, 9, 5, 7), 3, torch.float32)
        check_gradient_sums((4, 9, 5, 7), 2, torch.float32, 0.2, True)


every_size = pytest.mark.parametrize(
    "size",
    [pytest.param(size, id=name, marks=() if name in SHORT else pytest.mark.thorough) for name, size in SIZES.items()],
)


@every_size
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_mean_and_variance_of_each_part(size, dtype):
    run_interpreted(check_statistics, *size, dtype)


def test_the_variance_survives_a_mean_a_thousand_times_as_large():
    run_interpreted(check_a_large_mean)


@pytest.mark.parametrize("slope", SLOPES.values(), ids=SLOPES)
@every_size
def test_sums_of_the_gradient(size, slope):
    run_interpreted(check_gradient_sums, *size, torch.bfloat16, slope, True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_sums_of_the_gradient_without_weight_and_bias(dtype):
    run_interpreted(check_gradient_sums, (4, 3, 5, 7), 2, dtype, 0.2, False)


def test_other_tiles():
    run_interpreted(check_other_plans)


@functools.cache
def compiled(name, dtype, capability):
    """Return (statistics, gradient sums), compiled as training launches them."""
    from fastgan.kernels import batch_norm as kernels
    from fastgan.kernels import last_program

    def empty(*size, dtype=torch.float32):
        return torch.empty(size, dtype=dtype, device="meta")

    shape, parts = TRAINED[name]
    x = empty(*shape, dtype=dtype).to(memory_format=torch.channels_last)
    channels, tickets = empty(shape[1]), empty(last_program.TICKETS, dtype=torch.int32)

    def launch():
        mean, rstd = kernels.statistics(x, channels, channels, tickets, 0.1, 1e-5, parts)
        kernels.gradient_sums(x, x, mean, rstd, channels, channels, tickets, 0.2)

    return compile_launches(launch, capability)


@pytest.mark.parametrize(
    "capability", [pytest.param(each, marks=() if each == 90 else pytest.mark.thorough) for each in CAPABILITIES]
)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough if name == "narrow" else ()) for name in TRAINED]
)
def test_each_compiles_to_one_launch_without_a_spill(name, capability):
    both = compiled(name, torch.bfloat16, capability)
    assert len(both) == 2
    for kernel in both:
        assert f".target sm_{capability}" in kernel.asm["ptx"]
        assert ".local" not in kernel.asm["ptx"]
        assert kernel.metadata.shared <= 48 * 1024


@pytest.mark.parametrize("name", ["G, last", "D, both halves"])
def test_images_are_read_in_wide_loads(name):
    for kernel in compiled(name, torch.bfloat16, 90):
        assert re.search(r"(ld\.global\.v4|cp\.async\.cg\.shared\.global .*, 0x10|cp\.async\.cg)", kernel.asm["ptx"])


def test_a_program_says_that_it_has_written_and_only_then_looks_who_has():
    """No store may come between the barrier and the count: other threads' sums would be missed."""
    for kernel in compiled("G, last", torch.bfloat16, 90):
        before, after = re.split(r"atom\.[a-z.]*acq_rel[a-z0-9.]*add[a-z0-9.]*", kernel.asm["ptx"])
        assert "bar.sync" in before[before.rindex("st.global") :]
        assert "bar.sync" in after[: after.index("ld.global")]


def test_the_operators_for_compiled_code_know_their_shapes():
    operators = op._operators()
    with torch._subclasses.FakeTensorMode():
        x = torch.empty(4, 5, 2, 2, dtype=torch.bfloat16, device="cuda").to(memory_format=torch.channels_last)
        channels = torch.empty(5, device="cuda")
        mean, rstd = operators.statistics(x, channels, channels, 0.1, 1e-5, 2)
        sums, totals = operators.gradient_sums(x, x, mean, rstd, channels, None, 0.0)
        assert (mean.shape, rstd.shape, sums.shape, totals.shape) == ((2, 5), (2, 5), (2, 2, 5), (2, 5))
        assert mean.dtype == rstd.dtype == sums.dtype == totals.dtype == torch.float32


@pytest.mark.gpu
def test_on_a_gpu():
    assert op.self_check("triton", torch.device("cuda")) is None
