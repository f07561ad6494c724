"""WGAN-GP as steps of one's own: five updates of D, penalty by autograd.grad, for one of G.

Gulrajani et al., 2017, "Improved Training of Wasserstein GANs", arXiv 1704.00028, on the embedded
Fashion-MNIST images.
"""
import torch
from torch import nn

from _common import main, save_images
from fastgan import Trainer

Z_DIM, GP_WEIGHT, N_CRITIC = 64, 10.0, 5


def generator(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(Z_DIM, 2 * width * 49), nn.Unflatten(1, (2 * width, 7, 7)), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def critic(width: int) -> nn.Sequential:
    """No BatchNorm: the penalty is of each image by itself."""
    return nn.Sequential(nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 4, 2, 1),
                         nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(2 * width * 49, 1))  # fmt: skip


def gradient_penalty(D: nn.Module, real: torch.Tensor, fake: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Return the penalty between real and fake images. uniform: U(0,1), float32 [N, 1, 1, 1]."""
    between = (real + uniform * (fake - real)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(D(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def update_critic(nets, batch, draw, update):
    real = batch["img"]
    fake = nets["G"](draw.normal("z", len(real), Z_DIM)).detach()
    distance = nets["D"](real).mean() - nets["D"](fake).mean()
    penalty = gradient_penalty(nets["D"], real, fake, draw.uniform("between", len(real), 1, 1, 1))
    update("D", GP_WEIGHT * penalty - distance)
    return {"distance": distance, "penalty": penalty}


def update_generator(nets, batch, draw, update):
    g = -nets["D"](nets["G"](draw.normal("z", len(batch["img"]), Z_DIM))).mean()
    update("G", g)
    return {"g_loss": g}


def make(width: int = 32, batch_size: int = 64, **options):
    torch.manual_seed(0)
    adam = {"lr": 1e-4, "beta1": 0.5, "beta2": 0.9}
    return Trainer.from_step(
        nets={"G": generator(width), "D": critic(width)}, data="fashion-mnist-10k", optimizers={"G": adam, "D": adam},
        steps={"critic": update_critic, "generator": (update_generator, N_CRITIC)},
        sample=lambda nets, draw: nets["G"](draw.normal("z", 32, Z_DIM)), batch_size=batch_size, **options,
    )  # fmt: skip


def show(trainer, path) -> None:
    save_images(trainer.sample(seed=0), path, columns=8)


if __name__ == "__main__":
    main(make, show, steps=5000)
