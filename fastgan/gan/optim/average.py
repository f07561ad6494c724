"""The moving average of G, part of the step."""
import copy

import torch
from torch import nn

from fastgan.ops.adam_ema import follow


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

    Parameters are averaged. Buffers (BatchNorm statistics) are copied, or with averages_buffers
    averaged, except those of whole numbers. left_out: buffers of G_ema that other code updates.
    """

    def __init__(
        self,
        G: nn.Module,
        G_ema: nn.Module,
        beta: float,
        left_out: list[torch.Tensor] = (),
        averages_buffers: bool = False,
    ):
        self.source = list(G.parameters())
        self.average = list(G_ema.parameters())
        known = {id(buffer) for buffer in left_out}
        buffers = [
            (average, source)
            for average, source in zip(G_ema.buffers(), G.buffers(), strict=True)
            if id(average) not in known
        ]
        averaged = [averages_buffers and average.is_floating_point() for average, _ in buffers]
        self.averaged_buffers = [pair for pair, is_averaged in zip(buffers, averaged, strict=True) if is_averaged]
        self.copied_buffers = [pair for pair, is_averaged in zip(buffers, averaged, strict=True) if not is_averaged]
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
        if self.averaged_buffers:
            follow(*map(list, zip(*self.averaged_buffers, strict=True)), self.beta)
        if self.copied_buffers:
            torch._foreach_copy_(*map(list, zip(*self.copied_buffers, strict=True)))
