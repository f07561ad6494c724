"""Triton kernel of the channel sums of several tensors: the bias gradients of a network.

One launch sums every channel of all tensors. A tensor lies in memory as [rows, C]: an image in
channels_last, or [N, C]. Each has programs in proportion to its size, numbered one behind the
other. A program sums a run of rows for some columns and writes its partial sums; the last program
of a column (last_program.py) adds them up.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from fastgan.kernels import last_program

TILE = 2048  # elements at a time, 16 a thread
COLUMNS = 32  # 64 bytes of a bfloat16 row, two sectors of memory
PROGRAMS = 528  # wanted for all tensors: four for each of the 132 multiprocessors of an H100 or H200
FEWEST_STEPS = 2  # tiles that a program sums at least: it must write little beside what it reads


class _Share(NamedTuple):
    """The part of a launch that belongs to one tensor."""

    program: int  # its first
    groups: int  # of columns
    runs: int  # of rows
    steps: int  # tiles of a run
    rows: int
    channels: int
    partial: int  # where its [runs, C] begin in the scratch
    sums: int  # where its [C] begin in the results
    ticket: int  # of its first group


@triton.jit
def _channel_sums_kernel(
    tensors,  # a tuple of [rows, C]
    partial,  # float32, scratch
    tickets,  # int32 [TICKETS], zeros before and after
    sums,  # the results one behind the other, written
    SHARES: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_RUNS: tl.constexpr,
):  # fmt: skip
    """Sum channels of the tensor that the program belongs to. SHARES: a _Share of each tensor."""
    program = tl.program_id(0)
    for i in tl.static_range(len(SHARES)):
        if (program >= SHARES[i][0]) & (program < SHARES[i][0] + SHARES[i][1] * SHARES[i][2]):
            _sum_run(
                tensors[i], partial + SHARES[i][6], tickets + SHARES[i][8], sums + SHARES[i][7],
                program - SHARES[i][0], SHARES[i][1], SHARES[i][2], SHARES[i][3], SHARES[i][4], SHARES[i][5],
                BLOCK_ROWS, BLOCK, BLOCK_RUNS,
            )  # fmt: skip


@triton.jit
def _sum_run(
    x, partial, tickets, sums, program, groups: tl.constexpr, runs: tl.constexpr, steps: tl.constexpr,
    rows: tl.constexpr, C: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_RUNS: tl.constexpr,
):  # fmt: skip
    """Sum BLOCK columns of `steps` tiles of BLOCK_ROWS rows.

    The last program adds up all runs of these columns.
    """
    group, run = program % groups, program // groups
    c = group * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK_ROWS, BLOCK), tl.float32)
    for step in range(steps):
        row = (run * steps + step) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        inside = (row < rows)[:, None] & (c < C)[None, :]
        total += tl.load(x + row[:, None] * C + c[None, :], inside, 0.0).to(tl.float32)
    tl.store(partial + run * C + c, tl.sum(total, 0), c < C)

    if last_program.is_last(tickets + group, runs):
        of_all = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, runs, BLOCK_RUNS):
            _, at, inside = last_program.runs_at(start, runs, c, C, BLOCK_RUNS)
            of_all += tl.sum(tl.load(partial + at, inside, 0.0, cache_modifier=last_program.CACHED), 0)
        tl.store(sums + c, of_all, c < C)


def channel_sums(tensors: Sequence[torch.Tensor], tickets: torch.Tensor) -> torch.Tensor:
    """Return the sums of every channel, [C] of each tensor one behind the other.

    The sums have the dtype of the tensors. tensors: [N, C] contiguous or [N, C, H, W] in
    channels_last, of one dtype: float32, float16 or bfloat16; fewer than 2^31 elements each. Sums
    are float32 inside. tickets: int32 [TICKETS], zeros, of launches that come one after the other;
    all tensors together may have TICKETS groups of COLUMNS channels.
    """
    shares = _shares(tensors)
    last = shares[-1]
    partial = torch.empty(last.partial + last.runs * last.channels, dtype=torch.float32, device=tickets.device)
    sums = torch.empty(last.sums + last.channels, dtype=tensors[0].dtype, device=tickets.device)
    most_runs = triton.next_power_of_2(max(share.runs for share in shares))
    _channel_sums_kernel[(last.program + last.groups * last.runs,)](
        tuple(tensors), partial, tickets, sums, tuple(map(tuple, shares)),
        TILE // COLUMNS, COLUMNS, min(most_runs, last_program.MOST_RUNS),
    )  # fmt: skip
    return sums


def _shares(tensors: Sequence[torch.Tensor]) -> list[_Share]:
    sizes = [(x.numel() // x.shape[1], x.shape[1]) for x in tensors]
    tiles = [(triton.cdiv(rows, TILE // COLUMNS), triton.cdiv(channels, COLUMNS)) for rows, channels in sizes]
    at_least = triton.cdiv(sum(down * across for down, across in tiles), PROGRAMS)
    shares, program, partial, sums, ticket = [], 0, 0, 0, 0
    for (rows, channels), (down, groups) in zip(sizes, tiles, strict=True):
        steps = max(at_least, min(down, FEWEST_STEPS))
        runs = triton.cdiv(down, steps)
        shares.append(_Share(program, groups, runs, steps, rows, channels, partial, sums, ticket))
        program, partial = program + groups * runs, partial + runs * channels
        sums, ticket = sums + channels, ticket + groups
    assert ticket <= last_program.TICKETS, f"{ticket} groups of channels in one launch"
    return shares
