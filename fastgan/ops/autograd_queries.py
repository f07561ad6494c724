"""Queries of autograd's state by the gradients of an operator."""
import torch
from torch.autograd import forward_ad


def is_needed(ctx, index: int) -> bool:
    """Return True if this backward pass of an autograd.Function needs the gradient of an input.

    index: number of the input. ctx.needs_input_grad only tells if the gradient could be needed. It
    cannot tell the G step, which goes through D, from the D step; the convolutions of torch can,
    and so does this function.
    """
    if not ctx.needs_input_grad[index]:
        return False
    try:
        return torch._C._will_engine_execute_node(ctx.next_functions[index][0])
    except RuntimeError:  # a leaf among the inputs of autograd.grad: torch raises this for leaves alone
        return True


def is_transformed(*tensors: torch.Tensor | None) -> bool:
    """Return True if torch.func or forward-mode AD is active.

    An autograd.Function with only a backward has no rule for them.
    """
    if torch._C._are_functorch_transforms_active():
        return True
    return any(tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)
