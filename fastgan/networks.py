"""Everything that training changes: the two networks, their optimisers, the moving average, and the totals of the statistics."""
from dataclasses import dataclass, field

import torch
from torch import nn

from fastgan.config import Config, LossConfig, OptimConfig
from fastgan.counters import BatchCounters
from fastgan.ema import Average, beta_for, make_average
from fastgan.optim import Adam, RMSprop, make_optimizer

STATISTICS = ("d_loss", "g_loss", "real_logits", "fake_logits")


@dataclass(frozen=True)
class Networks:
    """What a step reads and updates in place."""

    G: nn.Module
    D: nn.Module
    G_ema: nn.Module  # what samples come from: the moving average of G, or G itself where there is none
    optimizer_G: Adam | RMSprop
    optimizer_D: Adam | RMSprop
    average: Average | None
    nimg: torch.Tensor  # int64 []: images shown so far, where a schedule in the step goes by it
    totals: torch.Tensor  # float32 [len(STATISTICS)]: sums over the steps of a tick
    img_low: float = -1.0  # value of a black pixel
    one_pass: bool = False  # D treats every image by itself: real and fake may share one pass
    loss: LossConfig = field(default_factory=LossConfig)
    counters: BatchCounters = field(default_factory=lambda: BatchCounters([]))

    @property
    def has_schedule(self) -> bool:
        """Whether something in the step depends on `nimg`."""
        return self.loss.instance_noise > 0 and self.loss.instance_noise_kimg > 0

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """Every tensor that a step changes: group -> name -> tensor. Groups of parameters are named G, D, G_ema."""
        groups = {
            "G": dict(self.G.named_parameters()),
            "D": dict(self.D.named_parameters()),
            "G buffers": dict(self.G.named_buffers()),
            "D buffers": dict(self.D.named_buffers()),
            "optimizer_G": self.optimizer_G.state(),
            "optimizer_D": self.optimizer_D.state(),
            "clock": {"nimg": self.nimg},
            "totals": {"totals": self.totals},
        }
        if self.average is not None:
            groups |= {"G_ema": dict(self.G_ema.named_parameters()), "G_ema buffers": dict(self.G_ema.named_buffers())}
        return groups


def make_networks(G: nn.Module, D: nn.Module, config: Config, one_pass: bool, device: torch.device) -> Networks:
    """Networks on `device`: convolution weights in channels_last, optimisers and moving average as configured. G and D are moved in place."""
    optim, batch_size = config.optim, config.run.batch_size
    for network in (G, D):
        network.to(device=device, memory_format=torch.channels_last).train()
    G_ema = G if optim.ema_kimg is None else make_average(G)
    counters = BatchCounters([G, D], copies=[] if G_ema is G else [(G, G_ema)])
    average = None if optim.ema_kimg is None else Average(G, G_ema, beta_for(batch_size, optim.ema_kimg), left_out=counters.copies())
    return Networks(
        G,
        D,
        G_ema,
        optimizer_G=_optimizer_for(G, optim, optim.lr_G, average),
        optimizer_D=_optimizer_for(D, optim, optim.lr_D),
        average=average,
        nimg=torch.zeros((), dtype=torch.int64, device=device),
        totals=torch.zeros(len(STATISTICS), device=device),
        img_low=config.model.img_low,
        one_pass=one_pass,
        loss=config.loss,
        counters=counters,
    )


def _optimizer_for(network: nn.Module, optim: OptimConfig, lr: float, average: Average | None = None) -> Adam | RMSprop:
    """The configured optimiser of what is trained. Adam takes the moving average along, in the same pass over memory."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(optim.name, trained, lr, optim.beta1, optim.beta2, optim.eps)
    if average is not None and isinstance(optimizer, Adam):
        optimizer.take_average(average.hand_over(trained), average.beta)
    return optimizer
