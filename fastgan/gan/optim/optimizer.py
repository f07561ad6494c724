"""The base of every optimiser: parameters, learning rate and weight decay."""
import torch


class Optimizer:
    """Updates of a list of float32 tensors in place. lr: float32 [] on the parameters' device."""

    decouples_decay = False  # weight decay scales the parameters, instead of adding to the gradients

    def __init__(self, parameters: list[torch.Tensor], lr: float, weight_decay: float = 0.0):
        self.parameters = list(parameters)
        self.lr, self.weight_decay = torch.tensor(float(lr), device=self.parameters[0].device), weight_decay

    @torch.no_grad()
    def decay(self, gradients: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the gradients with weight decay in them, or decay the parameters in place."""
        if not self.weight_decay:
            return gradients
        if self.decouples_decay:
            torch._foreach_mul_(self.parameters, 1 - self.lr * self.weight_decay)
            return gradients
        return torch._foreach_add(gradients, self.parameters, alpha=self.weight_decay)

    def step(self, gradients: list[torch.Tensor], is_extra: bool = False) -> None:
        """Make one update in place. gradients: like the parameters, in their order.

        is_extra: another update in the same step, which a moving average skips.
        """
        raise NotImplementedError

    def gradient_norm(self) -> torch.Tensor:
        """Return a running mean of the norm of the gradients, []."""
        raise NotImplementedError

    def state(self) -> dict[str, torch.Tensor]:
        """Return every tensor that a step changes or reads, by name."""
        raise NotImplementedError


def numbered(name: str, tensors: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors by name.0, name.1, ..."""
    return {f"{name}.{i}": tensor for i, tensor in enumerate(tensors)}
