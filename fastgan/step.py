"""The GAN update: D's step and G's step as plain functions of tensors.

Real images come in as uint8, parameters and optimiser state are updated in place, statistics are added to a tensor on the device.
Gradients come from torch.autograd.grad, for the parameters that are asked for and no others: D's weight gradients are never computed in G's step,
G's are never computed in D's, and where the recipe reuses its fakes G runs forward once. Nothing calls backward() or changes requires_grad, so the
whole step is one graph for the compiler and one recording for a CUDA graph.
"""
from typing import NamedTuple

import torch
from torch import nn

from fastgan import augment, losses
from fastgan.config import LossConfig
from fastgan.networks import Networks
from fastgan.precision import Precision


class StepInputs(NamedTuple):
    """What one step reads and does not change. Random numbers are inputs, so that every rung sees the same ones."""

    real_img: torch.Tensor  # uint8 [N, C, H, W], or float32 [N, features]
    z: torch.Tensor  # float32 [N, *z_shape]
    fresh_z: torch.Tensor | None = None  # float32 [N, *z_shape]: the G step's own, where fakes are not reused
    flips: torch.Tensor | None = None  # float32 [2, N, 1], 1 where D is told the wrong label: real, fake
    noise: torch.Tensor | None = None  # float32 [3, N, C, H, W], N(0,1): real, fake, fake of the G step


def gan_step(networks: Networks, precision: Precision, inputs: StepInputs) -> torch.Tensor:
    """One update of D, then one of G. Returns float32 [4], the STATISTICS of this step; their sum is kept in `networks.totals`."""
    # Fake and real images of one shape, the fakes for both steps where the recipe reuses them.
    fake_img = generate(networks.G, precision, inputs.z)
    real_img = augment.scale_images(inputs.real_img, networks.img_low).reshape(fake_img.shape)

    # D learns to tell them apart; G's graph stays for the G step.
    d_statistics = d_step(networks, precision, real_img, fake_img.detach(), inputs)

    # G learns from the D that was just updated.
    if inputs.fresh_z is not None:
        fake_img = generate(networks.G, precision, inputs.fresh_z)
    g_loss = g_step(networks, precision, fake_img, inputs)

    # The moving average follows, and the statistics stay on the device until the tick.
    if networks.average is not None:
        networks.average.step()
    statistics = torch.stack([d_statistics[0], g_loss, d_statistics[1], d_statistics[2]])
    networks.totals.add_(statistics)
    return statistics


def d_step(networks: Networks, precision: Precision, real_img: torch.Tensor, fake_img: torch.Tensor, inputs: StepInputs) -> tuple[torch.Tensor, ...]:
    """Update D in place on real_img and fake_img [N, ...] (no graph behind them). Returns (d_loss, mean real logit, mean fake logit), each []."""
    real_logits, fake_logits = _real_and_fake_logits(networks, precision, real_img, fake_img, inputs.noise)
    real_target, fake_target = _targets(networks.loss, inputs.flips)
    d_loss = losses.d_loss(real_logits, fake_logits, real_target, fake_target).mean()
    networks.optimizer_D.step(gradients_of(d_loss, networks.optimizer_D.parameters))
    return d_loss.detach(), real_logits.detach().mean(), fake_logits.detach().mean()


def g_step(networks: Networks, precision: Precision, fake_img: torch.Tensor, inputs: StepInputs) -> torch.Tensor:
    """Update G in place through fake_img [N, ...], which carries its graph. Returns g_loss []."""
    fake_logits = judge(networks.D, precision, _noised(networks, fake_img, inputs.noise, 2))
    g_loss = losses.g_loss(fake_logits, networks.loss.name).mean()
    networks.optimizer_G.step(gradients_of(g_loss, networks.optimizer_G.parameters))
    return g_loss.detach()


def generate(G: nn.Module, precision: Precision, z: torch.Tensor) -> torch.Tensor:
    """G(z) in the compute precision."""
    with precision.autocast():
        return G(z)


def judge(D: nn.Module, precision: Precision, img: torch.Tensor) -> torch.Tensor:
    """D's logits as float32 [N, L]: L is 1 for one logit an image, more for a map of them."""
    with precision.autocast():
        logits = D(img)
    return logits.float().reshape(logits.shape[0], -1)


def gradients_of(loss: torch.Tensor, parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    """d loss / d parameters, zeros for a parameter that the loss does not reach."""
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))


def _real_and_fake_logits(networks: Networks, precision: Precision, real_img, fake_img, noise) -> tuple[torch.Tensor, torch.Tensor]:
    real_img, fake_img = _noised(networks, real_img, noise, 0), _noised(networks, fake_img, noise, 1)
    if networks.one_pass:  # the same numbers from half the launches, and one weight gradient over 2N images
        both = judge(networks.D, precision, torch.cat([real_img, fake_img.to(real_img.dtype)]))
        return both.chunk(2)
    return judge(networks.D, precision, real_img), judge(networks.D, precision, fake_img)  # BatchNorm sees them separately


def _targets(loss: LossConfig, flips: torch.Tensor | None) -> tuple[torch.Tensor | float, torch.Tensor | float]:
    """D's targets for real and fake: smoothed, then swapped where a label is flipped ([N, 1])."""
    real_target, fake_target = 1.0 - loss.smooth_real, loss.smooth_fake
    if flips is None:
        return real_target, fake_target
    return real_target + (fake_target - real_target) * flips[0], fake_target + (real_target - fake_target) * flips[1]


def _noised(networks: Networks, img: torch.Tensor, noise: torch.Tensor | None, index: int) -> torch.Tensor:
    return img if noise is None else augment.instance_noise(img, noise[index], networks.noise_std)
