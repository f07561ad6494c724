"""Twin parameters for one of our optimisers and one of torch's."""
import torch

SHAPES = [(3, 5), (7,), (), (2, 3, 4, 4)]


def twin_parameters(seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    ours = [torch.randn(shape, generator=generator) for shape in SHAPES]
    return ours, [tensor.clone().requires_grad_() for tensor in ours]


def run_both(optimizer, reference: torch.optim.Optimizer, theirs: list[torch.Tensor], steps: int = 100) -> None:
    """Give both the same random gradients; small and large ones, so that eps matters somewhere."""
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        gradients = [torch.randn(shape, generator=generator) * 10.0 ** (step % 7 - 5) for shape in SHAPES]
        optimizer.step(gradients)
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient
        reference.step()
