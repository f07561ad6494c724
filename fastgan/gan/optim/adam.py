"""Adam and AdamW as tensor operations over lists.

An update is thereby part of one compiled or captured graph, which torch.optim's `step()` breaks.
Whatever changes during training is a 0-D tensor, so that a schedule never recompiles. The
multi-tensor operations are one kernel a chunk on CUDA and fuse to one loop a parameter in the
compiled step.
"""
import torch

from fastgan.gan.optim.optimizer import Optimizer
from fastgan.ops.adam_ema import AdamState, adam_ema


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2014, arXiv 1412.6980, algorithm 1).

    Equal to torch.optim.Adam to float rounding. beta1, beta2: float32 [] on the parameters' device.
    """

    def __init__(
        self,
        parameters: list[torch.Tensor],
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr, weight_decay)
        device = self.parameters[0].device
        self.beta1, self.beta2 = (torch.tensor(value, device=device) for value in (beta1, beta2))
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
        gradients = self.decay(gradients)
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

    def gradient_norm(self) -> torch.Tensor:
        """Return the root of the sum of the bias-corrected means of squared gradients, []."""
        total = torch.stack([mean.sum() for mean in self.exp_avg_sq]).sum()
        return (total / (1 - self.beta2_power).clamp(min=1e-6)).sqrt()

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


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2017, arXiv 1711.05101).

    Equal to torch.optim.AdamW to float rounding.
    """

    decouples_decay = True
