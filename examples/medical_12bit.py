"""Medical images of twelve bits, not square, normalised by a stated rule that samples undo.

Kwon et al., 2019, "Generation of 3D Brain MRI Using Auto-Encoding Generative Adversarial Networks",
arXiv 1908.02498, has such data; here a DCGAN with the hinge loss makes slices of phantoms.
"""
import torch
import torch.nn.functional as F
from torch import nn

from _common import main, save_images
from fastgan import Trainer

Z_DIM, HEIGHT, WIDTH, WHITE = 64, 64, 48, 4095


def phantoms(num: int, seed: int = 0) -> torch.Tensor:
    """Return int16 [num, 1, 64, 48], from 0 to 4095: a skull, tissue, two ventricles, noise."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, HEIGHT), torch.linspace(-1, 1, WIDTH), indexing="ij")

    def ellipse(at_x: float, at_y: float, radius_x: float, radius_y: float) -> torch.Tensor:
        jitter = 1 + 0.1 * torch.randn(4, num, 1, 1, generator=generator)
        return ((x - at_x * jitter[0]) / (radius_x * jitter[1])).square() + (
            (y - at_y * jitter[2]) / (radius_y * jitter[3])).square() < 1  # fmt: skip

    skull, tissue = ellipse(0, 0, 0.8, 0.85), ellipse(0, 0, 0.7, 0.75)
    ventricles = ellipse(-0.2, -0.1, 0.12, 0.3) | ellipse(0.2, -0.1, 0.12, 0.3)
    level = 1400 + 300 * torch.rand(num, 1, 1, generator=generator)
    img = torch.where(ventricles & tissue, 600.0, torch.where(tissue, level, torch.where(skull, 3600.0, 40.0)))
    return (img + 60 * torch.randn(num, HEIGHT, WIDTH, generator=generator)).clamp(0, WHITE).short()[:, None]


def normalised(img: torch.Tensor) -> torch.Tensor:
    """Map 0 to 4095 to [-1, 1]."""
    return img.float() * (2 / WHITE) - 1


def restored(img: torch.Tensor) -> torch.Tensor:
    """Map [-1, 1] to 0 to 4095, int16."""
    return ((img + 1) * (WHITE / 2)).round().clamp(0, WHITE).short()


def up(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(channels_in, channels_out, 4, 2, 1), nn.BatchNorm2d(channels_out), nn.ReLU()]


def generator(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(Z_DIM, 4 * width * 48), nn.Unflatten(1, (4 * width, 8, 6)), nn.BatchNorm2d(4 * width), nn.ReLU(),
        *up(4 * width, 2 * width), *up(2 * width, width), nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def discriminator(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 4, 2, 1),
        nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2), nn.Conv2d(2 * width, 4 * width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(4 * width * 48, 1),
    )  # fmt: skip


def step(nets, batch, draw, update):
    real = normalised(batch["slice"])
    fake = nets["G"](draw.normal("z", len(real), Z_DIM))
    d = F.relu(1 - nets["D"](real)).mean() + F.relu(1 + nets["D"](fake.detach())).mean()
    update("D", d)
    g = -nets["D"](fake).mean()
    update("G", g)
    return {"d_loss": d, "g_loss": g}


def make(width: int = 24, num: int = 2000, batch_size: int = 16, **options):
    torch.manual_seed(0)
    adam = {"lr": 2e-4, "beta1": 0.5, "beta2": 0.999}
    return Trainer.from_step(step, nets={"G": generator(width), "D": discriminator(width)},
                             data={"slice": phantoms(num)}, optimizers={"G": adam, "D": adam}, ema=["G"],
                             sample=lambda nets, draw: nets["G"](draw.normal("z", 8, Z_DIM)), batch_size=batch_size,
                             **options)  # fmt: skip


def show(trainer, path) -> None:
    """Save two rows: phantoms, and slices of twelve bits by G; the picture has eight bits."""
    slices = torch.cat([phantoms(8, seed=1), restored(trainer.sample(seed=0))])
    save_images(normalised(slices), path, columns=8)


if __name__ == "__main__":
    main(make, show, steps=1500)
