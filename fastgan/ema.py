"""The exponential moving average of G (Karras et al., 2018, arXiv 1710.10196): smoother samples from the same training."""
import copy

import torch
from torch import nn

from fastgan.ops.adam_ema import follow


def make_average(G: nn.Module) -> nn.Module:
    """A copy of G in evaluation mode, for samples; nothing ever asks for its gradients."""
    return copy.deepcopy(G).eval()


def beta_for(batch_size: int, ema_kimg: float) -> float:
    """The decay per step for a half-life in thousands of images: 0.5 ** (batch_size / (1000 * ema_kimg))."""
    return 0.5 ** (batch_size / (1000.0 * ema_kimg))


class Average:
    """The average's update as part of the step: parameters are averaged, buffers (BatchNorm statistics) are copied.

    left_out: buffers of G_ema that somebody else sees to.
    """

    def __init__(self, G: nn.Module, G_ema: nn.Module, beta: float, left_out: list[torch.Tensor] = ()):
        self.source = list(G.parameters())
        self.average = list(G_ema.parameters())
        known = {id(buffer) for buffer in left_out}
        buffers = [(average, source) for average, source in zip(G_ema.buffers(), G.buffers(), strict=True) if id(average) not in known]
        self.average_buffers, self.source_buffers = [average for average, _ in buffers], [source for _, source in buffers]
        self.beta = torch.tensor(beta, device=self.source[0].device)

    def hand_over(self, parameters: list[torch.Tensor]) -> list[torch.Tensor]:
        """The averages of these parameters of G, in their order, for whoever updates both in one pass; step() leaves them alone from now on."""
        index = {id(source): i for i, source in enumerate(self.source)}
        taken = [index[id(parameter)] for parameter in parameters]
        handed_over = [self.average[i] for i in taken]
        left = [i for i in range(len(self.source)) if i not in taken]
        self.source, self.average = [self.source[i] for i in left], [self.average[i] for i in left]
        return handed_over

    @torch.no_grad()
    def step(self) -> None:
        """average = beta * average + (1 - beta) * G, in place, where it was not handed over."""
        if self.average:
            follow(self.average, self.source, self.beta)
        if self.average_buffers:
            torch._foreach_copy_(self.average_buffers, self.source_buffers)
