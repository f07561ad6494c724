"""Triton kernel of Adam over a list of tensors, fused with their exponential moving average.

Both are updated in the same pass over memory. All tensors go in one launch. Their addresses are
arguments of the kernel, not a table in memory: there is nothing to copy to the device, so the
launch can be recorded in a CUDA graph at any time, and gradients may lie elsewhere in every step.
"""
import torch
import triton
import triton.language as tl

BLOCK = 1024  # elements of a program: two loads of 16 bytes a thread from each tensor
MOST_TENSORS = 64  # of a launch: five addresses each, and the arguments of a kernel have 4 KB
LONG_NUMEL = 2**30  # from here on offsets take 64 bits


@triton.jit
def _adam_ema_kernel(
    gradients,  # tuple of [numel], all of one dtype
    parameters,  # tuple of [numel], updated
    exp_avg,  # tuple of [numel], updated
    exp_avg_sq,  # tuple of [numel], updated
    average,  # tuple of [numel], updated; None for no average
    beta1_power, beta2_power, lr, beta1, beta2,  # [1] each; the powers belong to this step
    ema_beta,  # [1] or None
    eps,
    NUMELS: tl.constexpr, FIRST: tl.constexpr, ALIGNED: tl.constexpr, LONG: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Update one block of one tensor in each program.

    NUMELS: elements of each tensor. FIRST: the program of its first block; one more for the end.
    """
    program = tl.program_id(0)
    p, g, m, v = _address(parameters[0]), _address(gradients[0]), _address(exp_avg[0]), _address(exp_avg_sq[0])
    a = p if average is None else _address(average[0])
    first, numel = 0, tl.full((), NUMELS[0], tl.int64)
    # A few selections of scalars: far less than a body for each tensor, which takes seconds to
    # compile.
    for i in tl.static_range(1, len(NUMELS)):
        reached = program >= FIRST[i]
        p, g = tl.where(reached, _address(parameters[i]), p), tl.where(reached, _address(gradients[i]), g)
        m, v = tl.where(reached, _address(exp_avg[i]), m), tl.where(reached, _address(exp_avg_sq[i]), v)
        a = p if average is None else tl.where(reached, _address(average[i]), a)
        first, numel = tl.where(reached, FIRST[i], first), tl.where(reached, NUMELS[i], numel)
    p, a = _pointer(p, tl.float32, ALIGNED), _pointer(a, tl.float32, ALIGNED)
    m, v = _pointer(m, tl.float32, ALIGNED), _pointer(v, tl.float32, ALIGNED)
    g = _pointer(g, gradients[0].dtype.element_ty, ALIGNED)

    beta1, beta2 = tl.load(beta1), tl.load(beta2)
    root2 = tl.sqrt_rn(1 - tl.load(beta2_power))
    step_size, eps = tl.load(lr) * root2 / (1 - tl.load(beta1_power)), eps * root2
    beta = 0.0 if average is None else tl.load(ema_beta)

    start = (program - first).to(tl.int64 if LONG else tl.int32) * BLOCK
    i = start + tl.arange(0, BLOCK)
    if start + BLOCK <= numel:  # without a mask loads are as wide as they can be
        _update(p + i, g + i, m + i, v + i, a + i, step_size, beta1, beta2, eps, beta, None, average is not None)
    else:
        _update(p + i, g + i, m + i, v + i, a + i, step_size, beta1, beta2, eps, beta, i < numel, average is not None)


@triton.jit
def _update(p, g, m, v, a, step_size, beta1, beta2, eps, ema_beta, inside, AVERAGED: tl.constexpr):
    """Update one block; p, g, m, v, a: [BLOCK] addresses."""
    gradient = tl.load(g, inside).to(tl.float32)
    exp_avg = beta1 * tl.load(m, inside) + (1 - beta1) * gradient
    exp_avg_sq = beta2 * tl.load(v, inside) + (1 - beta2) * (gradient * gradient)
    parameter = tl.load(p, inside) - step_size * tl.div_rn(exp_avg, tl.sqrt_rn(exp_avg_sq) + eps)
    tl.store(m, exp_avg, inside)
    tl.store(v, exp_avg_sq, inside)
    tl.store(p, parameter, inside)
    if AVERAGED:
        tl.store(a, ema_beta * tl.load(a, inside) + (1 - ema_beta) * parameter, inside)


@triton.jit
def _address(pointer):
    return pointer.to(tl.int64)


@triton.jit
def _pointer(address, dtype: tl.constexpr, ALIGNED: tl.constexpr):
    """Return the pointer at an address, a multiple of 16 bytes where ALIGNED is true.

    The compiler has lost the alignment of an address that comes out of a selection.
    """
    pointer = address.to(tl.pointer_type(dtype))
    return tl.multiple_of(pointer, 16) if ALIGNED else pointer


def adam_ema(
    gradients: list[torch.Tensor],
    parameters: list[torch.Tensor],
    exp_avg: list[torch.Tensor],
    exp_avg_sq: list[torch.Tensor],
    average: list[torch.Tensor],
    beta1_power: torch.Tensor,
    beta2_power: torch.Tensor,
    lr: torch.Tensor,
    beta1: torch.Tensor,
    beta2: torch.Tensor,
    ema_beta: torch.Tensor | None,
    eps: float,
) -> None:
    """Run fastgan.ops.adam_ema in place; arguments after gradients are the fields of its AdamState.

    One launch advances the powers, one updates everything (64 tensors, the next 64 ...). The five
    tensors of a parameter have the same strides, dense; gradients are of one dtype, float32,
    float16 or bfloat16, all others are float32.
    """
    torch._foreach_mul_([beta1_power, beta2_power], [beta1, beta2])
    for i in range(0, len(parameters), MOST_TENSORS):
        lists = [
            tuple(tensors[i : i + MOST_TENSORS]) for tensors in (gradients, parameters, exp_avg, exp_avg_sq, average)
        ]
        _launch(lists, (beta1_power, beta2_power, lr, beta1, beta2, ema_beta, float(eps)))


def _launch(lists: list[tuple[torch.Tensor, ...]], scalars: tuple) -> None:
    numels, first = [], [0]
    for parameter in lists[1]:
        numels.append(parameter.numel())
        first.append(first[-1] + triton.cdiv(parameter.numel(), BLOCK))
    if first[-1]:
        _adam_ema_kernel[(first[-1],)](
            *lists[:4], lists[4] or None, *scalars, NUMELS=tuple(numels), FIRST=tuple(first), BLOCK=BLOCK,
            ALIGNED=all(tensor.data_ptr() % 16 == 0 for tensors in lists for tensor in tensors),
            LONG=max(numels) >= LONG_NUMEL,
        )  # fmt: skip
