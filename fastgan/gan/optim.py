"""Optimisers and the moving average of G as tensor operations over lists.

An update is thereby part of one compiled or captured graph, which torch.optim's `step()` breaks.
Whatever changes during training is a 0-D tensor, so that a schedule never recompiles. The
multi-tensor operations are one kernel a chunk on CUDA and fuse to one loop a parameter in the
compiled step.
"""
import copy

import torch
from torch import nn

from fastgan.ops.adam_ema import AdamState, adam_ema, follow


class Adam:
    """Adam (Kingma and Ba, 2014, arXiv 1412.6980, algorithm 1).

    Equal to torch.optim.Adam without weight decay to float rounding. parameters: list of float32
    tensors, updated in place. lr, beta1, beta2: float32 [] on the parameters' device.
    """

    def __init__(self, parameters: list[torch.Tensor], lr: float, beta1: float, beta2: float, eps: float):
        self.parameters = list(parameters)
        device = self.parameters[0].device
        self.lr, self.beta1, self.beta2 = (torch.tensor(value, device=device) for value in (lr, beta1, beta2))
        self.eps = eps
        # A running product for beta ** num_steps: a pow would be compiled into the innermost loop,
        # once for every 16 elements
        self.beta1_power, self.beta2_power = torch.ones((), device=device), torch.ones((), device=device)
        self.exp_avg = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.exp_avg_sq = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.average: list[torch.Tensor] = []
        self.ema_beta: torch.Tensor | None = None

    def take_average(self, average: list[torch.Tensor], beta: torch.Tensor) -> None:
        """Let every later step also update the moving average of the parameters.

        average: in the order of the parameters, updated in the same pass over memory. beta: float32
        [].
        """
        self.average, self.ema_beta = list(average), beta

    def step(self, gradients: list[torch.Tensor], is_extra: bool = False) -> None:
        """Make one update in place. gradients: like the parameters, in their order.

        is_extra: another update in the same step, which the average skips.
        """
        scalars = (
            self.beta1_power,
            self.beta2_power,
            self.lr,
            self.beta1,
            self.beta2,
            None if is_extra else self.ema_beta,
            self.eps,
        )
        adam_ema(
            gradients,
            AdamState(self.parameters, self.exp_avg, self.exp_avg_sq, [] if is_extra else self.average, *scalars),
        )

    def state(self) -> dict[str, torch.Tensor]:
        """Return every tensor that a step changes or reads, by name.

        It serves checkpoints and restoring in place. The average is not in it: it belongs to G_ema.
        """
        moments = {f"exp_avg.{i}": tensor for i, tensor in enumerate(self.exp_avg)}
        moments |= {f"exp_avg_sq.{i}": tensor for i, tensor in enumerate(self.exp_avg_sq)}
        scalars = {
            "beta1_power": self.beta1_power,
            "beta2_power": self.beta2_power,
            "lr": self.lr,
            "beta1": self.beta1,
            "beta2": self.beta2,
        }
        return moments | scalars


class RMSprop:
    """RMSprop (Tieleman and Hinton, 2012).

    Equal to torch.optim.RMSprop without momentum, not centred, to float rounding. parameters: list
    of float32 tensors, updated in place. lr, alpha: float32 [] on the parameters' device.
    """

    def __init__(self, parameters: list[torch.Tensor], lr: float, alpha: float, eps: float):
        self.parameters = list(parameters)
        device = self.parameters[0].device
        self.lr, self.alpha = (torch.tensor(value, device=device) for value in (lr, alpha))
        self.eps = eps
        self.square_avg = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, gradients: list[torch.Tensor], is_extra: bool = False) -> None:
        """Make one update in place. gradients: like the parameters, in their order.

        is_extra: ignored here.
        """
        torch._foreach_mul_(self.square_avg, self.alpha)
        torch._foreach_add_(
            self.square_avg, torch._foreach_mul(torch._foreach_mul(gradients, gradients), 1 - self.alpha)
        )
        denominator = torch._foreach_sqrt(self.square_avg)
        torch._foreach_add_(denominator, self.eps)
        update = torch._foreach_div(gradients, denominator)
        torch._foreach_mul_(update, self.lr)
        torch._foreach_sub_(self.parameters, update)

    def state(self) -> dict[str, torch.Tensor]:
        """Return every tensor that a step changes or reads, by name."""
        return {f"square_avg.{i}": tensor for i, tensor in enumerate(self.square_avg)} | {
            "lr": self.lr,
            "alpha": self.alpha,
        }


def make_optimizer(
    name: str, parameters: list[torch.Tensor], lr: float, beta1: float, beta2: float, eps: float
) -> Adam | RMSprop:
    """Make `adam`, or `rmsprop` whose smoothing constant is beta2."""
    return Adam(parameters, lr, beta1, beta2, eps) if name == "adam" else RMSprop(parameters, lr, beta2, eps)


def make_average(G: nn.Module) -> nn.Module:
    """Return a copy of G in evaluation mode, for samples; its gradients are never computed."""
    return copy.deepcopy(G).eval()


def beta_for(batch_size: int, ema_kimg: float) -> float:
    """Return the decay per step for a half-life in thousands of images.

        0.5 ** (batch_size / (1000 * ema_kimg))
    """
    return 0.5 ** (batch_size / (1000.0 * ema_kimg))


class Average:
    """The update of G's moving average, as part of the step.

    Parameters are averaged, buffers (BatchNorm statistics) are copied. left_out: buffers of G_ema
    that other code updates.
    """

    def __init__(self, G: nn.Module, G_ema: nn.Module, beta: float, left_out: list[torch.Tensor] = ()):
        self.source = list(G.parameters())
        self.average = list(G_ema.parameters())
        known = {id(buffer) for buffer in left_out}
        buffers = [
            (average, source)
            for average, source in zip(G_ema.buffers(), G.buffers(), strict=True)
            if id(average) not in known
        ]
        self.average_buffers, self.source_buffers = (
            [average for average, _ in buffers],
            [source for _, source in buffers],
        )
        self.beta = torch.tensor(beta, device=self.source[0].device)

    def hand_over(self, parameters: list[torch.Tensor]) -> list[torch.Tensor]:
        """Hand over the averages of these parameters of G, in their order.

        They are for an optimiser that updates parameters and averages in one pass; step() no longer
        updates them.
        """
        index = {id(source): i for i, source in enumerate(self.source)}
        taken = [index[id(parameter)] for parameter in parameters]
        handed_over = [self.average[i] for i in taken]
        left = [i for i in range(len(self.source)) if i not in taken]
        self.source, self.average = [self.source[i] for i in left], [self.average[i] for i in left]
        return handed_over

    @torch.no_grad()
    def step(self) -> None:
        """Set average = beta * average + (1 - beta) * G in place, where it was not handed over."""
        if self.average:
            follow(self.average, self.source, self.beta)
        if self.average_buffers:
            torch._foreach_copy_(self.average_buffers, self.source_buffers)
