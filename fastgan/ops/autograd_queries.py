"""Questions that the gradients of an operator ask of autograd."""
import torch
from torch.autograd import forward_ad


def is_needed(ctx, index: int) -> bool:
    """Whether this backward pass of an autograd.Function asks for the gradient of input `index`,
    not only whether it could.

    ctx.needs_input_grad cannot tell the G step, which goes through D, from the D step; the
    convolutions of torch can, and so does this.
    """
    if not ctx.needs_input_grad[index]:
        return False
    try:
        return torch._C._will_engine_execute_node(ctx.next_functions[index][0])
    except RuntimeError:  # a leaf that autograd.grad was asked for: torch answers so for these alone
        return True


def is_transformed(*tensors: torch.Tensor | None) -> bool:
    """Whether torch.func or forward-mode AD is at work, for which an autograd.Function with a
    backward alone has no rule.
    """
    if torch._C._are_functorch_transforms_active():
        return True
    return any(tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)
