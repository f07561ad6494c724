"""RMSprop, SGD and Lion as tensor operations over lists, like adam.py."""
import torch

from fastgan.gan.optim.optimizer import Optimizer, numbered

NORM_DECAY = 0.99  # a step, of the running mean of squared gradient norms


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, 2012), not centred.

    Equal to torch.optim.RMSprop to float rounding. alpha: float32 [], the smoothing constant.
    """

    def __init__(
        self,
        parameters: list[torch.Tensor],
        lr: float,
        alpha: float,
        eps: float,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
    ):
        super().__init__(parameters, lr, weight_decay)
        self.alpha, self.eps = torch.tensor(alpha, device=self.lr.device), eps
        self.square_avg = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.momentum, self.buffers = momentum, _buffers(self.parameters, momentum)

    @torch.no_grad()
    def step(self, gradients: list[torch.Tensor], is_extra: bool = False) -> None:
        """Make one update in place. gradients: like the parameters. is_extra: ignored here."""
        gradients = self.decay(gradients)
        torch._foreach_mul_(self.square_avg, self.alpha)
        torch._foreach_add_(
            self.square_avg, torch._foreach_mul(torch._foreach_mul(gradients, gradients), 1 - self.alpha)
        )
        denominator = torch._foreach_sqrt(self.square_avg)
        torch._foreach_add_(denominator, self.eps)
        update = torch._foreach_div(gradients, denominator)
        if self.momentum:
            update = _with_momentum(self.buffers, update, self.momentum)
        torch._foreach_sub_(self.parameters, torch._foreach_mul(update, self.lr))

    def gradient_norm(self) -> torch.Tensor:
        """Return the root of the sum of the means of squared gradients, []."""
        return torch.stack([mean.sum() for mean in self.square_avg]).sum().sqrt()

    def state(self) -> dict[str, torch.Tensor]:
        """Return every tensor that a step changes or reads, by name."""
        moments = numbered("square_avg", self.square_avg) | numbered("momentum", self.buffers)
        return moments | {"lr": self.lr, "alpha": self.alpha}


class _WithNorm(Optimizer):
    """An optimiser without means of squared gradients, which follows their norm beside."""

    def __init__(self, parameters: list[torch.Tensor], lr: float, weight_decay: float):
        super().__init__(parameters, lr, weight_decay)
        device = self.lr.device
        self.mean_square, self.power = torch.zeros((), device=device), torch.ones((), device=device)

    def _follow_norm(self, gradients: list[torch.Tensor]) -> None:
        total = torch.stack(torch._foreach_norm(gradients)).square().sum()
        self.mean_square.lerp_(total, 1 - NORM_DECAY)
        self.power.mul_(NORM_DECAY)

    def gradient_norm(self) -> torch.Tensor:
        """Return the root of the bias-corrected mean of squared gradient norms, []."""
        return (self.mean_square / (1 - self.power).clamp(min=1e-6)).sqrt()


class SGD(_WithNorm):
    """Stochastic gradient descent, with momentum. Equal to torch.optim.SGD to float rounding."""

    def __init__(
        self, parameters: list[torch.Tensor], lr: float, weight_decay: float = 0.0, momentum: float = 0.0
    ):
        super().__init__(parameters, lr, weight_decay)
        self.momentum, self.buffers = momentum, _buffers(self.parameters, momentum)

    @torch.no_grad()
    def step(self, gradients: list[torch.Tensor], is_extra: bool = False) -> None:
        """Make one update in place. gradients: like the parameters. is_extra: ignored here."""
        self._follow_norm(gradients)
        update = self.decay(gradients)
        if self.momentum:
            update = _with_momentum(self.buffers, update, self.momentum)
        torch._foreach_sub_(self.parameters, torch._foreach_mul(update, self.lr))

    def state(self) -> dict[str, torch.Tensor]:
        """Return every tensor that a step changes or reads, by name."""
        scalars = {"lr": self.lr, "mean_square": self.mean_square, "power": self.power}
        return numbered("momentum", self.buffers) | scalars


class Lion(_WithNorm):
    """Lion (Chen et al., 2023, arXiv 2302.06675, algorithm 2), with decoupled weight decay."""

    decouples_decay = True

    def __init__(
        self, parameters: list[torch.Tensor], lr: float, beta1: float, beta2: float, weight_decay: float = 0.0
    ):
        super().__init__(parameters, lr, weight_decay)
        self.beta1, self.beta2 = (torch.tensor(value, device=self.lr.device) for value in (beta1, beta2))
        self.exp_avg = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, gradients: list[torch.Tensor], is_extra: bool = False) -> None:
        """Make one update in place. gradients: like the parameters. is_extra: ignored here."""
        self._follow_norm(gradients)
        self.decay(gradients)
        mixed = torch._foreach_mul(self.exp_avg, self.beta1)
        torch._foreach_add_(mixed, torch._foreach_mul(gradients, 1 - self.beta1))
        torch._foreach_sub_(self.parameters, torch._foreach_mul(torch._foreach_sign(mixed), self.lr))
        torch._foreach_mul_(self.exp_avg, self.beta2)
        torch._foreach_add_(self.exp_avg, torch._foreach_mul(gradients, 1 - self.beta2))

    def state(self) -> dict[str, torch.Tensor]:
        """Return every tensor that a step changes or reads, by name."""
        scalars = {"lr": self.lr, "beta1": self.beta1, "beta2": self.beta2}
        return numbered("exp_avg", self.exp_avg) | scalars | {"mean_square": self.mean_square, "power": self.power}


def _buffers(parameters: list[torch.Tensor], momentum: float) -> list[torch.Tensor]:
    return [torch.zeros_like(parameter) for parameter in parameters] if momentum else []


def _with_momentum(buffers: list[torch.Tensor], update: list[torch.Tensor], momentum: float) -> list[torch.Tensor]:
    """Set buffers = momentum * buffers + update in place; return them."""
    torch._foreach_mul_(buffers, momentum)
    torch._foreach_add_(buffers, update)
    return buffers
