"""Checks for every model.

Gradients for all parameters, a correct penalty on D, and a penalised step as one graph.
"""
import copy

import torch
from torch import nn


def first_of(logits: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return D's logits, from an output with class logits or without."""
    return logits[0] if isinstance(logits, tuple) else logits


def all_of(logits: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([part.flatten() for part in logits]) if isinstance(logits, tuple) else logits


def check_gradients_reach_every_parameter(G: nn.Module, D: nn.Module, z: torch.Tensor, c: torch.Tensor | None) -> None:
    names, parameters = zip(*[*G.named_parameters(), *D.named_parameters()], strict=True)
    gradients = torch.autograd.grad(all_of(D(G(z, c), c)).square().sum(), parameters, allow_unused=True)
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient is not None, f"no gradient for {name}"
        assert gradient.any(), f"a gradient of zeros for {name}"
        assert gradient.isfinite().all(), f"a gradient for {name} that is not finite"


def check_penalty(D: nn.Module, img: torch.Tensor, c: torch.Tensor | None) -> None:
    """Compare the penalty's gradient for the weights, in float64, with a finite difference.

    The difference is that of the penalty along a random direction. D: in evaluation mode here.
    Spectral norms are brought to their fixed point before, where the gradient that leaves the
    iteration out is the whole gradient.
    """
    D, img = copy.deepcopy(D).double(), img.double()
    for _ in range(400):
        for module in D.modules():
            if hasattr(module, "normalised_weight"):
                module.train().normalised_weight()
    D.eval()
    weights = [parameter for parameter in D.parameters() if parameter.ndim > 1]

    def penalty() -> torch.Tensor:
        grad_probe = torch.zeros_like(img, requires_grad=True)
        (slope,) = torch.autograd.grad(first_of(D(img + grad_probe, c)).sum(), grad_probe, create_graph=True)
        return slope.square().sum()

    gradients = torch.autograd.grad(penalty(), weights, allow_unused=True, materialize_grads=True)
    direction = [torch.randn_like(weight) for weight in weights]
    step = (
        1e-6 * sum(weight.square().sum() for weight in weights).sqrt() / sum(d.square().sum() for d in direction).sqrt()
    )
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            torch._foreach_add_(weights, torch._foreach_mul(direction, sign * step))
        values.append(penalty().detach())
        with torch.no_grad():
            torch._foreach_sub_(weights, torch._foreach_mul(direction, sign * step))
    along = sum((gradient * d).sum() for gradient, d in zip(gradients, direction, strict=True))
    assert along.abs() > 0
    torch.testing.assert_close((values[0] - values[1]) / (2 * step), along, rtol=1e-4, atol=1e-8)


def check_one_graph(D: nn.Module, img: torch.Tensor, c: torch.Tensor | None) -> None:
    """Check a loss with a penalty, traced without a break, against eager mode.

    The gradients are equal, and the buffers move alike.
    """
    twin = copy.deepcopy(D)
    grad_probe = torch.zeros_like(img, requires_grad=True)

    def gradients(D: nn.Module) -> list[torch.Tensor]:
        (slope,) = torch.autograd.grad(first_of(D(img + grad_probe, c)).sum(), grad_probe, create_graph=True)
        loss = all_of(D(img, c)).square().mean() + slope.square().sum()
        return torch.autograd.grad(loss, list(D.parameters()), allow_unused=True, materialize_grads=True)

    torch.compiler.reset()  # of the function that all of these tests share, the compiler keeps eight versions at most
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        traced = torch.compile(gradients, fullgraph=True, dynamic=False, backend="aot_eager")
        for ours, expected in zip(traced(D), gradients(twin), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item() + 1e-7)
    torch.testing.assert_close(dict(D.named_buffers()), dict(twin.named_buffers()))
