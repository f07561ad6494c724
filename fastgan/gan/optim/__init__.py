"""Optimisers and the moving average of G as tensor operations over lists."""
import torch

from fastgan.config import OptimConfig
from fastgan.config.schema import OPTIMIZERS
from fastgan.errors import UserError
from fastgan.gan.optim.adam import Adam, AdamW
from fastgan.gan.optim.average import Average, beta_for, make_average
from fastgan.gan.optim.first_order import SGD, Lion, RMSprop
from fastgan.gan.optim.optimizer import Optimizer

__all__ = ["SGD", "Adam", "AdamW", "Average", "Lion", "Optimizer", "RMSprop", "beta_for", "make_average",
           "make_optimizer"]  # fmt: skip
WEIGHT_DECAY = {"adamw": 0.01}  # where none is given: torch.optim's


def make_optimizer(
    name: str, parameters: list[torch.Tensor], lr: float, optim: OptimConfig, correction: float = 1.0
) -> Optimizer:
    """Make an optimiser by name; the smoothing constant of rmsprop is beta2.

    correction: of Adam's hyperparameters, lr * c and beta ** c, where it takes extra steps. Raises
    UserError for an unknown name.
    """
    beta1, beta2 = optim.beta1**correction, optim.beta2**correction
    decay = optim.weight_decay if optim.weight_decay is not None else WEIGHT_DECAY.get(name, 0.0)
    if name not in OPTIMIZERS:
        raise UserError(f"there is no optimiser {name!r}: it can be {', '.join(OPTIMIZERS)}")
    if name in ("adam", "adamw"):
        return (Adam if name == "adam" else AdamW)(parameters, lr * correction, beta1, beta2, optim.eps, decay)
    if name == "lion":
        return Lion(parameters, lr, optim.beta1, optim.beta2, decay)
    if name == "sgd":
        return SGD(parameters, lr, decay, optim.momentum)
    return RMSprop(parameters, lr, optim.beta2, optim.eps, decay, optim.momentum)
