"""Common parts of the loops of the newer recipes, in the form that their repositories share.

Their networks are fastgan's own: with the same layers on both sides, the step is what is compared.
"""
import copy
import math

import torch
from torch import nn

from fastgan import models
from fastgan.bench.peers.networks import draw_z
from fastgan.config import Config


class Loop:
    """G, D, their optimisers and the moving average.

    draw_z, draw_uniform, draw_normal: random numbers, the latter of a shape; tests replace them.
    """

    def __init__(self, config: Config, device: torch.device, corrections: tuple[float, float] = (1.0, 1.0)):
        """Build networks, optimisers and average; corrections: of G's and D's Adam, see `adam`."""
        torch.backends.cudnn.benchmark = True
        self.config, optim = config, config.optim
        self.G, self.D = (network.to(device).train() for network in models.build(config.model))
        self.G_ema = None if optim.ema_kimg is None else copy.deepcopy(self.G).eval()
        self.optimizer_G = adam(self.G, optim.lr_G, config, corrections[0])
        self.optimizer_D = adam(self.D, optim.lr_D, config, corrections[1])
        self.num_steps = 0  # updates of D so far
        self.draw_z = lambda num=config.run.batch_size: draw_z(config.model, num, device)
        self.draw_uniform = lambda *shape: torch.rand(*shape, device=device)
        self.draw_normal = lambda *shape: torch.randn(*shape, device=device)

    @property
    def kimg(self) -> float:
        """Thousands of images shown so far."""
        return self.num_steps * self.config.run.batch_size / 1000

    def average(self, half_life_kimg: float) -> None:
        """Let G_ema follow G: parameters by a loop over them, buffers by copies."""
        if self.G_ema is None:
            return
        num_images = self.config.run.batch_size * self.config.loss.n_critic
        beta = 0.5 ** (num_images / max(1000 * half_life_kimg, 1e-6))
        with torch.no_grad():
            for average, parameter in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
                average.mul_(beta).add_(parameter, alpha=1 - beta)
            for average, buffer in zip(self.G_ema.buffers(), self.G.buffers(), strict=True):
                average.copy_(buffer)


def adam(network: nn.Module, lr: float, config: Config, correction: float = 1.0) -> torch.optim.Adam:
    """Return the Adam optimiser of a network.

    correction: k / (k + 1) where a penalty has an update of its own after every k, which lr and
    betas compensate for (StyleGAN2, appendix B).
    """
    optim = config.optim
    betas = optim.beta1**correction, optim.beta2**correction
    return torch.optim.Adam(network.parameters(), lr=lr * correction, betas=betas, eps=optim.eps)


def requires_grad(network: nn.Module, flag: bool) -> None:
    """Set requires_grad of a whole network, as the repositories do before an update."""
    for parameter in network.parameters():
        parameter.requires_grad = flag


def squared_slope(logits: torch.Tensor, img: torch.Tensor) -> torch.Tensor:
    """Return the mean over images of |d logit / d image|^2, [], with its graph."""
    (gradient,) = torch.autograd.grad(logits.sum(), img, create_graph=True)
    return gradient.pow(2).reshape(len(img), -1).sum(1).mean()


def cosine(start: float, end: float, kimg: float, over_kimg: float) -> float:
    """Return the value between start and end along half a cosine over over_kimg thousand images."""
    progress = 0.5 - 0.5 * math.cos(math.pi * min(1.0, kimg / over_kimg))
    return start + (end - start) * progress
