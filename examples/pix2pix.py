"""pix2pix: images from their edges, with a U-Net and a discriminator that sees both.

Isola et al., 2016, "Image-to-Image Translation with Conditional Adversarial Networks", arXiv
1611.07004.
"""
import torch
import torch.nn.functional as F
from torch import nn

from _common import main, on_device, save_images, scenes
from fastgan import Trainer

L1_WEIGHT = 100.0


def edges_of(img: torch.Tensor) -> torch.Tensor:
    """Return [N, 1, H, W] in [-1, 1]: how much a pixel differs from its neighbours. img: [-1, 1]."""
    grey = F.pad(img.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across, along = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2], grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    return (3 * (across.abs() + along.abs())).clamp(max=2) - 1


class UNet(nn.Module):
    """Halves the image `depth` times and doubles it again, beside what it saw on the way."""

    def __init__(self, width: int, depth: int):
        super().__init__()
        downs = [1, *(width * 2 ** min(level, 3) for level in range(depth))]
        self.downs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 4, 2, 1), nn.BatchNorm2d(o), nn.LeakyReLU(0.2))
            for i, o in zip(downs[:-1], downs[1:], strict=True))  # fmt: skip
        self.ups = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(2 * i if level else i, o, 4, 2, 1), nn.BatchNorm2d(o),
                          nn.Dropout(0.5 if level == 0 else 0.0), nn.ReLU())
            for level, (i, o) in enumerate(zip(downs[:1:-1], downs[-2:0:-1], strict=True)))  # fmt: skip
        self.last = nn.ConvTranspose2d(2 * width, 3, 4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = []
        for down in self.downs:
            seen.append(x := down(x))
        for up, beside in zip(self.ups, seen[-2::-1], strict=True):
            x = torch.cat([up(x), beside], 1)
        return self.last(x).tanh()


def patch_gan(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(4, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 4, 2, 1),
        nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2), nn.Conv2d(2 * width, 1, 4, 1, 1),
    )  # fmt: skip


def step(nets, batch, draw, update):
    img = batch["img"]
    edges = edges_of(img)
    fake = nets["G"](edges)
    real_logits, fake_logits = nets["D"](torch.cat([edges, img], 1)), nets["D"](torch.cat([edges, fake.detach()], 1))
    d = (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()) / 2
    update("D", d)
    g, l1 = F.softplus(-nets["D"](torch.cat([edges, fake], 1))).mean(), F.l1_loss(fake, img)
    update("G", g + L1_WEIGHT * l1)
    return {"d_loss": d, "g_loss": g, "l1": l1}


def make(size: int = 64, width: int = 24, depth: int = 5, num: int = 2000, batch_size: int = 8, **options):
    torch.manual_seed(0)
    adam = {"lr": 2e-4, "beta1": 0.5, "beta2": 0.999}
    unseen = scenes(8, size, seed=1)

    def sample(nets, draw):
        img = on_device(unseen, nets)
        edges = edges_of(img)
        return torch.cat([edges.expand_as(img), nets["G"](edges), img])

    return Trainer.from_step(step, nets={"G": UNet(width, depth), "D": patch_gan(width)}, data=scenes(num, size),
                             optimizers={"G": adam, "D": adam}, sample=sample, batch_size=batch_size,
                             **options)  # fmt: skip


def show(trainer, path) -> None:
    """Save three rows: edges of unseen images, what G makes of them, the images."""
    save_images(trainer.sample(seed=0), path, columns=8)


if __name__ == "__main__":
    main(make, show, steps=1500)
