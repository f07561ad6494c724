"""Triton kernels of BatchNorm: channel statistics, and the two sums of the gradient.

Mean and variance of every channel take one launch, and so do the sums of the gradient. x lies in
memory as [rows, C]: an image in channels_last, or [N, C]. The batch is `parts` equal numbers of
rows, each with sums of its own. A program sums a run of rows for some columns and writes its
partial sums; the last program of a column (last_program.py) combines all of them.
"""

import torch
import triton
import triton.language as tl

from fastgan.kernels import last_program

TILE = 2048  # elements at a time: 16 a thread, for each of which mean and sum of squares take a register
COLUMNS = 32  # at most: 64 bytes of a bfloat16 row, two sectors of memory
PROGRAMS = 528  # wanted: four for each of the 132 multiprocessors of an H100 or H200; more leave more to the last one
FEWEST_STEPS = 2  # tiles that a program sums at least: it must write little beside what it reads


@triton.jit
def _statistics_kernel(
    x,  # [PARTS, rows, C]
    partial,  # float32 [2, PARTS, runs, C], scratch: mean, and sum of squared distances from it, of every run of rows
    tickets,  # int32 [groups of columns], zeros before and after
    mean,  # float32 [PARTS, C], written
    rstd,  # float32 [PARTS, C], written
    running_mean,  # float32 [C], updated, or None
    running_var,  # float32 [C], updated, or None
    rows, runs, steps, C, momentum, eps,
    PARTS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_RUNS: tl.constexpr,
):  # fmt: skip
    """Sum, as program (group, run, part), BLOCK columns of `steps` tiles of BLOCK_ROWS rows."""
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    run, part = tl.program_id(1), tl.program_id(2)
    lane, first = tl.arange(0, BLOCK_ROWS), run * steps * BLOCK_ROWS
    # Each lane updates the mean of its own rows (Welford, 1962): no large squares are subtracted.
    centre, squares = tl.zeros((BLOCK_ROWS, BLOCK), tl.float32), tl.zeros((BLOCK_ROWS, BLOCK), tl.float32)
    for step in range(steps):
        row = first + step * BLOCK_ROWS + lane
        inside = (row < rows)[:, None] & (c < C)[None, :]
        v = tl.load(x + (part.to(tl.int64) * rows + row)[:, None] * C + c[None, :], inside, 0.0).to(tl.float32)
        distance = tl.where(inside, v - centre, 0.0)
        centre += distance * (1.0 / (step + 1))
        squares += distance * (v - centre)
    count = _count(first + lane, rows, BLOCK_ROWS, steps)[:, None]
    mine = tl.sum(count * centre, 0) / tl.sum(count, 0)
    apart = centre - mine[None, :]
    squares = tl.sum(squares + count * apart * apart, 0)
    here = (part * runs + run) * C + c
    tl.store(partial + here, mine, c < C)
    tl.store(partial + PARTS * runs * C + here, squares, c < C)

    if last_program.is_last(tickets + tl.program_id(0), runs * PARTS):
        length = steps * BLOCK_ROWS  # rows of a run, of all but the last
        for p in tl.static_range(PARTS):
            means = partial + p * runs * C
            deviations = means + PARTS * runs * C
            total = tl.zeros((BLOCK,), tl.float32)
            for start in range(0, runs, BLOCK_RUNS):
                r, at, inside = last_program.runs_at(start, runs, c, C, BLOCK_RUNS)
                share = _length(r, length, rows)[:, None] / rows
                total += tl.sum(share * tl.load(means + at, inside, 0.0, cache_modifier=last_program.CACHED), 0)
            spread = tl.zeros((BLOCK,), tl.float32)
            for start in range(0, runs, BLOCK_RUNS):
                r, at, inside = last_program.runs_at(start, runs, c, C, BLOCK_RUNS)
                off = tl.load(means + at, inside, 0.0, cache_modifier=last_program.CACHED) - total[None, :]
                each = (
                    tl.load(deviations + at, inside, 0.0, cache_modifier=last_program.CACHED)
                    + _length(r, length, rows)[:, None] * off * off
                )
                spread += tl.sum(tl.where(inside, each, 0.0), 0)
            variance = spread / rows
            tl.store(mean + p * C + c, total, c < C)
            tl.store(rstd + p * C + c, tl.div_rn(1.0, tl.sqrt_rn(variance + eps)), c < C)
            if running_mean is not None:
                before = tl.load(running_mean + c, c < C)
                tl.store(running_mean + c, before + momentum * (total - before), c < C)
                before = tl.load(running_var + c, c < C)
                tl.store(running_var + c, before + momentum * (spread / (rows - 1) - before), c < C)


