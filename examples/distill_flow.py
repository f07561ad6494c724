"""A flow of many steps distilled into one step by a discriminator, on points in the plane.

Flow matching: Lipman et al., 2022, arXiv 2210.02747. Distillation by a discriminator: Sauer et al.,
2023, "Adversarial Diffusion Distillation", arXiv 2311.17042. Two trainings, each a step of its own.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from _common import main, save_clouds
from fastgan import Trainer

TEACHER_STEPS, DISTANCE_WEIGHT = 16, 1.0


def spiral(num: int, seed: int = 0) -> torch.Tensor:
    """Return float32 [num, 2]: two arms of a spiral, about as wide as N(0,1)."""
    generator = torch.Generator().manual_seed(seed)
    angle = 3 * math.pi * torch.rand(num, generator=generator).sqrt()
    arm = torch.randint(2, (num,), generator=generator) * math.pi
    points = torch.stack([(angle + arm).cos(), (angle + arm).sin()], 1) * angle[:, None] / 5
    return points + 0.05 * torch.randn(num, 2, generator=generator)


def mlp(width: int, dim_in: int, dim_out: int) -> nn.Sequential:
    hidden = [layer for _ in range(2) for layer in (nn.Linear(width, width), nn.SiLU())]
    return nn.Sequential(nn.Linear(dim_in, width), nn.SiLU(), *hidden, nn.Linear(width, dim_out))


def velocity(flow: nn.Module, points: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """Return the flow's velocity, [N, 2]. time: [N, 1], 0 at the noise, 1 at the data."""
    turns = math.pi * time
    return flow(torch.cat([points, turns.cos(), turns.sin()], 1))


def integrate(flow: nn.Module, noise: torch.Tensor, num_steps: int) -> torch.Tensor:
    """Return the points at which the flow takes the noise to, by Euler steps."""
    points = noise
    for index in range(num_steps):
        points = points + velocity(flow, points, torch.full_like(points[:, :1], index / num_steps)) / num_steps
    return points


def match_flow(nets, batch, draw, update):
    points = batch["points"]
    noise, time = draw.normal("noise", *points.shape), draw.uniform("time", len(points), 1)
    flow = velocity(nets["flow"], noise + time * (points - noise), time)
    loss = F.mse_loss(flow, points - noise)
    update("flow", loss)
    return {"flow_loss": loss}


def distill(nets, batch, draw, update):
    noise = draw.normal("noise", *batch["points"].shape)
    with torch.no_grad():
        target = integrate(nets["teacher"], noise, TEACHER_STEPS)
    fake = integrate(nets["student"], noise, 1)
    d = F.softplus(-nets["D"](batch["points"])).mean() + F.softplus(nets["D"](fake.detach())).mean()
    update("D", d)
    g, distance = F.softplus(-nets["D"](fake)).mean(), F.mse_loss(fake, target)
    update("student", g + DISTANCE_WEIGHT * distance)
    return {"d_loss": d, "g_loss": g, "distance": distance}


def make(width: int = 128, num: int = 20_000, batch_size: int = 256, flow_steps: int = 4000, **options):
    torch.manual_seed(0)
    data, options = {"points": spiral(num)}, {"batch_size": batch_size, **options}
    flow = mlp(width, 4, 2)
    Trainer.from_step(match_flow, nets={"flow": flow}, data=data, optimizers={"flow": 1e-3},
                      **options).fit(steps=flow_steps)  # fmt: skip

    student = mlp(width, 4, 2)
    student.load_state_dict(flow.state_dict())
    adam = {"lr": 2e-4, "beta1": 0.5, "beta2": 0.9}

    def sample(nets, draw):
        noise = draw.normal("noise", 2000, 2)
        by_steps = (integrate(nets["teacher"], noise, steps) for steps in (TEACHER_STEPS, 1))
        return torch.stack([*by_steps, integrate(nets["student"], noise, 1)])

    nets = {"teacher": flow.requires_grad_(False), "student": student, "D": mlp(width, 2, 1)}
    return Trainer.from_step(distill, nets=nets, data=data, optimizers={"student": adam, "D": adam}, ema=["student"],
                             sample=sample, **options)  # fmt: skip


def show(trainer, path) -> None:
    """Save three clouds: the flow in 16 steps, the flow in one, the student in one."""
    clouds = trainer.sample(seed=0)
    save_clouds(dict(zip(("flow, 16 steps", "flow, 1 step", "student, 1 step"), clouds, strict=True)), path)


if __name__ == "__main__":
    main(make, show, steps=4000)
