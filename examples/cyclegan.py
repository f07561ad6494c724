"""CycleGAN: translate between two sets of images without pairs, plain shapes and striped ones.

Zhu et al., 2017, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
arXiv 1703.10593. Four networks, two groups, two pools of earlier fakes: one graph.
"""
import torch
import torch.nn.functional as F
from torch import nn

from _common import main, on_device, save_images, scenes
from fastgan import Trainer
from fastgan.nn import ImagePool

CYCLE_WEIGHT = 10.0


def conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2), nn.InstanceNorm2d(channels_out),
            nn.ReLU()]  # fmt: skip


def up(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(channels_in, channels_out, 4, 2, 1), nn.InstanceNorm2d(channels_out), nn.ReLU()]


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(*conv(width, width), *conv(width, width)[:2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def translator(width: int, num_blocks: int) -> nn.Sequential:
    return nn.Sequential(
        *conv(3, width, 7), *conv(width, 2 * width, 3, 2), *conv(2 * width, 4 * width, 3, 2),
        *(Residual(4 * width) for _ in range(num_blocks)),
        *up(4 * width, 2 * width), *up(2 * width, width), nn.Conv2d(width, 3, 7, padding=3), nn.Tanh(),
    )  # fmt: skip


def patch_gan(width: int) -> nn.Sequential:
    """A logit for each patch of an image."""
    def down(channels_in: int, channels_out: int) -> list[nn.Module]:
        return [nn.Conv2d(channels_in, channels_out, 4, 2, 1), nn.InstanceNorm2d(channels_out), nn.LeakyReLU(0.2)]

    return nn.Sequential(nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2), *down(width, 2 * width),
                         *down(2 * width, 4 * width), nn.Conv2d(4 * width, 1, 4, 1, 1))  # fmt: skip


def least_squares(logits: torch.Tensor, target: float) -> torch.Tensor:
    return (logits - target).square().mean()


def step(nets, batch, draw, update):
    a, b = batch["A"], batch["B"]
    fake_a, fake_b = nets["BA"](b), nets["AB"](a)
    cycle = F.l1_loss(nets["BA"](fake_b), a) + F.l1_loss(nets["AB"](fake_a), b)
    g = least_squares(nets["A"](fake_a), 1) + least_squares(nets["B"](fake_b), 1)
    update("G", g + CYCLE_WEIGHT * cycle)

    d = torch.zeros((), device=a.device)
    for name, real, fake in (("A", a, fake_a), ("B", b, fake_b)):
        pool = nets[f"pool_{name}"]
        earlier = pool(fake, draw.uniform(f"pool_{name}", pool.num_uniforms(len(fake))))
        d = d + (least_squares(nets[name](real), 1) + least_squares(nets[name](earlier), 0)) / 2
    update("D", d)
    return {"d_loss": d, "g_loss": g, "cycle": cycle}


def make(size: int = 64, width: int = 16, num_blocks: int = 3, num: int = 1000, batch_size: int = 4, **options):
    torch.manual_seed(0)
    data = {"A": scenes(num, size, seed=0), "B": scenes(num, size, seed=1, is_striped=True)}
    pools = {name: ImagePool(50, (3, size, size)) for name in ("pool_A", "pool_B")}
    nets = {"AB": translator(width, num_blocks), "BA": translator(width, num_blocks),
            "A": patch_gan(width), "B": patch_gan(width), **pools}  # fmt: skip
    adam = {"lr": 2e-4, "beta1": 0.5, "beta2": 0.999}
    first_a, first_b = data["A"][:4], data["B"][:4]

    def sample(nets, draw):
        a, b = on_device(first_a, nets), on_device(first_b, nets)
        return torch.cat([a, nets["AB"](a), b, nets["BA"](b)])

    return Trainer.from_step(step, nets=nets, data=data, optimizers={"G": adam, "D": adam}, sample=sample,
                             groups={"G": ["AB", "BA"], "D": ["A", "B"]}, batch_size=batch_size, **options)  # fmt: skip


def show(trainer, path) -> None:
    """Save four rows: A, A as B, B, B as A."""
    save_images(trainer.sample(seed=0), path, columns=4)


if __name__ == "__main__":
    main(make, show, steps=1500)