@triton.jit
def _gradient_sums_kernel(
    x,  # [PARTS, rows, C]
    dy,  # [PARTS, rows, C]
    mean,  # float32 [PARTS, C]
    rstd,  # float32 [PARTS, C]
    weight,  # float32 [C] or None for ones
    bias,  # float32 [C] or None for zeros
    partial,  # float32 [2, PARTS, runs, C], scratch
    tickets,  # int32 [groups of columns], zeros before and after
    sums,  # float32 [2, PARTS, C], written: of dz, which is dy before the activation, and of dz times the normalised x
    totals,  # float32 [2, C], written: the sums of all parts, the gradients of bias and weight
    rows, runs, steps, C,
    SLOPE: tl.constexpr, PARTS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_RUNS: tl.constexpr,
):  # fmt: skip
    """Sum as program (group, run, part), as in _statistics_kernel."""
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    run, part = tl.program_id(1), tl.program_id(2)
    lane, first = tl.arange(0, BLOCK_ROWS), run * steps * BLOCK_ROWS
    centre, scale = tl.load(mean + part * C + c, c < C, 0.0), tl.load(rstd + part * C + c, c < C, 0.0)
    gain = scale if weight is None else scale * tl.load(weight + c, c < C, 0.0)
    shift = tl.zeros((BLOCK,), tl.float32) if bias is None else tl.load(bias + c, c < C, 0.0)
    plain, weighted = tl.zeros((BLOCK_ROWS, BLOCK), tl.float32), tl.zeros((BLOCK_ROWS, BLOCK), tl.float32)
    for step in range(steps):
        row = first + step * BLOCK_ROWS + lane
        inside = (row < rows)[:, None] & (c < C)[None, :]
        at = (part.to(tl.int64) * rows + row)[:, None] * C + c[None, :]
        dz = tl.load(dy + at, inside, 0.0).to(tl.float32)
        distance = tl.load(x + at, inside, 0.0).to(tl.float32) - centre[None, :]
        if SLOPE != 1:
            dz *= tl.where(distance * gain[None, :] + shift[None, :] > 0, 1.0, SLOPE)
        plain += dz
        weighted += dz * distance
    here = (part * runs + run) * C + c
    tl.store(partial + here, tl.sum(plain, 0), c < C)
    tl.store(partial + PARTS * runs * C + here, tl.sum(weighted, 0) * scale, c < C)

    if last_program.is_last(tickets + tl.program_id(0), runs * PARTS):
        for which in tl.static_range(2):
            total = tl.zeros((BLOCK,), tl.float32)
            for p in tl.static_range(PARTS):
                values = partial + (which * PARTS + p) * runs * C
                of_part = tl.zeros((BLOCK,), tl.float32)
                for start in range(0, runs, BLOCK_RUNS):
                    _, at, inside = last_program.runs_at(start, runs, c, C, BLOCK_RUNS)
                    of_part += tl.sum(tl.load(values + at, inside, 0.0, cache_modifier=last_program.CACHED), 0)
                tl.store(sums + (which * PARTS + p) * C + c, of_part, c < C)
                total += of_part
            tl.store(totals + which * C + c, total, c < C)


@triton.jit
def _count(row, rows, BLOCK_ROWS: tl.constexpr, steps):
    """Return the number of row, row + BLOCK_ROWS ... (steps of them) below `rows`, as float32."""
    return tl.minimum(tl.maximum((rows - row + BLOCK_ROWS - 1) // BLOCK_ROWS, 0), steps).to(tl.float32)


@triton.jit
def _length(run, length, rows):
    """Return the number of rows of a run, as float32."""
    return tl.minimum(tl.maximum(rows - run * length, 0), length).to(tl.float32)


def statistics(
    x: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    tickets: torch.Tensor,
    momentum: float,
    eps: float,
    parts: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (mean, 1 / sqrt(variance + eps)) of every channel and part, float32 [parts, C].

    The running statistics are updated part by part. x: [N, C] or [N, C, H, W] in channels_last, N a
    multiple of parts, two rows (N * H * W) a part at least; float32, float16 or bfloat16.
    running_mean, running_var: float32 [C], the variance unbiased. tickets: int32 [TICKETS], zeros,
    of launches that come one after the other.
    """
    grid, sizes, blocks = _plan(x, parts)
    mean, rstd = (torch.empty(parts, x.shape[1], dtype=torch.float32, device=x.device) for _ in range(2))
    _statistics_kernel[grid](
        x, _partial(x, grid), tickets, mean, rstd, running_mean, running_var, *sizes, momentum, eps, parts, *blocks
    )
    return mean, rstd


def gradient_sums(
    x: torch.Tensor,
    dy: torch.Tensor,
    mean: torch.Tensor,
    rstd: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    tickets: torch.Tensor,
    slope: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums of dz and of dz * normalised x, by parts and in total.

    Returns (float32 [2, parts, C], the sums of each part; float32 [2, C], those of all parts). dz
    is dy through the activation, whose slope below zero is `slope`: 0 for ReLU, 1 for none. dy:
    like x, in its memory format. weight, bias: float32 [C]. The other arguments are as for
    `statistics`.
    """
    parts = mean.shape[0]
    grid, sizes, blocks = _plan(x, parts)
    sums, totals = (
        torch.empty(shape, dtype=torch.float32, device=x.device) for shape in ((2, parts, x.shape[1]), (2, x.shape[1]))
    )
    _gradient_sums_kernel[grid](
        x, dy, mean, rstd, weight, bias, _partial(x, grid), tickets, sums, totals, *sizes, slope, parts, *blocks
    )
    return sums, totals


def _plan(x: torch.Tensor, parts: int) -> tuple[tuple[int, int, int], tuple[int, int, int, int], tuple[int, int, int]]:
    """Return (grid; rows of a part, runs of them, tiles of a run, channels; sizes of the tiles)."""
    C = x.shape[1]
    rows, block = x.numel() // C // parts, min(triton.next_power_of_2(C), COLUMNS)
    groups, block_rows = triton.cdiv(C, block), TILE // block
    tiles = triton.cdiv(rows, block_rows)
    steps = max(triton.cdiv(tiles * groups * parts, PROGRAMS), min(tiles, FEWEST_STEPS))
    runs = triton.cdiv(tiles, steps)
    return (
        (groups, runs, parts),
        (rows, runs, steps, C),
        (block_rows, block, min(triton.next_power_of_2(runs), last_program.MOST_RUNS)),
    )


def _partial(x: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    return torch.empty(2 * grid[2] * grid[1] * x.shape[1], dtype=torch.float32, device=x.device)
