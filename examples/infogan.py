"""InfoGAN: codes that G must show and Q must read: ten categories and two numbers.

Chen et al., 2016, "InfoGAN: Interpretable Representation Learning by Information Maximizing
Generative Adversarial Nets", arXiv 1606.03657, on the embedded Fashion-MNIST images, without labels.
"""
import torch
import torch.nn.functional as F
from torch import nn

from _common import main, save_images
from fastgan import Trainer

Z_DIM, NUM_CATEGORIES, NUM_NUMBERS = 32, 10, 2


def generator(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(Z_DIM + NUM_CATEGORIES + NUM_NUMBERS, 2 * width * 49), nn.Unflatten(1, (2 * width, 7, 7)),
        nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def trunk(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.1),
        nn.Conv2d(width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.1), nn.Flatten(),
        nn.Linear(2 * width * 49, 128), nn.LeakyReLU(0.1),
    )  # fmt: skip


def step(nets, batch, draw, update):
    num = len(batch["img"])
    category = draw.integers("category", NUM_CATEGORIES, num)
    numbers = draw.uniform("numbers", num, NUM_NUMBERS) * 2 - 1
    codes = torch.cat([F.one_hot(category, NUM_CATEGORIES).float(), numbers], 1)
    fake = nets["G"](torch.cat([draw.normal("z", num, Z_DIM), codes], 1))

    def logits(img: torch.Tensor) -> torch.Tensor:
        return nets["D"](nets["trunk"](img))

    d = F.softplus(-logits(batch["img"])).mean() + F.softplus(logits(fake.detach())).mean()
    update("D", d)
    features = nets["trunk"](fake)
    g, read = F.softplus(-nets["D"](features)).mean(), nets["Q"](features)
    information = F.cross_entropy(read[:, :NUM_CATEGORIES], category) + F.mse_loss(read[:, NUM_CATEGORIES:], numbers)
    update("G", g + information)
    return {"d_loss": d, "g_loss": g, "information": information}


def sample(nets, draw):
    """Return a category a row, and the first number from -1 to 1 along it."""
    category = torch.eye(NUM_CATEGORIES).repeat_interleave(10, 0)
    numbers = torch.zeros(100, NUM_NUMBERS)
    numbers[:, 0] = torch.linspace(-1, 1, 10).repeat(10)
    z = draw.normal("z", 1, Z_DIM).expand(100, -1)
    return nets["G"](torch.cat([z, category.to(z.device), numbers.to(z.device)], 1))


def make(width: int = 32, batch_size: int = 64, **options):
    torch.manual_seed(0)
    nets = {"G": generator(width), "trunk": trunk(width), "D": nn.Linear(128, 1),
            "Q": nn.Linear(128, NUM_CATEGORIES + NUM_NUMBERS)}  # fmt: skip
    d_adam, g_adam = ({"lr": lr, "beta1": 0.5, "beta2": 0.999} for lr in (2e-4, 1e-3))
    return Trainer.from_step(step, nets=nets, data="fashion-mnist-10k", optimizers={"D": d_adam, "G": g_adam},
                             groups={"D": ["trunk", "D"], "G": ["G", "Q"]}, sample=sample,
                             batch_size=batch_size, **options)  # fmt: skip


def show(trainer, path) -> None:
    save_images(trainer.sample(seed=0), path, columns=10)


if __name__ == "__main__":
    main(make, show, steps=3000)
