"""Discriminators of two scales, whose features G matches.

Wang et al., 2017, "High-Resolution Image Synthesis and Semantic Manipulation with Conditional
GANs", arXiv 1711.11585, section 3.2, here from noise and without classes.
"""
import torch
import torch.nn.functional as F
from torch import nn

from _common import main, save_images, scenes
from fastgan import Trainer

Z_DIM, MATCHING = 64, 1.0


def up(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(channels_in, channels_out, 4, 2, 1), nn.BatchNorm2d(channels_out), nn.ReLU()]


def generator(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(Z_DIM, 8 * width * 16), nn.Unflatten(1, (8 * width, 4, 4)), nn.BatchNorm2d(8 * width), nn.ReLU(),
        *up(8 * width, 4 * width), *up(4 * width, 2 * width), *up(2 * width, width),
        nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def patch_gan(width: int) -> nn.ModuleList:
    widths = (3, width, 2 * width, 4 * width)
    hidden = [nn.Sequential(nn.Conv2d(i, o, 4, 2, 1), nn.LeakyReLU(0.2))
              for i, o in zip(widths[:-1], widths[1:], strict=True)]  # fmt: skip
    return nn.ModuleList([*hidden, nn.Conv2d(4 * width, 1, 3, 1, 1)])


class TwoScales(nn.Module):
    """A list of (feature maps, logits): of the image, and of the image of half the size."""

    def __init__(self, width: int):
        super().__init__()
        self.scales = nn.ModuleList(patch_gan(width) for _ in range(2))

    def forward(self, img: torch.Tensor) -> list[tuple[list[torch.Tensor], torch.Tensor]]:
        return [self.judge(layers, x) for layers, x in zip(self.scales, (img, F.avg_pool2d(img, 2)), strict=True)]

    @staticmethod
    def judge(layers: nn.ModuleList, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        maps = []
        for layer in layers[:-1]:
            maps.append(x := layer(x))
        return maps, layers[-1](x)


def step(nets, batch, draw, update):
    img = batch["img"]
    fake = nets["G"](draw.normal("z", len(img), Z_DIM))
    d = sum(F.relu(1 - real).mean() + F.relu(1 + fake).mean()
            for (_, real), (_, fake) in zip(nets["D"](img), nets["D"](fake.detach()), strict=True))  # fmt: skip
    update("D", d)
    of_real, of_fake = nets["D"](img), nets["D"](fake)
    g = -sum(logits.mean() for _, logits in of_fake)
    matching = sum(F.l1_loss(ours.mean(0), theirs.mean(0).detach())
                   for (fakes, _), (reals, _) in zip(of_fake, of_real, strict=True)
                   for ours, theirs in zip(fakes, reals, strict=True))  # fmt: skip
    update("G", g + MATCHING * matching)
    return {"d_loss": d, "g_loss": g, "matching": matching}


def make(width: int = 24, num: int = 4000, batch_size: int = 16, **options):
    torch.manual_seed(0)
    adam = {"lr": 2e-4, "beta1": 0.5, "beta2": 0.999}
    return Trainer.from_step(step, nets={"G": generator(width), "D": TwoScales(width)}, data=scenes(num, 64),
                             optimizers={"G": adam, "D": adam}, ema=["G"], batch_size=batch_size,
                             sample=lambda nets, draw: nets["G"](draw.normal("z", 16, Z_DIM)), **options)  # fmt: skip


def show(trainer, path) -> None:
    save_images(trainer.sample(seed=0), path, columns=8)


if __name__ == "__main__":
    main(make, show, steps=2000)
