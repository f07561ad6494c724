"""BEGAN: D is an autoencoder, and a share of reconstruction errors keeps the two in balance.

Berthelot et al., 2017, "BEGAN: Boundary Equilibrium Generative Adversarial Networks", arXiv
1703.10717. The balance k_t is a buffer of a module, which the step changes in place.
"""
import torch
from torch import nn

from _common import main, save_images, scenes
from fastgan import Trainer

Z_DIM, GAMMA, LAMBDA_K = 32, 0.5, 0.001


class Balance(nn.Module):
    """k_t, the weight of fake images in D's loss."""

    def __init__(self):
        super().__init__()
        self.register_buffer("k", torch.zeros(()))

    @torch.no_grad()
    def follow(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """Move k_t by the errors of a step; return the paper's measure of convergence."""
        self.k.add_(LAMBDA_K * (GAMMA * real - fake)).clamp_(0, 1)
        return real + (GAMMA * real - fake).abs()


def conv(channels_in: int, channels_out: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, 3, stride, 1), nn.ELU()]


def decoder(width: int, size: int) -> nn.Sequential:
    up = [layer for _ in range(2) for layer in (nn.Upsample(scale_factor=2), *conv(width, width), *conv(width, width))]
    return nn.Sequential(nn.Linear(Z_DIM, width * (size // 4) ** 2), nn.Unflatten(1, (width, size // 4, size // 4)),
                         *conv(width, width), *up, nn.Conv2d(width, 3, 3, 1, 1))  # fmt: skip


def autoencoder(width: int, size: int) -> nn.Sequential:
    return nn.Sequential(*conv(3, width), *conv(width, 2 * width, 2), *conv(2 * width, 3 * width, 2), nn.Flatten(),
                         nn.Linear(3 * width * (size // 4) ** 2, Z_DIM), *decoder(width, size))  # fmt: skip


def error(D: nn.Module, img: torch.Tensor) -> torch.Tensor:
    return (D(img) - img).abs().mean()


def step(nets, batch, draw, update):
    real = batch["img"]
    fake = nets["G"](draw.uniform("z", len(real), Z_DIM) * 2 - 1)
    d_real, d_fake = error(nets["D"], real), error(nets["D"], fake.detach())
    update("D", d_real - nets["balance"].k * d_fake)
    g = error(nets["D"], fake)
    update("G", g)
    convergence = nets["balance"].follow(d_real, g)
    return {"real": d_real, "fake": g, "convergence": convergence, "k": nets["balance"].k.clone()}


def make(size: int = 32, width: int = 32, num: int = 4000, batch_size: int = 16, **options):
    torch.manual_seed(0)
    nets = {"G": decoder(width, size), "D": autoencoder(width, size), "balance": Balance()}
    adam = {"lr": 2e-4, "beta1": 0.5, "beta2": 0.999}
    return Trainer.from_step(step, nets=nets, data=scenes(num, size), optimizers={"G": adam, "D": adam},
                             sample=lambda nets, draw: nets["G"](draw.uniform("z", 32, Z_DIM) * 2 - 1).clamp(-1, 1),
                             batch_size=batch_size, **options)  # fmt: skip


def show(trainer, path) -> None:
    save_images(trainer.sample(seed=0), path, columns=8)


if __name__ == "__main__":
    main(make, show, steps=2000)
