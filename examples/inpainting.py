"""Inpainting: fill a square hole at a random place.

Pathak et al., 2016, "Context Encoders: Feature Learning by Inpainting", arXiv 1604.07379.
"""
import torch
import torch.nn.functional as F
from torch import nn

from _common import main, on_device, save_images, scenes
from fastgan import Trainer

L2_WEIGHT, D_WEIGHT = 0.99, 0.01


def holes(corners: torch.Tensor, size: int) -> torch.Tensor:
    """Return float32 [N, 1, size, size], 1 in squares of half the side. corners: int64 [N, 2]."""
    place = torch.arange(size, device=corners.device)
    inside = (place >= corners[..., None]) & (place < corners[..., None] + size // 2)  # [N, 2, size]
    return (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None].float()


def down(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, 4, 2, 1), nn.BatchNorm2d(channels_out), nn.LeakyReLU(0.2)]


def up(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(channels_in, channels_out, 4, 2, 1), nn.BatchNorm2d(channels_out), nn.ReLU()]


def filler(width: int) -> nn.Sequential:
    """The image with a hole, and the hole, to a whole image."""
    return nn.Sequential(
        *down(4, width), *down(width, 2 * width), *down(2 * width, 4 * width), *down(4 * width, 8 * width),
        *up(8 * width, 4 * width), *up(4 * width, 2 * width), *up(2 * width, width),
        nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def discriminator(width: int) -> nn.Sequential:
    return nn.Sequential(*down(3, width), *down(width, 2 * width), *down(2 * width, 4 * width), nn.Flatten(),
                         nn.LazyLinear(1))  # fmt: skip


def fill(G: nn.Module, img: torch.Tensor, hole: torch.Tensor) -> torch.Tensor:
    """Return the image with G's pixels in the hole, and its own elsewhere."""
    return img * (1 - hole) + G(torch.cat([img * (1 - hole), hole], 1)) * hole


def step(nets, batch, draw, update):
    img, size = batch["img"], batch["img"].shape[-1]
    hole = holes(draw.integers("corners", size // 2 + 1, len(img), 2), size)
    fake = fill(nets["G"], img, hole)
    d = F.softplus(-nets["D"](img)).mean() + F.softplus(nets["D"](fake.detach())).mean()
    update("D", d)
    g, l2 = F.softplus(-nets["D"](fake)).mean(), (fake - img).square().sum() / (3 * hole.sum())
    update("G", L2_WEIGHT * l2 + D_WEIGHT * g)
    return {"d_loss": d, "g_loss": g, "l2": l2}


def make(size: int = 64, width: int = 32, num: int = 2000, batch_size: int = 16, **options):
    torch.manual_seed(0)
    D = discriminator(width)
    D(torch.zeros(2, 3, size, size))  # the lazy layer takes its size
    adam = {"lr": 5e-4, "beta1": 0.5, "beta2": 0.999}
    unseen = scenes(8, size, seed=1)

    def sample(nets, draw):
        img = on_device(unseen, nets)
        hole = holes(draw.integers("corners", size // 2 + 1, len(img), 2), size)
        return torch.cat([img * (1 - hole), fill(nets["G"], img, hole), img])

    return Trainer.from_step(step, nets={"G": filler(width), "D": D}, data=scenes(num, size), sample=sample,
                             optimizers={"G": adam, "D": adam}, batch_size=batch_size, **options)  # fmt: skip


def show(trainer, path) -> None:
    """Save three rows: images that were not trained on with holes, filled by G, and whole."""
    save_images(trainer.sample(seed=0), path, columns=8)


if __name__ == "__main__":
    main(make, show, steps=1500)
