"""WaveGAN: sound from noise by transposed convolutions in one dimension, with a gradient penalty.

Donahue et al., 2018, "Adversarial Audio Synthesis", arXiv 1802.04208, narrow, on synthesised notes
of a quarter of a second; the penalty of real sounds (R1) stands for WGAN-GP.
"""
import torch
import torch.nn.functional as F
from torch import nn

from _common import main
from _sound import notes, save_sounds
from fastgan import Trainer

Z_DIM, LENGTH, R1_GAMMA, R1_EVERY = 64, 4096, 1.0, 4
NUM_LEVELS = 4  # each four times as long as the one before, from 16


def generator(width: int) -> nn.Sequential:
    widths = [width * 2**level for level in range(NUM_LEVELS - 1, -1, -1)]
    layers = [nn.Linear(Z_DIM, 16 * widths[0]), nn.Unflatten(1, (widths[0], 16)), nn.ReLU()]
    for before, after in zip(widths, [*widths[1:], 1], strict=True):
        layers += [nn.ConvTranspose1d(before, after, 24, 4, 10), nn.ReLU() if after > 1 else nn.Tanh()]
    return nn.Sequential(*layers)


def discriminator(width: int) -> nn.Sequential:
    widths = [1, *(width * 2**level for level in range(NUM_LEVELS))]
    convs = [layer for before, after in zip(widths[:-1], widths[1:], strict=True)
             for layer in (nn.Conv1d(before, after, 24, 4, 10), nn.LeakyReLU(0.2))]  # fmt: skip
    return nn.Sequential(*convs, nn.Flatten(), nn.Linear(16 * widths[-1], 1))


def step(nets, batch, draw, update):
    real = batch["sound"]
    fake = nets["G"](draw.normal("z", len(real), Z_DIM))
    d = F.softplus(-nets["D"](real)).mean() + F.softplus(nets["D"](fake.detach())).mean()
    update("D", d)
    g = F.softplus(-nets["D"](fake)).mean()
    update("G", g)
    return {"d_loss": d, "g_loss": g}


def penalty(nets, batch, draw, update):
    sound = batch["sound"].detach().requires_grad_()
    (gradient,) = torch.autograd.grad(nets["D"](sound).sum(), sound, create_graph=True)
    r1 = gradient.square().sum((1, 2)).mean()
    update("D", R1_GAMMA / 2 * R1_EVERY * r1)
    return {"r1": r1}


def make(width: int = 16, num: int = 2000, batch_size: int = 16, **options):
    torch.manual_seed(0)
    adam = {"lr": 2e-4, "beta1": 0.5, "beta2": 0.9}
    return Trainer.from_step(
        steps={"main": step, "r1": (penalty, R1_EVERY)}, nets={"G": generator(width), "D": discriminator(width)},
        data={"sound": notes(num, LENGTH)}, optimizers={"G": adam, "D": adam}, ema=["G"], batch_size=batch_size,
        sample=lambda nets, draw: nets["G"](draw.normal("z", 8, Z_DIM)), **options,
    )  # fmt: skip


def show(trainer, path) -> None:
    save_sounds(trainer.sample(seed=0), path)


if __name__ == "__main__":
    main(make, show, steps=2000)
