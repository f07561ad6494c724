"""A table of numbers and categories, judged in packs of rows.

Lin et al., 2017, "PacGAN: The power of two samples in generative adversarial networks", arXiv
1712.04086; categories by the Gumbel softmax, as in CTGAN (Xu et al., 2019, arXiv 1907.00503).
"""
import torch
import torch.nn.functional as F
from torch import nn

from _common import main, save_clouds
from fastgan import Trainer

Z_DIM, PACK, NUM_KINDS = 32, 8, 3
CENTRES = torch.tensor([[-1.0, -0.5], [1.0, -0.5], [0.0, 1.0]])


def rows(num: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a table: numbers float32 [num, 2], around the centre of the row's kind, int64 [num]."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(NUM_KINDS, (num,), generator=generator)
    spread = torch.tensor([0.1, 0.2, 0.3])[kind, None]
    return {"numbers": CENTRES[kind] + spread * torch.randn(num, 2, generator=generator), "kind": kind}


class TableGenerator(nn.Module):
    """z and uniform numbers to rows: two numbers and a soft one-hot kind."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(Z_DIM, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width),
                                    nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 2 + NUM_KINDS))  # fmt: skip

    def forward(self, z: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        out = self.layers(z)
        gumbel = -(-uniform.clamp(1e-6, 1 - 1e-6).log()).log()
        return torch.cat([out[:, :2], ((out[:, 2:] + gumbel) / 0.2).softmax(1)], 1)


class PackDiscriminator(nn.Module):
    """A logit for PACK rows side by side."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(PACK * (2 + NUM_KINDS), width), nn.LeakyReLU(0.2), nn.Dropout(0.1),
                                    nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))  # fmt: skip

    def forward(self, table: torch.Tensor) -> torch.Tensor:
        return self.layers(table.reshape(len(table) // PACK, -1))


def generate(nets, draw, num: int) -> torch.Tensor:
    return nets["G"](draw.normal("z", num, Z_DIM), draw.uniform("gumbel", num, NUM_KINDS))


def step(nets, batch, draw, update):
    real = torch.cat([batch["numbers"], F.one_hot(batch["kind"], NUM_KINDS).float()], 1)
    fake = generate(nets, draw, len(real))
    d = F.softplus(-nets["D"](real)).mean() + F.softplus(nets["D"](fake.detach())).mean()
    update("D", d)
    g = F.softplus(-nets["D"](fake)).mean()
    update("G", g)
    return {"d_loss": d, "g_loss": g}


def make(width: int = 128, num: int = 10_000, batch_size: int = 256, **options):
    torch.manual_seed(0)
    adam = {"lr": 5e-4, "beta1": 0.5, "beta2": 0.9}
    return Trainer.from_step(step, nets={"G": TableGenerator(width), "D": PackDiscriminator(width)}, data=rows(num),
                             optimizers={"G": adam, "D": adam}, ema=["G"], batch_size=batch_size,
                             sample=lambda nets, draw: generate(nets, draw, 1000), **options)  # fmt: skip


def show(trainer, path) -> None:
    """Save the numbers of all real rows, of all generated rows, and of generated rows by kind."""
    table = trainer.sample(seed=0)
    kinds = table[:, 2:].argmax(1)
    by_kind = {f"G, kind {kind}": table[kinds == kind, :2] for kind in range(NUM_KINDS)}
    save_clouds({"data": rows(1000, seed=1)["numbers"], "G": table[:, :2]} | by_kind, path)


if __name__ == "__main__":
    main(make, show, steps=3000)
