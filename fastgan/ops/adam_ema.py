"""Adam over all parameters of a network, fused with their exponential moving average.

One step of both takes one pass over memory. Eager calls run a kernel where one fits and was
measured to be faster: on one core of the CPU the mlp step is then 1.35 times as fast. Compiled code
traces the reference, unless a kernel is forced: the loops that the compiler generates from it are
as fast, and also fuse the casts on either side, of the gradients from bfloat16 and of the new
weights to it. These casts would be passes of their own around a kernel (with it the compiled mlp
step takes 1.05 times as long).
"""
import functools
from collections.abc import Callable
from typing import NamedTuple

import torch

from fastgan.errors import UserError
from fastgan.ops.dispatch import autotune, self_checks
from fastgan.ops.dispatch.device import device_type

# Other dtypes are cast for the kernels.
GRADIENT_DTYPES = {"cpu": (torch.float32, torch.bfloat16), "cuda": (torch.float32, torch.float16, torch.bfloat16)}


class AdamState(NamedTuple):
    """The tensors that a step reads and changes in place.

    All are float32 on one device; the lists are equally long, element i of each of one shape.
    """

    parameters: list[torch.Tensor]
    exp_avg: list[torch.Tensor]
    exp_avg_sq: list[torch.Tensor]
    average: list[torch.Tensor]  # the moving average of the parameters; empty for none
    beta1_power: torch.Tensor  # [], beta1 ** (steps so far)
    beta2_power: torch.Tensor  # [], beta2 ** (steps so far)
    lr: torch.Tensor  # []
    beta1: torch.Tensor  # []
    beta2: torch.Tensor  # []
    ema_beta: torch.Tensor | None  # [], None without an average
    eps: float


Form = Callable[[list[torch.Tensor], AdamState], None]


@torch.no_grad()
def adam_ema(gradients: list[torch.Tensor], state: AdamState) -> None:
    """Apply one step of Adam and update the moving average, in place.

    Adam: Kingma and Ba, 2014, algorithm 1. Then
    average = ema_beta * average + (1 - ema_beta) * parameters. gradients: of any floating point
    dtype, in the order and the shapes of the parameters. No gradient flows through the step. Raises
    UserError for lists that do not fit.
    """
    _check(gradients, state)
    _form_for(gradients, state)(gradients, state)


def adam_ema_reference(gradients: list[torch.Tensor], state: AdamState) -> None:
    """Apply the step in torch operations, for every device and dtype."""
    parameters, exp_avg, exp_avg_sq, average, beta1_power, beta2_power, lr, beta1, beta2, ema_beta, eps = state
    gradients = [gradient.to(parameter.dtype) for gradient, parameter in zip(gradients, parameters, strict=True)]
    torch._foreach_mul_([beta1_power, beta2_power], [beta1, beta2])
    step_size, scaled_eps = _factors(state)
    torch._foreach_mul_(exp_avg, beta1)
    torch._foreach_add_(exp_avg, torch._foreach_mul(gradients, 1 - beta1))
    torch._foreach_mul_(exp_avg_sq, beta2)
    torch._foreach_add_(exp_avg_sq, torch._foreach_mul(torch._foreach_mul(gradients, gradients), 1 - beta2))
    denominator = torch._foreach_sqrt(exp_avg_sq)
    # Without alpha, torch treats the tensor as a number, and waits for it.
    torch._foreach_add_(denominator, scaled_eps, alpha=1)
    update = torch._foreach_div(exp_avg, denominator)
    torch._foreach_mul_(update, step_size)
    torch._foreach_sub_(parameters, update)
    if average:
        follow(average, parameters, ema_beta)


