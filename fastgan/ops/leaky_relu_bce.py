"""A discriminator's last layer and its loss in one pass over the features.

Leaky ReLU, the map to one logit, and the cross-entropy with the target: one kernel computes them,
and one more the gradients of features, weight and bias. Without a weight the features are the
logits.
"""
import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F

from fastgan.errors import UserError
from fastgan.ops.autograd_queries import is_needed, is_transformed
from fastgan.ops.dispatch import autotune, self_checks

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
KERNEL_DTYPES = {
    "cpu": (torch.float32, torch.bfloat16, torch.float64),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}


def leaky_relu_bce_head(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, target: torch.Tensor | float, slope: float = 0.2
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (loss, logits), both [N], of leaky ReLU, a map to one logit and cross-entropy.

    logits = leaky_relu(x) . weight + bias
    loss = target * softplus(-logits) + (1 - target) * softplus(logits)

    x: [N, F] or [N, C, H, W], contiguous or channels_last; float32, bfloat16, float16 or float64.
    weight: [1, F] or [1, C, H, W], the layouts of Linear(F, 1) and of Conv2d(C, 1, (H, W)). bias:
    [1] or None. target: in [0, 1], one number or [N]; no gradient flows to it. slope: >= 0; 0 is
    ReLU, 1 leaves x as it is. Whatever x is, sums and results are float32 (float64 where x is);
    autocast changes nothing. Finite for finite logits. Differentiable to any order in x, weight and
    bias. Raises UserError for anything else.
    """
    _check_head(x, weight, bias, target, slope)
    weight, bias, target = _in_dtype_of_sums(x, weight, bias, target)
    if not x.is_contiguous() and x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x, weight = x.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)  # in the order of memory
    return _run(x.flatten(1), weight.flatten(), bias, target, slope)


def leaky_relu_bce(x: torch.Tensor, target: torch.Tensor | float, slope: float = 0.2) -> torch.Tensor:
    """Return the cross-entropy of the logits leaky_relu(x) with the target, element by element.

    The result is float32 (float64 where x is) of the shape of x. x: any shape with an element;
    float32, bfloat16, float16 or float64. target: in [0, 1], one number, or a tensor that
    broadcasts to x; no gradient flows to it. slope: >= 0; 1 leaves x as it is. Differentiable to
    any order in x. Raises UserError for anything else.
    """
    _check(x, slope)
    if isinstance(target, torch.Tensor):
        try:
            target = target.expand_as(x).reshape(-1)
        except RuntimeError:
            raise UserError(
                f"leaky_relu_bce: target {list(target.shape)} does not broadcast to x {list(x.shape)}."
            ) from None
    target = _in_dtype_of_sums(x, None, None, target)[2]
    return _run(x.reshape(-1), None, None, target, slope)[0].view(x.shape)


def _run(x, weight, bias, target, slope: float) -> tuple[torch.Tensor, torch.Tensor]:
    if is_transformed(x, weight, bias):
        return forward_reference(x, weight, bias, target, slope)
    # Queried here, in code that Dynamo reads: inside the operator torch 2.11 does not know that it
    # is compiling.
    return _apply(x, weight, bias, target, slope, torch.compiler.is_compiling())


# --- the reference --------------------------------------------------------------------------------
# x is [N, F] and weight [F] here, or x [N] and weight None; weight, bias and target have the dtype
# of the sums.


def forward_reference(x, weight, bias, target, slope) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (loss, logits) [N] in torch operations, for every device and dtype; differentiable."""
    logits = activated(x.to(_dtype_of_sums(x)), slope)
    if weight is not None:
        logits = (logits * weight).sum(1)  # not a matrix product, which autocast would compute in bfloat16
    if bias is not None:
        logits = logits + bias
    # Exact for large logits: softplus(l) - t * l would be the rounding error of l there.
    return target * F.softplus(-logits) + (1 - target) * F.softplus(logits), logits


def backward_reference(
    x, weight, target, slope, logits, dloss, dlogits, needs_dx, needs_dparameters
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (dx, dparameters): dx like x, and [F + 1], dweight and then dbias.

    Each has no elements where it is not needed. Differentiable, for the higher orders.
    """
    g = torch.zeros_like(logits) if dlogits is None else dlogits
    if dloss is not None:
        g = g + dloss * ((1 - target) * torch.sigmoid(logits) - target * torch.sigmoid(-logits))
    dx, dparameters = x.new_empty(0), logits.new_empty(0)
    if needs_dx:
        dx = (g if weight is None else g[:, None] * weight).expand_as(x)
        dx = torch.where(x > 0, dx, dx * slope).to(x.dtype)
    if needs_dparameters:
        dweight = (g[:, None] * activated(x.to(g.dtype), slope)).sum(0)
        dparameters = torch.cat([dweight, g.sum().view(1)])
    return dx, dparameters


def activated(x: torch.Tensor, slope: float) -> torch.Tensor:
    """Return leaky_relu(x); slope 0 is ReLU, 1 leaves x as it is."""
    if slope == 1:
        return x
    return F.relu(x) if slope == 0 else F.leaky_relu(x, slope)


# --- the operator; its gradients are one more, and those of higher orders the reference's ---------


class _LeakyReluBce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, target, slope, is_compiling):
        loss, logits = _picked(True, is_compiling, x, weight, (x, weight, bias, target, slope))
        ctx.set_materialize_grads(False)
        ctx.target, targets = (None, target) if isinstance(target, torch.Tensor) else (target, None)
        ctx.save_for_backward(x, weight, targets, logits)
        ctx.slope, ctx.is_compiling = slope, is_compiling
        return loss, logits

    @staticmethod
    def backward(ctx, dloss, dlogits):
        x, weight, targets, logits = ctx.saved_tensors
        needs = is_needed(ctx, 0), is_needed(ctx, 1) or is_needed(ctx, 2)
        arguments = (x, weight, ctx.target if targets is None else targets, ctx.slope, logits, dloss, dlogits, *needs)
        # create_graph: the logits carry their own graph, so the next order only differentiates
        # this.
        if torch.is_grad_enabled():
            dx, dparameters = backward_reference(*arguments)
        else:
            dx, dparameters = _picked(False, ctx.is_compiling, x, weight, arguments)
        dweight, dbias = (dparameters[:-1], dparameters[-1:]) if needs[1] else (None, None)
        return dx if needs[0] else None, dweight, dbias if ctx.needs_input_grad[2] else None, None, None, None


@torch.compiler.allow_in_graph
def _apply(x, weight, bias, target, slope, is_compiling) -> tuple[torch.Tensor, torch.Tensor]:
    return _LeakyReluBce.apply(x, weight, bias, target, slope, is_compiling)


def _picked(
    is_forward: bool, is_compiling: bool, x: torch.Tensor, weight: torch.Tensor | None, arguments: tuple
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the results for such tensors, by the kernel where it is known to be faster.

    autotune.py has to find that out on a GPU alone. On the CPU, forward and backward on one Zen4
    core: eager, the kernels take 0.5 ms for 64 x 8192 bfloat16 features (torch's layers and loss
    3.6, the reference 6.0) and 0.21 ms for 128 x 256 (0.32, 0.46). Compiled, Inductor fuses the
    reference: 0.30 ms (the kernels 0.29, torch's layers and loss 3.3) and 43 us (42, 141), and in
    the step of `mlp` the reference is 3 % faster than the kernels: so the compiler gets the
    reference.
    """
    forms, device_type = _forms(is_forward, x.device.type, x.dtype), x.device.type
    if device_type == "cpu":
        name = autotune.forced("leaky_relu_bce") or ("reference" if is_compiling else "cpu")
        fits = name == "cpu" and "cpu" in forms and self_checks.problem("leaky_relu_bce", "cpu", "cpu") is None
        return forms["cpu" if fits else "reference"](*arguments)
    runs = {name: functools.partial(form, *arguments) for name, form in forms.items()}
    asked = "forward" if is_forward else f"backward{' dx' * arguments[-2]}{' dparameters' * arguments[-1]}"
    call = (
        f"{asked} {'elements' if weight is None else 'head'} "
        f"{'x'.join(map(str, x.shape))} {str(x.dtype).removeprefix('torch.')}"
    )
    return runs[autotune.pick("leaky_relu_bce", call, runs, device_type)]()


def _forms(is_forward: bool, device_type: str, dtype: torch.dtype) -> dict[str, Callable]:
    """Return the implementations for such tensors.

    They take the arguments of forward_reference or backward_reference.
    """
    forms = {"reference": forward_reference if is_forward else backward_reference}
    if dtype in KERNEL_DTYPES.get(device_type, ()):
        forms[{"cpu": "cpu", "cuda": "triton"}[device_type]] = functools.partial(
            _kernel_forward if is_forward else _kernel_backward, device_type
        )
    return forms


# --- the kernels, csrc/leaky_relu_bce_cpu.cpp and kernels/leaky_relu_bce.py -----------------------


def _kernel_forward(device_type, x, weight, bias, target, slope) -> tuple[torch.Tensor, torch.Tensor]:
    return _operators(device_type)[0](x.contiguous(), weight, bias, *_both_kinds(target), slope)


def _kernel_backward(
    device_type, x, weight, target, slope, logits, dloss, dlogits, needs_dx, needs_dparameters
) -> tuple[torch.Tensor, torch.Tensor]:
    needs = (needs_dx, needs_dparameters)
    return _operators(device_type)[1](
        x.contiguous(), weight, *_both_kinds(target), slope, logits, dloss, dlogits, *needs
    )


def _both_kinds(target: torch.Tensor | float) -> tuple[torch.Tensor | None, float]:
    return (target.contiguous(), 0.0) if isinstance(target, torch.Tensor) else (None, target)


def _operators(device_type: str) -> tuple[Callable, Callable]:
    return (
        (torch.ops.fastgan.leaky_relu_bce, torch.ops.fastgan.leaky_relu_bce_backward)
        if device_type == "cpu"
        else _triton_operators()
    )


@functools.cache
def _triton_operators() -> tuple[Callable, Callable]:
    """Return the Triton launches as operators of torch, which the compiler takes as they are.

    Triton is imported no earlier.
    """
    from fastgan.kernels import leaky_relu_bce as kernels

    forward = torch.library.custom_op(
        "fastgan::leaky_relu_bce_triton", kernels.forward, mutates_args=(), device_types="cuda"
    )
    backward = torch.library.custom_op(
        "fastgan::leaky_relu_bce_backward_triton", kernels.gradients, mutates_args=(), device_types="cuda"
    )
    forward.register_fake(_fake_forward)
    backward.register_fake(_fake_backward)
    return forward, backward


def register_in_torch() -> None:
    """Register shapes of the library's operators; called once, after the library loaded."""
    torch.library.register_fake("fastgan::leaky_relu_bce", _fake_forward)
    torch.library.register_fake("fastgan::leaky_relu_bce_backward", _fake_backward)


def _fake_forward(x, weight, bias, targets, target, slope):
    return tuple(x.new_empty(x.shape[0], dtype=_dtype_of_sums(x)) for _ in range(2))


def _fake_backward(x, weight, targets, target, slope, logits, dloss, dlogits, needs_dx, needs_dparameters):
    return torch.empty_like(x) if needs_dx else x.new_empty(0), logits.new_empty(
        x.shape[1] + 1 if needs_dparameters else 0
    )


# --- argument checks ------------------------------------------------------------------------------


def _check_head(x, weight, bias, target, slope) -> None:
    _check(x, slope)
    if x.ndim not in (2, 4) or weight.shape != (1, *x.shape[1:]):
        shapes = f"{list(x.shape)} and {list(weight.shape)}"
        raise UserError(
            "leaky_relu_bce_head: x and weight must be [N, F] and [1, F], or [N, C, H, W] and [1, C, H, W], "
            f"not {shapes}."
        )
    if bias is not None and bias.shape != (1,):
        raise UserError(f"leaky_relu_bce_head: bias must be [1], not {list(bias.shape)}.")
    if isinstance(target, torch.Tensor) and target.shape != x.shape[:1]:
        raise UserError(
            f"leaky_relu_bce_head: target must be a number or [{x.shape[0]}], one an image, not {list(target.shape)}."
        )
    for name, tensor in (("weight", weight), ("bias", bias), ("target", target)):
        if isinstance(tensor, torch.Tensor) and (tensor.device != x.device or not tensor.is_floating_point()):
            raise UserError(
                f"leaky_relu_bce_head: {name} must be floating point on {x.device}, "
                f"not {tensor.dtype} on {tensor.device}."
            )


def _check(x: torch.Tensor, slope: float) -> None:
    if x.dtype not in DTYPES:
        raise UserError(f"leaky_relu_bce: x must be float32, bfloat16, float16 or float64, not {x.dtype}.")
    if x.numel() == 0:
        raise UserError(f"leaky_relu_bce: x {list(x.shape)} has no elements.")
    if slope < 0:
        raise UserError(f"leaky_relu_bce: slope is {slope}; it must be 0 or more.")


def _in_dtype_of_sums(x, weight, bias, target):
    """Return the other tensors in the dtype of the sums, the target without its gradient."""
    dtype = _dtype_of_sums(x)
    target = target.detach().to(dtype) if isinstance(target, torch.Tensor) else float(target)
    return None if weight is None else weight.to(dtype), None if bias is None else bias.to(dtype), target


def _dtype_of_sums(x: torch.Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


# --- self-check -----------------------------------------------------------------------------------


def self_check(implementation: str, device: torch.device) -> str | None:
    """Compare values and gradients with the reference; return the problem, or None.

    The errors of both are measured against float64 results, which no kernel computes.
    """
    for dtype in set(KERNEL_DTYPES[device.type]) - {torch.float64}:
        for rows, features in ((5, 37), (67, 1100)):
            x, weight = (
                torch.randn(rows, features, device=device).to(dtype),
                torch.randn(features, device=device) / features**0.5,
            )
            bias, targets = torch.randn(1, device=device), torch.rand(rows, device=device)
            problem = _problem_of(implementation, x, weight, bias, targets) or _problem_of(
                implementation, x[:, 0].contiguous(), None, None, targets
            )
            if problem:
                return problem
    return None


def _problem_of(implementation: str, x, weight, bias, targets) -> str | None:
    def results(form: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        each_x = x.to(dtype)
        each_weight, each_bias, each_targets = _in_dtype_of_sums(each_x, weight, bias, targets)
        forward, backward = (_forms(is_forward, x.device.type, x.dtype)[form] for is_forward in (True, False))
        loss, logits = forward(each_x, each_weight, each_bias, each_targets, 0.2)
        dx, dparameters = backward(
            each_x, each_weight, each_targets, 0.2, logits, loss, logits, True, weight is not None
        )
        return {"loss": loss, "logits": logits, "dx": dx, "dparameters": dparameters}

    ours, reference, truth = (
        results(implementation, x.dtype),
        results("reference", x.dtype),
        results("reference", torch.float64),
    )
    for what in ("loss", "logits", "dx", "dparameters") if weight is not None else ("loss", "logits", "dx"):
        problem = self_checks.three_way_problem(f"{what} in {x.dtype}", ours[what], reference[what], truth[what])
        if problem:
            return problem
    return None
