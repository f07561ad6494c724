"""Optimisers as tensor operations over lists, so that an update is part of one compiled or captured graph.

torch.optim's `step()` breaks the graph. Whatever changes during training is a 0-D tensor, so that a schedule never recompiles.
The multi-tensor operations are one kernel a chunk on CUDA and fuse to one loop a parameter in the compiled step.
"""
import torch

from fastgan.ops.adam_ema import AdamState, adam_ema


class Adam:
    """Adam (Kingma and Ba, 2014, arXiv 1412.6980, algorithm 1), equal to torch.optim.Adam without weight decay to float rounding.

    parameters: list of float32 tensors, updated in place. lr, beta1, beta2: float32 [] on the parameters' device.
    """

    def __init__(self, parameters: list[torch.Tensor], lr: float, beta1: float, beta2: float, eps: float):
        self.parameters = list(parameters)
        device = self.parameters[0].device
        self.lr, self.beta1, self.beta2 = (torch.tensor(value, device=device) for value in (lr, beta1, beta2))
        self.eps = eps
        # beta ** num_steps as a running product: a pow would be compiled into the innermost loop, once for every 16 elements.
        self.beta1_power, self.beta2_power = torch.ones((), device=device), torch.ones((), device=device)
        self.exp_avg = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.exp_avg_sq = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.average: list[torch.Tensor] = []
        self.ema_beta: torch.Tensor | None = None

    def take_average(self, average: list[torch.Tensor], beta: torch.Tensor) -> None:
        """From now on a step also updates the moving average of the parameters (in their order), in the same pass over memory. beta: float32 []."""
        self.average, self.ema_beta = list(average), beta

    def step(self, gradients: list[torch.Tensor], is_extra: bool = False) -> None:
        """One update in place; gradients: like the parameters, in their order. is_extra: another one in the same step, which the average skips."""
        scalars = self.beta1_power, self.beta2_power, self.lr, self.beta1, self.beta2, None if is_extra else self.ema_beta, self.eps
        adam_ema(gradients, AdamState(self.parameters, self.exp_avg, self.exp_avg_sq, [] if is_extra else self.average, *scalars))

    def state(self) -> dict[str, torch.Tensor]:
        """Every tensor that a step changes or reads, by name, for checkpoints and for restoring in place; the average is G_ema's."""
        moments = {f"exp_avg.{i}": tensor for i, tensor in enumerate(self.exp_avg)}
        moments |= {f"exp_avg_sq.{i}": tensor for i, tensor in enumerate(self.exp_avg_sq)}
        scalars = {"beta1_power": self.beta1_power, "beta2_power": self.beta2_power, "lr": self.lr, "beta1": self.beta1, "beta2": self.beta2}
        return moments | scalars


class RMSprop:
    """RMSprop (Tieleman and Hinton, 2012), equal to torch.optim.RMSprop without momentum, not centred, to float rounding.

    parameters: list of float32 tensors, updated in place. lr, alpha: float32 [] on the parameters' device.
    """

    def __init__(self, parameters: list[torch.Tensor], lr: float, alpha: float, eps: float):
        self.parameters = list(parameters)
        device = self.parameters[0].device
        self.lr, self.alpha = (torch.tensor(value, device=device) for value in (lr, alpha))
        self.eps = eps
        self.square_avg = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, gradients: list[torch.Tensor], is_extra: bool = False) -> None:
        """One update in place; gradients: like the parameters, in their order. is_extra: of no account here."""
        torch._foreach_mul_(self.square_avg, self.alpha)
        torch._foreach_add_(self.square_avg, torch._foreach_mul(torch._foreach_mul(gradients, gradients), 1 - self.alpha))
        denominator = torch._foreach_sqrt(self.square_avg)
        torch._foreach_add_(denominator, self.eps)
        update = torch._foreach_div(gradients, denominator)
        torch._foreach_mul_(update, self.lr)
        torch._foreach_sub_(self.parameters, update)

    def state(self) -> dict[str, torch.Tensor]:
        """Every tensor that a step changes or reads, by name."""
        return {f"square_avg.{i}": tensor for i, tensor in enumerate(self.square_avg)} | {"lr": self.lr, "alpha": self.alpha}


def make_optimizer(name: str, parameters: list[torch.Tensor], lr: float, beta1: float, beta2: float, eps: float) -> Adam | RMSprop:
    """`adam`, or `rmsprop` whose smoothing constant is beta2."""
    return Adam(parameters, lr, beta1, beta2, eps) if name == "adam" else RMSprop(parameters, lr, beta2, eps)
