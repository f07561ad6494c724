"""Triton kernels of the layers that double and halve an image: kernel 4, stride 2, padding 1.

csrc/deconv.h has the algebra. Each op is a matrix product whose operands are gathered from their
place in memory: a program computes one tile of the result, and steps through the summed dimension.
Images are [N, height, width, channels] in memory, weights [C, 4, 4, K]: small [N, h, w, C], big
[N, H, W, K] with H = 2h or 2h + 1, W = 2w or 2w + 1. bfloat16, float16 and float32, sums in
float32. The sizes of a layer are constants of its kernels, the batch is not.
"""
import torch
import triton
import triton.language as tl

from fastgan.kernels import deconv_tiles

FEWEST_STEPS = 4  # of a part of the pixels: four steps read as much as writing and reading the sums of the part
LONG_NUMEL = 2**30  # from here on offsets take 64 bits: half of what 32 hold, for the last tile reaches over the end


@triton.jit(do_not_specialize=["batch"])
def _up_kernel(
    small,  # [N, h, w, C]
    weight,  # [C, 4, 4, K]
    bias,  # [K] or None
    big,  # [N, H, W, K], written
    batch, slope,
    C: tl.constexpr, K: tl.constexpr, h: tl.constexpr, w: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    ACT: tl.constexpr, PRECISION: tl.constexpr, LONG: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Compute big = act(up(small, weight) + bias).

    Rows of a product are pixels (2m + a, 2p + b) of one parity (a, b), which two by two taps reach.
    """
    M: tl.constexpr = (H + 1) // 2
    P: tl.constexpr = (W + 1) // 2
    column_tiles: tl.constexpr = (K + COLUMNS - 1) // COLUMNS
    row_tile, column_tile = _grouped(tl.program_id(0), tl.cdiv(batch * M * P, ROWS), 4 * column_tiles)
    a, b = column_tile // column_tiles // 2, column_tile // column_tiles % 2
    n, m, p = _pixel(_span(row_tile, ROWS, LONG), M, P)
    k = _span(column_tile % column_tiles, COLUMNS, LONG)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in range(4 * ((C + DEPTH - 1) // DEPTH)):
        r, s = step // 2 % 2, step % 2  # the near tap and the far one: rows 1, 3 for a = 0 and 2, 0 for a = 1
        i, j, tap = m + r * (2 * a - 1), p + s * (2 * b - 1), (1 + a + r * (2 - 4 * a)) * 4 + 1 + b + s * (2 - 4 * b)
        c = _span(step // 4, DEPTH, LONG)
        inside = (n < batch) & (i >= 0) & (i < h) & (j >= 0) & (j < w)
        pixels = tl.load(
            small + ((n * h + i) * w + j)[:, None] * C + c[None, :], inside[:, None] & (c < C)[None, :], 0.0
        )
        taps = tl.load(weight + (c * 16 + tap)[:, None] * K + k[None, :], (c < C)[:, None] & (k < K)[None, :], 0.0)
        total = tl.dot(pixels, taps, total, input_precision=PRECISION)
    y, x = 2 * m + a, 2 * p + b
    inside = (n < batch) & (y < H) & (x < W)
    result = _activated(_with_bias(total, bias, k, K), slope, ACT).to(big.dtype.element_ty)
    tl.store(big + ((n * H + y) * W + x)[:, None] * K + k[None, :], result, inside[:, None] & (k < K)[None, :])


@triton.jit(do_not_specialize=["batch"])
def _up_narrow_kernel(
    small,  # [N, h, w, C]
    weight,  # [C, 4, 4, K]
    bias,  # [K] or None
    big,  # [N, H, W, K], written
    batch, slope,
    C: tl.constexpr, K: tl.constexpr, h: tl.constexpr, w: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    ACT: tl.constexpr, PRECISION: tl.constexpr, LONG: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Compute the result of _up_kernel for few big channels.

    The columns of the product are (a, b, k): nine pixels are gathered for all four parities, not
    16.
    """
    M: tl.constexpr = (H + 1) // 2
    P: tl.constexpr = (W + 1) // 2
    n, m, p = _pixel(_span(tl.program_id(0), ROWS, LONG), M, P)
    column = tl.arange(0, COLUMNS)
    a, b, k = column // (2 * K), column // K % 2, column % K
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in range((C + DEPTH - 1) // DEPTH):
        c = _span(step, DEPTH, LONG)
        for neighbour in tl.static_range(9):  # unrolled: which of the columns a neighbour reaches is a constant
            di, dj = neighbour // 3 - 1, neighbour % 3 - 1
            i, j, ky, kx = m + di, p + dj, a + 1 - 2 * di, b + 1 - 2 * dj
            inside = (n < batch) & (i >= 0) & (i < h) & (j >= 0) & (j < w)
            reached = (a < 2) & (ky >= 0) & (ky < 4) & (kx >= 0) & (kx < 4)
            pixels = tl.load(
                small + ((n * h + i) * w + j)[:, None] * C + c[None, :], inside[:, None] & (c < C)[None, :], 0.0
            )
            taps = tl.load(
                weight + (c * 16 * K)[:, None] + ((ky * 4 + kx) * K + k)[None, :],
                (c < C)[:, None] & reached[None, :],
                0.0,
            )
            total = tl.dot(pixels, taps, total, input_precision=PRECISION)
    y, x = 2 * m[:, None] + a[None, :], 2 * p[:, None] + b[None, :]
    result = _activated(_with_bias(total, bias, k, K), slope, ACT).to(big.dtype.element_ty)
    tl.store(
        big + ((n[:, None] * H + y) * W + x) * K + k[None, :],
        result,
        (n < batch)[:, None] & (a < 2)[None, :] & (y < H) & (x < W),
    )


@triton.jit(do_not_specialize=["batch"])
def _down_kernel(
    big,  # [N, H, W, K]
    weight,  # [C, 4, 4, K]
    bias,  # [C] or None
    small,  # [N, h, w, C], written
    batch, slope,
    C: tl.constexpr, K: tl.constexpr, h: tl.constexpr, w: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    ACT: tl.constexpr, PRECISION: tl.constexpr, LONG: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
    FLAT: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Compute small = act(down(big, weight) + bias).

    Rows of the product are pixels of small; it sums over the 16K channels of a window.
    """
    column_tiles: tl.constexpr = (C + COLUMNS - 1) // COLUMNS
    row_tile, column_tile = _grouped(tl.program_id(0), tl.cdiv(batch * h * w, ROWS), column_tiles)
    row = _span(row_tile, ROWS, LONG)
    n, i, j = _pixel(row, h, w)
    c = _span(column_tile, COLUMNS, LONG)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in range(STEPS):
        ky, kx, in_big, in_weight, real = _window(step, K, W, DEPTH, FLAT, LONG)
        pixels = _windows(big, n, i, j, ky, kx, in_big, real, batch, K, H, W)
        taps = tl.load(weight + in_weight[:, None] + (c * 16 * K)[None, :], real[:, None] & (c < C)[None, :], 0.0)
        total = tl.dot(pixels, taps, total, input_precision=PRECISION)
    result = _activated(_with_bias(total, bias, c, C), slope, ACT).to(small.dtype.element_ty)
    tl.store(small + row[:, None] * C + c[None, :], result, (n < batch)[:, None] & (c < C)[None, :])


@triton.jit(do_not_specialize=["batch", "steps"])
def _weight_kernel(
    small,  # [N, h, w, C]
    big,  # [N, H, W, K]
    sums,  # [parts, C, 4, 4, K], written: the sum over STEPS steps of pixels each
    batch, steps,
    C: tl.constexpr, K: tl.constexpr, h: tl.constexpr, w: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    PRECISION: tl.constexpr, LONG: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
    FLAT: tl.constexpr, COLUMN_TILES: tl.constexpr,
):  # fmt: skip
    """Compute one part of weight(small, big).

    Rows of the product are channels of small, columns the 16K channels of a window; it sums over
    pixels of small.
    """
    row_tiles: tl.constexpr = (C + ROWS - 1) // ROWS
    row_tile, column_tile = _grouped(tl.program_id(0), row_tiles, COLUMN_TILES)
    c = _span(row_tile, ROWS, LONG)
    ky, kx, in_big, in_weight, real = _window(column_tile, K, W, COLUMNS, FLAT, LONG)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in range(steps):
        pixel = _span(tl.program_id(1) * steps + step, DEPTH, LONG)
        n, i, j = _pixel(pixel, h, w)
        centres = tl.load(small + pixel[None, :] * C + c[:, None], (n < batch)[None, :] & (c < C)[:, None], 0.0)
        windows = _windows(big, n, i, j, ky, kx, in_big, real, batch, K, H, W)
        total = tl.dot(centres, windows, total, input_precision=PRECISION)
    row = tl.program_id(1) * C + c
    tl.store(
        sums + row[:, None] * (16 * K) + in_weight[None, :],
        total.to(sums.dtype.element_ty),
        (c < C)[:, None] & real[None, :],
    )


@triton.jit(do_not_specialize=["parts"])
def _sum_parts_kernel(
    sums,  # [parts, size]
    result,  # [size], written
    size, parts,
    LONG: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Compute result = the sum of the parts, always in the same order."""
    column = _span(tl.program_id(0), COLUMNS, LONG)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in range(tl.cdiv(parts, ROWS)):
        part = _span(step, ROWS, LONG)
        total += tl.load(
            sums + part[:, None] * size + column[None, :], (part < parts)[:, None] & (column < size)[None, :], 0.0
        )
    tl.store(result + column, tl.sum(total, 0).to(result.dtype.element_ty), column < size)


@triton.jit
def _grouped(program, row_tiles, column_tiles):
    """Return the tile (row, column) of a program.

    The order runs down each column of eight rows of tiles, so that programs that run at once share
    operands in L2.
    """
    first = program // (8 * column_tiles) * 8
    rows = tl.minimum(row_tiles - first, 8)
    return first + program % (8 * column_tiles) % rows, program % (8 * column_tiles) // rows


@triton.jit
def _span(tile, SIZE: tl.constexpr, LONG: tl.constexpr):
    """Return the positions of a tile, in 64 bits if LONG.

    All offsets are computed from these positions, and so have the same number of bits.
    """
    return tile * tl.full((), SIZE, tl.int64 if LONG else tl.int32) + tl.arange(0, SIZE)


@triton.jit
def _pixel(index, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Return (image, row, column) of a pixel."""
    return index // (HEIGHT * WIDTH), index // WIDTH % HEIGHT, index % WIDTH


@triton.jit
def _window(tile, K: tl.constexpr, W: tl.constexpr, SIZE: tl.constexpr, FLAT: tl.constexpr, LONG: tl.constexpr):
    """Return the positions of SIZE channels of a 4x4 window.

    The result is (tap row, tap column, offset in big from the window's corner, offset in weight
    from its row, mask of the channels that exist). FLAT: a tile continues from one tap to the next.
    Else it stays in one tap, whose row and column are scalars.
    """
    if FLAT:
        in_weight = _span(tile, SIZE, LONG)
        row, in_row = in_weight // (4 * K), in_weight % (4 * K)
        ky, kx, in_big, real = row[None, :], (in_row // K)[None, :], row * (W * K) + in_row, row < 4
    else:
        tap, k = tile % 16, _span(tile // 16, SIZE, LONG)
        ky, kx = tap // 4, tap % 4
        in_big, in_weight, real = (ky * W + kx) * K + k, tap * K + k, k < K
    return ky, kx, in_big, in_weight, real


@triton.jit
def _windows(big, n, i, j, ky, kx, in_big, real, batch, K: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    """Load [pixels (n, i, j), channels of a window] from big, zero outside it."""
    top, left = 2 * i - 1, 2 * j - 1
    y, x = top[:, None] + ky, left[:, None] + kx
    inside = (n < batch)[:, None] & (y >= 0) & (y < H) & (x >= 0) & (x < W)
    return tl.load(big + ((n * H + top) * W + left)[:, None] * K + in_big[None, :], inside & real[None, :], 0.0)


@triton.jit
def _with_bias(x, bias, channel, CHANNELS: tl.constexpr):
    if bias is not None:
        x += tl.load(bias + channel, channel < CHANNELS, 0.0).to(tl.float32)[None, :]
    return x


@triton.jit
def _activated(x, slope, ACT: tl.constexpr):
    """Return linear, relu, leaky_relu or tanh of x, as numbered in csrc/deconv.h.

    The numbers begin at 0; a NaN stays a NaN.
    """
    if ACT == 1:
        x = tl.where(x < 0, 0.0, x)
    elif ACT == 2:
        x = tl.where(x < 0, x * slope, x)
    elif ACT == 3:
        # No overflow, but 1 - e cancels near zero: there the series, off by 5e-8 of the value at
        # 0.1.
        e, xx = tl.exp(-2 * tl.abs(x)), x * x
        far = (1 - e) / (1 + e)
        x = tl.where(xx < 0.01, x * (1 + xx * (-1 / 3 + xx * (2 / 15))), tl.where(x < 0, -far, far))
    return x


def up(
    small: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    height: int,
    width: int,
    act: int,
    slope: float,
) -> torch.Tensor:
    """Return act(up(small, weight) + bias), [N, K, height, width].

    small [N, C, h, w] and weight [C, K, 4, 4], both channels_last; bias [K] or None; all of one
    dtype, on the current device. act: 0 linear, 1 relu, 2 leaky_relu with `slope` below zero, 3
    tanh.
    """
    (N, C, h, w), K = small.shape, weight.shape[1]
    big = _empty(small, N, K, height, width)
    if big.numel() == 0:
        return big
    kind, tile = _kind_and_tile("up", small, big)
    kernel, parities = (_up_narrow_kernel, 1) if K <= deconv_tiles.NARROW else (_up_kernel, 4)
    kernel[(parities * triton.cdiv(kind.rows, tile["ROWS"]) * triton.cdiv(kind.columns, tile["COLUMNS"]),)](
        small, weight, bias, big, N, float(slope),
        C=C, K=K, h=h, w=w, H=height, W=width, ACT=act, LONG=_is_long(small, weight, big), **tile,
    )  # fmt: skip
    return big


def down(big: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, act: int, slope: float) -> torch.Tensor:
    """Return act(down(big, weight) + bias), [N, C, h, w].

    big [N, K, H, W], weight [C, K, 4, 4] and bias [C] or None; the other arguments are as for `up`.
    """
    (N, K, H, W), C = big.shape, weight.shape[0]
    small = _empty(big, N, C, H // 2, W // 2)
    if small.numel() == 0:
        return small
    kind, tile = _kind_and_tile("down", small, big)
    _down_kernel[(triton.cdiv(kind.rows, tile["ROWS"]) * triton.cdiv(C, tile["COLUMNS"]),)](
        big, weight, bias, small, N, float(slope),
        C=C, K=K, h=H // 2, w=W // 2, H=H, W=W, ACT=act, LONG=_is_long(big, weight, small),
        FLAT=K <= deconv_tiles.FLAT, STEPS=_window_tiles(K, tile["DEPTH"]), **tile,
    )  # fmt: skip
    return small


def weight(small: torch.Tensor, big: torch.Tensor) -> torch.Tensor:
    """Return weight(small, big), [C, K, 4, 4].

    small [N, C, h, w] and big [N, K, H, W] are of one dtype and channels_last, as the result is.
    Where the result has too few tiles for a GPU, the pixels are summed in parts, in float32, and
    the parts in a second pass, always in the same order: equal inputs give equal bits.
    """
    (N, C, h, w), (K, H, W) = small.shape, big.shape[1:]
    result = _empty(small, C, K, 4, 4)
    pixels = N * h * w
    if result.numel() == 0 or pixels == 0:
        return result.zero_()
    _, tile = _kind_and_tile("weight", small, big)
    column_tiles = _window_tiles(K, tile["COLUMNS"])
    tiles = triton.cdiv(C, tile["ROWS"]) * column_tiles
    steps, parts = _steps_and_parts(triton.cdiv(pixels, tile["DEPTH"]), tiles)
    sums = result if parts == 1 else torch.empty((parts, result.numel()), dtype=torch.float32, device=small.device)
    _weight_kernel[(tiles, parts)](
        small, big, sums, N, steps,
        C=C, K=K, h=h, w=w, H=H, W=W, LONG=_is_long(small, big, sums), FLAT=K <= deconv_tiles.FLAT,
        COLUMN_TILES=column_tiles, **tile,
    )  # fmt: skip
    if parts > 1:
        _sum_parts_kernel[(triton.cdiv(result.numel(), 128),)](
            sums, result, result.numel(), parts, LONG=_is_long(sums), ROWS=16, COLUMNS=128
        )
    return result


def _kind_and_tile(
    direction: str, small: torch.Tensor, big: torch.Tensor
) -> tuple[deconv_tiles.Kind, dict[str, int | str]]:
    """Return the kind of a call, and the launch options of its tiles."""
    kind = deconv_tiles.kind_of(direction, small.shape, big.shape, small.dtype)
    return kind, deconv_tiles.launch_options(kind, deconv_tiles.tile_of(kind))


def _steps_and_parts(steps: int, tiles: int) -> tuple[int, int]:
    """Return (steps in a part, number of parts) so that `tiles` result tiles fill a GPU once."""
    steps_a_part = max(triton.cdiv(steps, max(deconv_tiles.PROGRAMS // tiles, 1)), FEWEST_STEPS)
    return steps_a_part, triton.cdiv(steps, steps_a_part)


def _window_tiles(K: int, size: int) -> int:
    """Return the number of tiles of `size` channels that _window cuts a 4x4 window into."""
    return triton.cdiv(16 * K, size) if K <= deconv_tiles.FLAT else 16 * triton.cdiv(K, size)


def _is_long(*tensors: torch.Tensor) -> bool:
    return any(x.numel() >= LONG_NUMEL for x in tensors)


def _empty(like: torch.Tensor, *shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
