"""EBGAN: D is an autoencoder whose error is an energy; a term pulls the codes of fakes apart.

Zhao et al., 2016, "Energy-based Generative Adversarial Network", arXiv 1609.03126, with the
pulling-away term (section 2.4), on the embedded Fashion-MNIST images.
"""
import torch
import torch.nn.functional as F
from torch import nn

from _common import main, save_images
from fastgan import Trainer

Z_DIM, MARGIN, PULL_AWAY = 64, 0.2, 0.1


def generator(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(Z_DIM, 2 * width * 49), nn.Unflatten(1, (2 * width, 7, 7)), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


class Energy(nn.Module):
    """The error of an autoencoder, and its codes."""

    def __init__(self, width: int):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2),
                                     nn.Conv2d(width, 2 * width, 4, 2, 1), nn.Flatten())  # fmt: skip
        self.decoder = nn.Sequential(
            nn.LeakyReLU(0.2), nn.Unflatten(1, (2 * width, 7, 7)), nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.LeakyReLU(0.2), nn.ConvTranspose2d(width, 1, 4, 2, 1),
        )  # fmt: skip

    def forward(self, img: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        codes = self.encoder(img)
        return F.mse_loss(self.decoder(codes), img), codes


def pulling_away(codes: torch.Tensor) -> torch.Tensor:
    """Return the mean squared cosine between codes of different images."""
    cosines = F.normalize(codes) @ F.normalize(codes).T
    return (cosines.square().sum() - len(codes)) / (len(codes) * (len(codes) - 1))


def step(nets, batch, draw, update):
    fake = nets["G"](draw.normal("z", len(batch["img"]), Z_DIM))
    d_real, d_fake = nets["D"](batch["img"])[0], nets["D"](fake.detach())[0]
    update("D", d_real + F.relu(MARGIN - d_fake))
    g, codes = nets["D"](fake)
    update("G", g + PULL_AWAY * pulling_away(codes))
    return {"real": d_real, "fake": g}


def make(width: int = 32, batch_size: int = 64, **options):
    torch.manual_seed(0)
    adam = {"lr": 5e-4, "beta1": 0.5, "beta2": 0.999}
    return Trainer.from_step(step, nets={"G": generator(width), "D": Energy(width)}, data="fashion-mnist-10k",
                             optimizers={"G": adam, "D": adam}, batch_size=batch_size,
                             sample=lambda nets, draw: nets["G"](draw.normal("z", 32, Z_DIM)), **options)  # fmt: skip


def show(trainer, path) -> None:
    save_images(trainer.sample(seed=0), path, columns=8)


if __name__ == "__main__":
    main(make, show, steps=3000)
