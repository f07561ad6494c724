"""ACGAN: D sees images alone, and returns a logit and the class that it reads from the image.

Odena et al., 2016, "Conditional Image Synthesis with Auxiliary Classifier GANs", arXiv 1610.09585,
by Trainer, on the embedded Fashion-MNIST images and their ten classes.
"""
import torch
from torch import nn

from _common import main, save_images
from fastgan import Trainer

Z_DIM, NUM_CLASSES = 64, 10


class Generator(nn.Module):
    """z times the embedding of its class, to an image."""

    def __init__(self, width: int):
        super().__init__()
        self.embedding = nn.Embedding(NUM_CLASSES, Z_DIM)
        self.layers = nn.Sequential(
            nn.Linear(Z_DIM, 2 * width * 49), nn.Unflatten(1, (2 * width, 7, 7)), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.layers(z * self.embedding(c))


class Discriminator(nn.Module):
    """Images to (logits, logits of classes)."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2), nn.Flatten(),
        )  # fmt: skip
        self.logit, self.classes = nn.Linear(2 * width * 49, 1), nn.Linear(2 * width * 49, NUM_CLASSES)

    def forward(self, img: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.layers(img)
        return self.logit(features), self.classes(features)


def make(width: int = 32, batch_size: int = 64, **options) -> Trainer:
    torch.manual_seed(0)
    return Trainer(Generator(width), Discriminator(width), "fashion-mnist-10k", loss="non_saturating", z_dim=Z_DIM,
                   c_dim=NUM_CLASSES, class_weight=(1.0, 1.0), batch_size=batch_size, **options)  # fmt: skip


def show(trainer: Trainer, path) -> None:
    """Save a class a column."""
    save_images(trainer.sample(60, seed=0), path, columns=NUM_CLASSES)


if __name__ == "__main__":
    main(make, show, steps=3000)
