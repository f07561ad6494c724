"""SRGAN: images four times as large, with residual blocks and pixel shuffling.

Ledig et al., 2016, "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
Network", arXiv 1609.04802; the content loss is L1 on pixels, the features of VGG are left out.
"""
import torch
import torch.nn.functional as F
from torch import nn

from _common import main, on_device, save_images, scenes
from fastgan import Trainer

FACTOR, D_WEIGHT = 4, 5e-3


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width), nn.PReLU(),
                                    nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width))  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def generator(width: int, num_blocks: int) -> nn.Sequential:
    up = [layer for _ in range(2) for layer in (nn.Conv2d(width, 4 * width, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU())]
    return nn.Sequential(nn.Conv2d(3, width, 9, 1, 4), nn.PReLU(), *(Residual(width) for _ in range(num_blocks)), *up,
                         nn.Conv2d(width, 3, 9, 1, 4))  # fmt: skip


def discriminator(width: int) -> nn.Sequential:
    layers = [nn.Conv2d(3, width, 3, 1, 1), nn.LeakyReLU(0.2)]
    for level in range(3):
        channels = width * 2**level
        layers += [nn.Conv2d(channels, 2 * channels, 4, 2, 1), nn.BatchNorm2d(2 * channels), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 1))


def step(nets, batch, draw, update):
    img = batch["img"]
    fake = nets["G"](F.avg_pool2d(img, FACTOR))
    d = F.softplus(-nets["D"](img)).mean() + F.softplus(nets["D"](fake.detach())).mean()
    update("D", d)
    g, content = F.softplus(-nets["D"](fake)).mean(), F.l1_loss(fake, img)
    update("G", content + D_WEIGHT * g)
    return {"d_loss": d, "g_loss": g, "content": content}


def make(size: int = 64, width: int = 32, num_blocks: int = 4, num: int = 2000, batch_size: int = 8, **options):
    torch.manual_seed(0)
    adam = {"lr": 2e-4, "beta1": 0.9, "beta2": 0.999}
    unseen = scenes(8, size, seed=1)

    def sample(nets, draw):
        img = on_device(unseen, nets)
        low = F.avg_pool2d(img, FACTOR)
        return torch.cat([F.interpolate(low, scale_factor=FACTOR), nets["G"](low).clamp(-1, 1), img])

    nets = {"G": generator(width, num_blocks), "D": discriminator(width // 2)}
    return Trainer.from_step(step, nets=nets, data=scenes(num, size), optimizers={"G": adam, "D": adam},
                             sample=sample, batch_size=batch_size, **options)  # fmt: skip


def show(trainer, path) -> None:
    """Save three rows: unseen images made small, what G makes of them, the images."""
    save_images(trainer.sample(seed=0), path, columns=8)


if __name__ == "__main__":
    main(make, show, steps=1000)
