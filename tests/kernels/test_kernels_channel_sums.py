"""The Triton kernel of channel sums, in the interpreter and compiled for absent GPUs.

The interpreted kernel is compared with the library's sums.
"""

import re
from unittest import mock

import pytest
import torch
from checking import assert_close_to_truth
from triton_tools import CAPABILITIES, compile_launches, run_interpreted

from fastgan.ops import channel_sums as op

pytest.importorskip("triton", reason="triton is not installed")

# One tensor and many, ragged rows and channels, groups of columns, one row, vectors, many runs
# beside a single one.
LISTS = {
    "one": ((4, 3, 5, 7),),
    "unlike": ((2, 70, 3, 3), (130, 40), (1, 5), (6, 33, 13, 11), (2, 1, 1, 1)),
    "large and small": ((2, 2, 128, 150), (3, 4), (2, 96, 2, 2)),
}
TRAINED = [(256, 16, 16, 16), (256, 32, 8, 8), (256, 64, 4, 4), (256, 512, 32, 32), (64, 1024)]


def random(shapes, dtype):
    generator = torch.Generator().manual_seed(0)
    tensors = [(1 + torch.randn(shape, generator=generator)).to(dtype) for shape in shapes]
    return [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in tensors]


def sums_of(tensors, dtype):
    return torch.cat([x.to(dtype).sum([0, *range(2, x.ndim)]) for x in tensors])


def check_sums(shapes, dtype):
    from fastgan.kernels import channel_sums as kernels
    from fastgan.kernels import last_program

    tickets, tensors = torch.zeros(last_program.TICKETS, dtype=torch.int32), random(shapes, dtype)
    ours, truth = kernels.channel_sums(tensors, tickets), sums_of(tensors, torch.float64)
    assert ours.dtype == dtype
    assert_close_to_truth(ours, sums_of(tensors, dtype), truth, atol=torch.finfo(dtype).eps * truth.abs().max().item())
    assert not tickets.any(), "the last programs must leave their tickets at zero"
    assert torch.equal(kernels.channel_sums(tensors, tickets), ours), "a second launch found something else"


def check_other_plans():
    """Check runs of a single tile, and sums of runs that the last program reads one at a time."""
    from fastgan.kernels import channel_sums as kernels
    from fastgan.kernels import last_program

    with (
        mock.patch.multiple(kernels, TILE=64, COLUMNS=4, PROGRAMS=40, FEWEST_STEPS=1),
        mock.patch.object(last_program, "MOST_RUNS", 2),
    ):
        check_sums(((3, 9, 5, 7), (50, 6)), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shapes", LISTS.values(), ids=LISTS)
def test_sums_of_every_channel_of_every_tensor(shapes, dtype):
    run_interpreted(check_sums, shapes, dtype)


def test_other_tiles():
    run_interpreted(check_other_plans)


def test_programs_are_in_proportion_to_the_work_and_no_two_share_a_place():
    from fastgan.kernels import channel_sums as kernels

    tensors = [torch.empty(shape, device="meta") for shape in TRAINED]
    shares = kernels._shares(tensors)
    programs = [share.groups * share.runs for share in shares]
    assert sum(programs) <= 2 * kernels.PROGRAMS
    assert programs[3] == max(programs)
    assert [share.program for share in shares] == [sum(programs[:i]) for i in range(len(shares))]
    for share, following in zip(shares[:-1], shares[1:], strict=True):
        assert following.partial == share.partial + share.runs * share.channels
        assert following.sums == share.sums + share.channels
        assert following.ticket == share.ticket + share.groups
    for share, x in zip(shares, tensors, strict=True):
        tile = kernels.TILE // kernels.COLUMNS
        assert (share.runs - 1) * share.steps * tile < share.rows <= share.runs * share.steps * tile
        assert share.rows * share.channels == x.numel()


@pytest.fixture(
    scope="module",
    params=[pytest.param(each, marks=() if each == 90 else pytest.mark.thorough) for each in CAPABILITIES],
)
def compiled(request):
    """Return one launch as training makes it, and the target of its compilation."""
    from fastgan.kernels import channel_sums as kernels
    from fastgan.kernels import last_program

    tensors = [torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in TRAINED]
    tensors = [x.to(memory_format=torch.channels_last) if x.ndim == 4 else x for x in tensors]
    tickets = torch.empty(last_program.TICKETS, dtype=torch.int32, device="meta")
    (kernel,) = compile_launches(lambda: kernels.channel_sums(tensors, tickets), request.param)
    return kernel, request.param


def test_it_compiles_to_one_launch_without_a_spill_and_with_wide_loads(compiled):
    kernel, capability = compiled
    assert f".target sm_{capability}" in kernel.asm["ptx"]
    assert ".local" not in kernel.asm["ptx"]
    assert kernel.metadata.shared <= 48 * 1024
    wide = re.findall(r"ld\.global\.v4|cp\.async\.cg", kernel.asm["ptx"])
    assert len(wide) >= len(TRAINED)


def test_each_program_says_that_it_has_written_before_it_looks_who_has(compiled):
    ptx = compiled[0].asm["ptx"]
    parts = re.split(r"atom\.[a-z.]*acq_rel[a-z0-9.]*add[a-z0-9.]*", ptx)
    assert len(parts) == len(TRAINED) + 1
    for before in parts[:-1]:
        assert "bar.sync" in before[before.rindex("st.global") :]


@pytest.mark.gpu
def test_on_a_gpu():
    assert op.self_check("triton", torch.device("cuda")) is None
