"""Everything that training changes: the two networks, their optimisers, the moving average, and the totals of the statistics."""
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.augmentation import Augmentation
from fastgan.config import LossConfig, PenaltyConfig
from fastgan.counters import BatchCounters
from fastgan.ema import Average
from fastgan.optim import Adam, RMSprop
from fastgan.schedules import Schedules
from fastgan.totals import Totals


@dataclass(frozen=True)
class Networks:
    """What a step reads and updates in place."""

    G: nn.Module
    D: nn.Module
    G_ema: nn.Module  # what samples come from: the moving average of G, or G itself where there is none
    optimizer_G: Adam | RMSprop
    optimizer_D: Adam | RMSprop
    average: Average | None
    nimg: torch.Tensor  # int64 []: images shown so far, where something in the step goes by it
    totals: Totals  # of the steps of a tick
    img_shape: tuple[int, ...]  # of one image, as G makes it
    img_low: float = -1.0  # value of a black pixel
    one_pass: bool = False  # D compares no images, but in layers that can be told to keep real and fake apart: they may share one pass
    loss: LossConfig = field(default_factory=LossConfig)
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    counters: BatchCounters = field(default_factory=lambda: BatchCounters([]))
    schedules: Schedules = field(default_factory=Schedules)
    num_parts: int = 1  # a batch is computed in so many parts
    c_dim: int = 0  # classes; 0 = G and D know of none
    one_hot: bool = False  # G and D take classes as float32 [N, c_dim] instead of int64 [N]
    augmentation: Augmentation | None = None
    gammas: tuple[torch.Tensor, torch.Tensor] | None = None  # r1_gamma, r2_gamma as float32 [], where they change
    path_mean: torch.Tensor | None = None  # float32 []: running mean of the path lengths
    probes: dict[int, torch.Tensor] = field(default_factory=dict)  # number of images -> zeros that require grad

    @property
    def counts_images(self) -> bool:
        """Whether something in the step depends on `nimg`."""
        return len(self.schedules) > 0 or (self.loss.instance_noise > 0 and self.loss.instance_noise_kimg > 0)

    @property
    def is_conditional(self) -> bool:
        return self.c_dim > 0

    @property
    def r1_gamma(self) -> torch.Tensor | float:
        return self.gammas[0] if self.gammas else self.penalty.r1_gamma

    @property
    def r2_gamma(self) -> torch.Tensor | float:
        return self.gammas[1] if self.gammas else self.penalty.r2_gamma

    def condition(self, labels: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """What G and D are called with beside their first argument. labels: int64 [N]."""
        if not self.is_conditional:
            return ()
        return (F.one_hot(labels, self.c_dim).float(),) if self.one_hot else (labels,)

    def probe(self, num: int) -> torch.Tensor:
        """Zeros like `num` images that require grad: what penalties are differentiated by (penalties.py)."""
        return self.probes[num]

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
            "totals": {"totals": self.totals.tensor},
        }
        if self.average is not None:
            groups |= {"G_ema": dict(self.G_ema.named_parameters()), "G_ema buffers": dict(self.G_ema.named_buffers())}
        if self.augmentation is not None and self.augmentation.state():
            groups["augmentation"] = self.augmentation.state()
        if self.path_mean is not None:
            groups["path length"] = {"mean": self.path_mean}
        return groups
