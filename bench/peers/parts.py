"""What the loops of the newer recipes share, in the form that their repositories have in common.

Their networks are fastgan's own: with the same layers on both sides, what is compared is the step.
"""
import copy
import math

import torch
from torch import nn

from bench.peers.networks import draw_z
from fastgan import models
from fastgan.config import Config


class Loop:
    """G, D, their optimisers and the moving average.

    draw_z, draw_uniform, draw_normal: random numbers, the latter of a shape; tests replace them.
    """

    def __init__(self, config: Config, device: torch.device, corrections: tuple[float, float] = (1.0, 1.0)):
        """corrections: of G's and D's Adam, see `adam`."""
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
        """G_ema follows G: parameters by a loop over them, buffers by copies."""
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
    """correction: k / (k + 1) where a penalty has an update of its own after every k, which lr and
    betas make up for (StyleGAN2, appendix B).
    """
    optim = config.optim
    betas = optim.beta1**correction, optim.beta2**correction
    return torch.optim.Adam(network.parameters(), lr=lr * correction, betas=betas, eps=optim.eps)


def requires_grad(network: nn.Module, flag: bool) -> None:
    """What the repositories do to a whole network before an update."""
    for parameter in network.parameters():
        parameter.requires_grad = flag


def squared_slope(logits: torch.Tensor, img: torch.Tensor) -> torch.Tensor:
    """Mean over images of |d logit / d image|^2, [], with its graph."""
    (gradient,) = torch.autograd.grad(logits.sum(), img, create_graph=True)
    return gradient.pow(2).reshape(len(img), -1).sum(1).mean()


def cosine(start: float, end: float, kimg: float, over_kimg: float) -> float:
    """From start to end along half a wave while over_kimg thousand images are shown."""
    progress = 0.5 - 0.5 * math.cos(math.pi * min(1.0, kimg / over_kimg))
    return start + (end - start) * progress