def _factors(state: AdamState) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the step size and the scaled eps of this step, float32 [].

    The step size is the factor of the quotient of moments; eps is added to the root in its
    denominator. The powers are those of this step.
    """
    root2 = (1 - state.beta2_power).sqrt()
    step_size, scaled_eps = state.lr * root2 / (1 - state.beta1_power), state.eps * root2
    if device_type(root2) != "cpu":
        return step_size, scaled_eps
    # Stacked, the two lie in memory. The compiler cannot know that no output overlaps their inputs,
    # and would compute a root and two quotients anew for every 16 elements, on the divider that
    # limits the loop: 1.4 times the time of the loop. A GPU is limited by memory instead.
    return tuple(torch.stack([step_size, scaled_eps]))


def follow(average: list[torch.Tensor], source: list[torch.Tensor], beta: torch.Tensor) -> None:
    """Compute average = beta * average + (1 - beta) * source, in place."""
    torch._foreach_mul_(average, beta)
    torch._foreach_add_(average, torch._foreach_mul(source, 1 - beta))


def register_in_torch() -> None:
    """Register the result of the library's operator; called once, after the library defined it."""
    torch.library.register_fake("fastgan::adam_ema", lambda *arguments: None)


# --- the kernels, and the choice among them -------------------------------------------------------


def forms(state: AdamState) -> dict[str, Form]:
    """Return every implementation that fits such a state, by name."""
    device_type = state.parameters[0].device.type
    if device_type not in GRADIENT_DTYPES or not _lie_alike(state):
        return {"reference": adam_ema_reference}
    return {"reference": adam_ema_reference} | (
        {"cpu": adam_ema_native} if device_type == "cpu" else {"triton": adam_ema_triton}
    )


def adam_ema_native(gradients: list[torch.Tensor], state: AdamState) -> None:
    """Run csrc/adam_ema_cpu.cpp."""
    torch.ops.fastgan.adam_ema(_readable(gradients, state.parameters), *state)
    # As torch's own operations do, so that a graph of the old values is not used.
    torch.autograd.graph.increment_version(state.parameters)


def adam_ema_triton(gradients: list[torch.Tensor], state: AdamState) -> None:
    """Run kernels/adam_ema.py."""
    from fastgan.kernels import adam_ema as kernels

    kernels.adam_ema(_readable(gradients, state.parameters), *state)
    torch.autograd.graph.increment_version(state.parameters)


def _form_for(gradients: list[torch.Tensor], state: AdamState) -> Form:
    if torch.compiler.is_compiling():
        return forms(state).get(autotune.forced("adam_ema"), adam_ema_reference)
    return _fastest(gradients, state)


def _fastest(gradients: list[torch.Tensor], state: AdamState) -> Form:
    """Return the form that autotune.py picks for such tensors.

    It is timed on copies, because a step changes its arguments.
    """
    fitting = forms(state)
    copied_state = functools.cache(lambda: AdamState(*(_copied(field, torch.float32) for field in state)))
    runs = {name: lambda form=form: form(gradients, copied_state()) for name, form in fitting.items()}
    dtype, numel = (
        str(gradients[0].dtype).removeprefix("torch."),
        sum(parameter.numel() for parameter in state.parameters),
    )
    call = f"{len(gradients)} tensors of {numel} elements {dtype}{' averaged' * bool(state.average)}"
    return fitting[autotune.pick("adam_ema", call, runs, state.parameters[0].device.type)]


def _copied(field, dtype: torch.dtype):
    """Return a field of AdamState, its tensors copied in their own memory order."""
    if isinstance(field, list):
        return [_copied(tensor, dtype) for tensor in field]
    return field.to(dtype, copy=True) if isinstance(field, torch.Tensor) else field


def _lie_alike(state: AdamState) -> bool:
    """Return True if the kernels can read the state.

    The parameters must be dense float32, and the other tensors of each like it in dtype, device and
    strides.
    """
    lists = filter(None, (state.exp_avg, state.exp_avg_sq, state.average))
    for parameter, *beside in zip(state.parameters, *lists, strict=True):
        if parameter.dtype != torch.float32 or not _is_dense(parameter):
            return False
        if any(
            x.dtype != torch.float32 or x.device != parameter.device or x.stride() != parameter.stride() for x in beside
        ):
            return False
    return True


def _is_dense(x: torch.Tensor) -> bool:
    """Return True if the elements fill one stretch of memory, in any order of the dimensions."""
    return x.is_contiguous() or x.permute(sorted(range(x.ndim), key=x.stride, reverse=True)).is_contiguous()


