"""Triton kernels of a discriminator's last layer and its loss.

csrc/leaky_relu_bce.h has the formulas. float32, bfloat16 and float16 features, sums in float32; a
weight that is None stands for features that are the logits. Forward, a program computes a few
logits; backward, it computes some columns of dx and of dweight for a run of rows, always in the
same order.
"""
import torch
import triton
import triton.language as tl

TILE = 1024  # features of a row at a time at most; the fewer there are, the more rows
# Of a backward program: 128 bytes of a bfloat16 row, and 128 programs for the 8192 features of a
# DCGAN, one a multiprocessor.
COLUMNS = 64
ROWS = 32  # of a backward tile
# Tiles of rows that a program sums at least before the rows are split among more: partial sums cost
# another launch.
FEWEST_STEPS = 8
PROGRAMS = 512  # that are plenty: four for each of the 132 multiprocessors of an H100 or H200


@triton.jit
def _activate(v, SLOPE: tl.constexpr):
    """Return leaky_relu(v); a NaN stays a NaN, and ReLU turns -infinity into 0."""
    return tl.where(v < 0, 0.0 if SLOPE == 0 else v * SLOPE, v)


@triton.jit
def _log_of_one_plus(e):
    """Return log(1 + e) for e in [0, 1], to 1e-8 of its value.

    It is twice the series of artanh(e / (2 + e)); log(1 + e) would lose a small e.
    """
    s = e / (2 + e)
    q = s * s
    tail = 1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15))))
    return 2 * s * (1 + q * (1 / 3 + q * (1 / 5 + q * tail)))


@triton.jit
def _forward_kernel(
    x,  # [rows, F]
    weight,  # [F] or None
    bias,  # [1] or None
    targets,  # [rows] or None
    loss,  # [rows], written
    logits,  # [rows], written
    rows, target,
    F: tl.constexpr, SLOPE: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute logits and losses of BLOCK_ROWS rows."""
    n = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    total = tl.zeros((BLOCK_ROWS, BLOCK), tl.float32)
    for start in range(0, F, BLOCK):
        f = start + tl.arange(0, BLOCK)
        v = _activate(
            tl.load(x + n[:, None] * F + f[None, :], (n < rows)[:, None] & (f < F)[None, :], 0.0).to(tl.float32), SLOPE
        )
        if weight is not None:
            v = v * tl.load(weight + f, f < F, 0.0)[None, :]
        total += v
    logit = tl.sum(total, 1)
    if bias is not None:
        logit += tl.load(bias)
    t = target if targets is None else tl.load(targets + n, n < rows, 0.0)
    rest = _log_of_one_plus(tl.exp(-tl.abs(logit)))  # softplus(l) = max(l, 0) + rest
    tl.store(loss + n, rest + tl.where(logit < 0, -t * logit, (1 - t) * logit), n < rows)
    tl.store(logits + n, logit, n < rows)


@triton.jit
def _backward_kernel(
    x,  # [rows, F]
    weight,  # [F] or None
    targets,  # [rows] or None
    logits,  # [rows]
    dloss,  # [rows] with a stride, or None
    dlogits,  # [rows] with a stride, or None
    dx,  # [rows, F], written, or None
    sums,  # [parts, F + 1], written, or None: dweight and then dbias of the rows of one part each
    rows, target, dloss_stride, dlogits_stride, steps,
    F: tl.constexpr, SLOPE: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute BLOCK columns of `steps` tiles of BLOCK_ROWS rows."""
    f = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    part = tl.program_id(1).to(tl.int64)
    dweight, dbias = tl.zeros((BLOCK_ROWS, BLOCK), tl.float32), tl.zeros((BLOCK_ROWS,), tl.float32)
    for step in range(steps):
        n = (part * steps + step) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        t = target if targets is None else tl.load(targets + n, n < rows, 0.0)
        logit = tl.load(logits + n, n < rows, 0.0)
        e = tl.exp(-tl.abs(logit))
        # Sigmoid of |l| and of -|l|: sigmoid(l) - t would lose its digits for large logits.
        likely, unlikely = 1 / (1 + e), e / (1 + e)
        g = tl.where(logit < 0, (1 - t) * unlikely - t * likely, (1 - t) * likely - t * unlikely)
        g = tl.zeros_like(g) if dloss is None else g * tl.load(dloss + n * dloss_stride, n < rows, 0.0)
        if dlogits is not None:
            g += tl.load(dlogits + n * dlogits_stride, n < rows, 0.0)
        inside = (n < rows)[:, None] & (f < F)[None, :]
        v = tl.load(x + n[:, None] * F + f[None, :], inside, 0.0).to(tl.float32)
        if dx is not None:
            gradient = g[:, None] * tl.where(v > 0, 1.0, SLOPE)
            if weight is not None:
                gradient = gradient * tl.load(weight + f, f < F, 0.0)[None, :]
            tl.store(dx + n[:, None] * F + f[None, :], gradient.to(dx.dtype.element_ty), inside)
        if sums is not None:
            g = tl.where(n < rows, g, 0.0)
            dweight += g[:, None] * _activate(v, SLOPE)
            dbias += g
    if sums is not None:
        row = sums + part * (F + 1)
        tl.store(row + f, tl.sum(dweight, 0), f < F)
        tl.store(row + F, tl.sum(dbias, 0), tl.program_id(0) == 0)


def forward(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    targets: torch.Tensor | None,
    target: float,
    slope: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (loss, logits), float32 [rows].

    x: contiguous [rows, F], or [rows] where weight is None; weight [F], bias [1], targets [rows]:
    float32.
    """
    rows, F = x.shape[0], x.numel() // x.shape[0]
    block = min(triton.next_power_of_2(F), TILE)
    loss, logits = (torch.empty(rows, dtype=torch.float32, device=x.device) for _ in range(2))
    grid = (triton.cdiv(rows, TILE // block),)
    _forward_kernel[grid](x, weight, bias, targets, loss, logits, rows, target, F, slope, TILE // block, block)
    return loss, logits


def gradients(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    targets: torch.Tensor | None,
    target: float,
    slope: float,
    logits: torch.Tensor,
    dloss: torch.Tensor | None,
    dlogits: torch.Tensor | None,
    needs_dx: bool,
    needs_dparameters: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (dx, dparameters): dx like x, and float32 [F + 1], dweight and then dbias.

    Each has no elements where it is not needed. dloss, dlogits: float32 [rows].
    """
    rows, F = x.shape[0], x.numel() // x.shape[0]
    block = min(triton.next_power_of_2(F), COLUMNS)
    block_rows = ROWS * COLUMNS // block
    columns, tiles = triton.cdiv(F, block), triton.cdiv(rows, block_rows)
    parts = min(triton.cdiv(PROGRAMS, columns), max(1, tiles // FEWEST_STEPS)) if needs_dparameters else tiles
    dx = torch.empty_like(x) if needs_dx else x.new_empty(0)
    sums = torch.empty(parts, F + 1, dtype=torch.float32, device=x.device) if needs_dparameters else None
    strides = [0 if gradient is None else gradient.stride(0) for gradient in (dloss, dlogits)]
    _backward_kernel[(columns, parts)](
        x, weight, targets, logits, dloss, dlogits, dx if needs_dx else None, sums,
        rows, target, *strides, triton.cdiv(tiles, parts), F, slope, block_rows, block,
    )  # fmt: skip
    if sums is None:
        return dx, logits.new_empty(0)
    return dx, sums[0] if parts == 1 else sums.sum(0)
