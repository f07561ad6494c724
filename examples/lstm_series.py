"""Series of numbers from an LSTM, judged by a bidirectional LSTM.

Esteban et al., 2017, "Real-valued (Medical) Time Series Generation with Recurrent Conditional
GANs", arXiv 1706.02633: one z at every time; here two channels of damped waves.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from _common import main, save_curves
from fastgan import Trainer

Z_DIM = 8


def waves(num: int, length: int, seed: int = 0) -> torch.Tensor:
    """Return float32 [num, length, 2]: damped sine and cosine of a random pitch and phase."""
    generator = torch.Generator().manual_seed(seed)
    pitch, phase, damping = torch.rand(3, num, 1, generator=generator)
    time = torch.arange(length) / length
    angle = 2 * math.pi * ((1.5 + 1.5 * pitch) * time + phase)
    return torch.stack([angle.sin(), angle.cos()], 2) * torch.exp(-2 * damping * time)[..., None]


class Generator(nn.Module):
    """z [N, length, Z_DIM] to series [N, length, 2]."""

    def __init__(self, width: int):
        super().__init__()
        self.lstm, self.last = nn.LSTM(Z_DIM, width, batch_first=True), nn.Linear(width, 2)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.last(self.lstm(z)[0]).tanh()


class Discriminator(nn.Module):
    """A logit at every time, [N, length, 1], that knows the past and the future."""

    def __init__(self, width: int):
        super().__init__()
        self.lstm = nn.LSTM(2, width, batch_first=True, bidirectional=True)
        self.last = nn.Linear(2 * width, 1)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return self.last(self.lstm(series)[0])


def generate(nets, draw, num: int, length: int) -> torch.Tensor:
    """Return series; half of z's channels are the same at all times."""
    whole, each = draw.normal("whole", num, 1, Z_DIM // 2), draw.normal("each", num, length, Z_DIM // 2)
    return nets["G"](torch.cat([whole.expand(-1, length, -1), each], 2))


def step(nets, batch, draw, update):
    real = batch["series"]
    fake = generate(nets, draw, *real.shape[:2])
    d = F.softplus(-nets["D"](real)).mean() + F.softplus(nets["D"](fake.detach())).mean()
    update("D", d)
    g = F.softplus(-nets["D"](fake)).mean()
    update("G", g)
    return {"d_loss": d, "g_loss": g}


def make(length: int = 24, width: int = 64, num: int = 4000, batch_size: int = 64, **options):
    torch.manual_seed(0)
    adam = {"lr": 1e-3, "beta1": 0.5, "beta2": 0.9}
    return Trainer.from_step(step, nets={"G": Generator(width), "D": Discriminator(width)},
                             data={"series": waves(num, length)}, optimizers={"G": adam, "D": adam}, ema=["G"],
                             sample=lambda nets, draw: generate(nets, draw, 6, length), batch_size=batch_size,
                             **options)  # fmt: skip


def show(trainer, path) -> None:
    series = trainer.sample(seed=0)
    save_curves({"data": waves(*series.shape[:2], seed=1), "G": series}, path)


if __name__ == "__main__":
    main(make, show, steps=3000)