def _readable(gradients: list[torch.Tensor], parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the gradients in one dtype and in the memory order of the parameters.

    The dtype is one that the kernels read; gradients are copied only where needed.
    """
    dtype = gradients[0].dtype
    if dtype not in GRADIENT_DTYPES[parameters[0].device.type] or any(
        gradient.dtype != dtype for gradient in gradients
    ):
        gradients = [gradient.float() for gradient in gradients]
    return [
        gradient
        if gradient.stride() == parameter.stride()
        else torch.empty_like(parameter, dtype=gradient.dtype).copy_(gradient)
        for gradient, parameter in zip(gradients, parameters, strict=True)
    ]


def _check(gradients: list[torch.Tensor], state: AdamState) -> None:
    parameters, exp_avg, exp_avg_sq, average, *_ = state
    num = len(parameters)
    if num == 0 or not len(gradients) == len(exp_avg) == len(exp_avg_sq) == num or len(average) not in (0, num):
        counts = (
            f"{len(gradients)} gradients, {len(exp_avg)} and {len(exp_avg_sq)} moments "
            f"and {len(average)} averages for {num} parameters"
        )
        raise UserError(
            f"adam_ema: there are {counts}; give one of each for every parameter (averages or none), "
            "and one parameter or more."
        )
    if (state.ema_beta is None) != (len(average) == 0):
        raise UserError("adam_ema: averages and ema_beta come together; give both or neither.")
    for i, (parameter, *beside) in enumerate(
        zip(parameters, gradients, exp_avg, exp_avg_sq, *filter(None, [average]), strict=True)
    ):
        if any(x.shape != parameter.shape for x in beside):
            shapes = ", ".join(str(list(x.shape)) for x in beside)
            raise UserError(
                f"adam_ema: parameter {i} is {list(parameter.shape)}, beside {shapes}; "
                "gradient, moments and average must be like it."
            )


# --- self-check -----------------------------------------------------------------------------------


def self_check(implementation: str, device: torch.device) -> str | None:
    """Compare an implementation with the reference; return the problem, or None.

    Three steps, with and without an average. The errors of both are measured against float64
    results.
    """
    for dtype in GRADIENT_DTYPES[device.type]:
        for averaged in (True, False):
            state, gradients = _example(averaged, device), [_random_tensors(device, dtype) for _ in range(3)]
            form = forms(state)[implementation]
            ours, reference = (
                after_steps(each, torch.float32, state, gradients) for each in (form, adam_ema_reference)
            )
            for name, truth in after_steps(adam_ema_reference, torch.float64, state, gradients).items():
                problem = self_checks.three_way_problem(
                    f"{name} after gradients in {dtype}", ours[name], reference[name], truth
                )
                if problem:
                    return problem
    return None


def after_steps(
    form: Form, dtype: torch.dtype, state: AdamState, gradients: list[list[torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Return the state, copied in `dtype`, after a step with each of the gradients.

    The result holds each list as one vector, and the two powers, by name.
    """
    state = AdamState(*(_copied(field, dtype) for field in state))
    for each in gradients:
        form(each, state)
    vectors = {
        name: torch.cat([tensor.flatten() for tensor in tensors])
        for name, tensors in zip(state._fields[:4], state, strict=False)
        if tensors
    }
    return vectors | {"beta1_power": state.beta1_power, "beta2_power": state.beta2_power}


def _random_tensors(device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return tensors of sizes that fill no vector and several blocks, one in channels_last."""
    tensors = [torch.randn(shape, device=device).to(dtype) for shape in ((1,), (37, 83), (5, 3, 4, 4), ())]
    return [tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor for tensor in tensors]


def _example(averaged: bool, device: torch.device) -> AdamState:
    parameters, average = (_random_tensors(device, torch.float32) for _ in range(2))
    zeros = [torch.zeros_like(parameter) for parameter in parameters]
    *scalars, ema_beta = (torch.tensor(value, device=device) for value in (1.0, 1.0, 0.01, 0.5, 0.99, 0.9))
    return AdamState(
        parameters, zeros, zeros, average if averaged else [], *scalars, ema_beta if averaged else None, 1e-8
    )
