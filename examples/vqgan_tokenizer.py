"""VQGAN: an image tokenizer with a discriminator that starts late and is weighed by gradients.

Esser et al., 2020, "Taming Transformers for High-Resolution Image Synthesis", arXiv 2012.09841,
section 3.1; normalised codes of few channels from Yu et al., 2021, arXiv 2110.04627. The perceptual
loss of the paper needs a trained network: here it is L1 alone.
"""
import torch
import torch.nn.functional as F
from torch import nn

from _common import main, on_device, save_images, scenes
from fastgan import Trainer

D_WEIGHT, COMMITMENT = 0.8, 0.25


def conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, kernel, stride, 1), nn.GroupNorm(4, channels_out), nn.SiLU()]


def encoder(width: int, code_dim: int) -> nn.Sequential:
    return nn.Sequential(*conv(3, width), *conv(width, 2 * width, 4, 2), *conv(2 * width, 4 * width, 4, 2),
                         *conv(4 * width, 4 * width, 4, 2), nn.Conv2d(4 * width, code_dim, 1))  # fmt: skip


class Decoder(nn.Module):
    """Codes to images; the gradients at `last.weight` weigh the adversarial loss."""

    def __init__(self, width: int, code_dim: int):
        super().__init__()
        widths = (4 * width, 4 * width, 2 * width, width)
        self.first = nn.Sequential(*conv(code_dim, widths[0]))
        self.ups = nn.ModuleList(nn.Sequential(nn.Upsample(scale_factor=2), *conv(before, after))
                                 for before, after in zip(widths[:-1], widths[1:], strict=True))  # fmt: skip
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        x = self.first(codes)
        for up in self.ups:
            x = up(x)
        return self.last(x)


class Codebook(nn.Module):
    """Replaces each vector by the nearest code of the sphere; gradients pass straight through."""

    def __init__(self, num_codes: int, code_dim: int):
        super().__init__()
        self.codes = nn.Parameter(torch.randn(num_codes, code_dim))

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (codes like z, loss, perplexity of the codes). z: [N, code_dim, H, W]."""
        z, codes = F.normalize(z, dim=1), F.normalize(self.codes, dim=1)
        rows = z.permute(0, 2, 3, 1)
        tokens = (rows @ codes.T).argmax(-1)  # int64 [N, H, W]
        nearest = F.embedding(tokens, codes).permute(0, 3, 1, 2)
        loss = F.mse_loss(nearest, z.detach()) + COMMITMENT * F.mse_loss(nearest.detach(), z)
        share = F.one_hot(tokens, len(codes)).float().mean((0, 1, 2))
        return z + (nearest - z).detach(), loss, (-share * (share + 1e-10).log()).sum().exp()


def patch_gan(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 4, 2, 1),
                         nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2), nn.Conv2d(2 * width, 1, 4, 1, 1))  # fmt: skip


def make(size: int = 64, width: int = 24, num: int = 4000, batch_size: int = 16, start_kimg: float = 4.0, **options):
    def step(nets, batch, draw, update):
        img, last = batch["img"], nets["decoder"].last.weight
        codes, code_loss, perplexity = nets["codebook"](nets["encoder"](img))
        fake = nets["decoder"](codes)
        reconstruction, adversarial = F.l1_loss(fake, img), -nets["D"](fake).mean()

        # Both losses pull at the last layer equally hard, once D has started.
        (pull,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
        (push,) = torch.autograd.grad(adversarial, last, retain_graph=True)
        weight = (pull.norm() / (push.norm() + 1e-4)).clamp(max=1e4).detach()
        has_started = (draw.kimg >= start_kimg).float()
        update("AE", reconstruction + code_loss + has_started * D_WEIGHT * weight * adversarial)

        d = (F.relu(1 - nets["D"](img)).mean() + F.relu(1 + nets["D"](fake.detach())).mean()) / 2
        update("D", has_started * d)
        return {"reconstruction": reconstruction, "d_loss": d, "weight": weight, "perplexity": perplexity}

    torch.manual_seed(0)
    images = scenes(num, size)
    nets = {"encoder": encoder(width, 8), "codebook": Codebook(256, 8), "decoder": Decoder(width, 8),
            "D": patch_gan(width)}  # fmt: skip
    adam = {"lr": 1e-3, "beta1": 0.5, "beta2": 0.9}
    unseen = scenes(8, size, seed=1)

    def sample(nets, draw):
        img = on_device(unseen, nets)
        fake = nets["decoder"](nets["codebook"](nets["encoder"](img))[0]).clamp(-1, 1)
        return torch.cat([img, fake])

    return Trainer.from_step(step, nets=nets, data=images, optimizers={"AE": adam, "D": adam}, sample=sample,
                             groups={"AE": ["encoder", "codebook", "decoder"], "D": ["D"]},
                             batch_size=batch_size, **options)  # fmt: skip


def show(trainer, path) -> None:
    """Save unseen images above what comes back from 64 tokens an image."""
    save_images(trainer.sample(seed=0), path, columns=8)


if __name__ == "__main__":
    main(make, show, steps=2000)
