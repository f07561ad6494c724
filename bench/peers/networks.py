"""G and D as tutorials write them: nn.Sequential throughout.

D ends in nn.Sigmoid (`D[:-1]` gives logits). No import of fastgan's models.
"""
import torch
from torch import nn

from fastgan.config import ModelConfig

SET_SIZE = 100  # samples that the D of the 1-D GAN sees together


def build(model: ModelConfig) -> tuple[nn.Sequential, nn.Sequential]:
    """Return (G, D) for a preset whose resolution and channels are known.

    D gives one probability [N] an image, or [N / 100] for sets of samples.
    """
    return BUILDERS[model.architecture](model)


def draw_z(model: ModelConfig, num: int, device: torch.device) -> torch.Tensor:
    """Draw float32 [num, z_dim], for dcgan [num, z_dim, 1, 1], from torch's global generator."""
    shape = (num, model.z_dim, 1, 1) if model.architecture == "dcgan" else (num, model.z_dim)
    if model.z_distribution == "normal":
        return torch.randn(shape, device=device)
    z = torch.rand(shape, device=device)
    return z * 2 - 1 if model.z_distribution == "uniform" else z


def _mlp(model: ModelConfig) -> tuple[nn.Sequential, nn.Sequential]:
    num_pixels = model.img_channels * model.img_resolution**2
    output = nn.Tanh() if model.img_low < 0 else nn.Sigmoid()
    G = nn.Sequential(*_linears((model.z_dim, *model.G_hidden, num_pixels), model.G_activation), output)
    D = nn.Sequential(
        nn.Flatten(), *_linears((num_pixels, *model.D_hidden, 1), model.D_activation), nn.Flatten(0), nn.Sigmoid()
    )
    return G, D


def _samples(model: ModelConfig) -> tuple[nn.Sequential, nn.Sequential]:
    G = nn.Sequential(*_linears((model.z_dim, *model.G_hidden, 1), model.G_activation))
    D = nn.Sequential(
        SetsAndDeviations(),
        *_linears((2 * SET_SIZE, *model.D_hidden, 1), model.D_activation),
        nn.Flatten(0),
        nn.Sigmoid(),
    )
    return G, D


class SetsAndDeviations(nn.Module):
    """Samples [N, 1] -> [N / 100, 200].

    Every set of 100, and its squared deviations from its mean.
    """

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        sets = samples.view(-1, SET_SIZE)
        return torch.cat([sets, torch.pow(sets - sets.mean(1, keepdim=True), 2)], 1)


def _linears(widths: tuple[int, ...], activation: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [
            nn.Linear(fan_in, fan_out),
            {"relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.2), "elu": nn.ELU()}[activation],
        ]
    return layers[:-1]


def _dcgan(model: ModelConfig) -> tuple[nn.Sequential, nn.Sequential]:
    resolution = model.img_resolution
    width = model.ngf * resolution // 8  # of the 4x4 layer
    up = [nn.ConvTranspose2d(model.z_dim, width, 4, 1, 0, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
    while width > model.ngf:
        up += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU(True)]
        width //= 2
    up += [nn.ConvTranspose2d(model.ngf, model.img_channels, 4, 2, 1, bias=False), nn.Tanh()]

    down = [nn.Conv2d(model.img_channels, model.ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    width = model.ndf
    while width < model.ndf * resolution // 8:
        down += [
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        width *= 2
    down += [nn.Conv2d(width, 1, 4, 1, 0, bias=False), nn.Flatten(0), nn.Sigmoid()]
    return nn.Sequential(*up).apply(_dcgan_init), nn.Sequential(*down).apply(_dcgan_init)


def _dcgan_init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


BUILDERS = {"mlp": _mlp, "samples": _samples, "dcgan": _dcgan}  # by architecture
