"""3D-GAN: volumes of voxels by convolutions in three dimensions.

Wu et al., 2016, "Learning a Probabilistic Latent Space of Object Shapes via 3D Generative-
Adversarial Modeling", arXiv 1610.07584, at 16x16x16, on ellipsoids and boxes.
"""
import torch
import torch.nn.functional as F
from torch import nn

from _common import main, save_images
from fastgan import Trainer

Z_DIM, SIZE = 32, 16


def solids(num: int, seed: int = 0) -> torch.Tensor:
    """Return float32 [num, 1, 16, 16, 16], 1 inside of an ellipsoid or a box, -1 outside."""
    generator = torch.Generator().manual_seed(seed)
    place = (torch.arange(SIZE) + 0.5) / SIZE - 0.5
    grid = torch.stack(torch.meshgrid(place, place, place, indexing="ij"))  # [3, 16, 16, 16]
    radius = 0.15 + 0.25 * torch.rand(num, 3, 1, 1, 1, generator=generator)
    scaled = (grid + (torch.rand(num, 3, 1, 1, 1, generator=generator) - 0.5) * 0.2) / radius
    is_round = torch.rand(num, 1, 1, 1, generator=generator) < 0.5
    inside = torch.where(is_round, scaled.square().sum(1), scaled.abs().amax(1)) < 1
    return inside[:, None].float() * 2 - 1


def generator(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(Z_DIM, 4 * width * 8), nn.Unflatten(1, (4 * width, 2, 2, 2)), nn.BatchNorm3d(4 * width), nn.ReLU(),
        nn.ConvTranspose3d(4 * width, 2 * width, 4, 2, 1), nn.BatchNorm3d(2 * width), nn.ReLU(),
        nn.ConvTranspose3d(2 * width, width, 4, 2, 1), nn.BatchNorm3d(width), nn.ReLU(),
        nn.ConvTranspose3d(width, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def discriminator(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(1, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv3d(width, 2 * width, 4, 2, 1),
        nn.BatchNorm3d(2 * width), nn.LeakyReLU(0.2), nn.Conv3d(2 * width, 4 * width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(4 * width * 8, 1),
    )  # fmt: skip


def step(nets, batch, draw, update):
    real = batch["volume"]
    fake = nets["G"](draw.normal("z", len(real), Z_DIM))
    d = F.softplus(-nets["D"](real)).mean() + F.softplus(nets["D"](fake.detach())).mean()
    update("D", d)
    g = F.softplus(-nets["D"](fake)).mean()
    update("G", g)
    return {"d_loss": d, "g_loss": g}


def make(width: int = 16, num: int = 2000, batch_size: int = 16, **options):
    torch.manual_seed(0)
    g_adam, d_adam = ({"lr": lr, "beta1": 0.5, "beta2": 0.999} for lr in (1e-3, 2e-4))
    return Trainer.from_step(step, nets={"G": generator(width), "D": discriminator(width)},
                             data={"volume": solids(num)}, optimizers={"G": g_adam, "D": d_adam}, ema=["G"],
                             sample=lambda nets, draw: nets["G"](draw.normal("z", 8, Z_DIM)), batch_size=batch_size,
                             **options)  # fmt: skip


def show(trainer, path) -> None:
    """Save three rows: the mean along each of the axes."""
    volumes = trainer.sample(seed=0)
    save_images(torch.cat([volumes.mean(axis) for axis in (2, 3, 4)]), path, columns=8)


if __name__ == "__main__":
    main(make, show, steps=1500)
