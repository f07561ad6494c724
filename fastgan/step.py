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
from fastgan.layers import Head
from fastgan.networks import Networks
from fastgan.precision import Precision


class StepInputs(NamedTuple):
    """What one step reads and does not change. Random numbers are inputs, so that every rung sees the same ones."""

    real_img: torch.Tensor | None  # uint8 [N, C, H, W], or float32 [N, features]; None where the step is to read them itself
    z: torch.Tensor  # float32 [N, *z_shape]
    fresh_z: torch.Tensor | None = None  # float32 [N, *z_shape]: the G step's own, where fakes are not reused
    flips: torch.Tensor | None = None  # float32 [2, N, 1], U(0,1): D is told the wrong label where it is below flip_labels: real, fake
    noise: torch.Tensor | None = None  # float32 [3, N, C, H, W], N(0,1): real, fake, fake of the G step
    mirror: torch.Tensor | None = None  # float32 [N, 1, 1, 1], U(0,1): a real image is mirrored where it is below 1/2


def gan_step(networks: Networks, precision: Precision, inputs: StepInputs) -> torch.Tensor:
    """One update of D, then one of G. Returns float32 [4], the STATISTICS of this step; their sum is kept in `networks.totals`."""
    # Fake and real images of one shape, the fakes for both steps where the recipe reuses them.
    fake_img = generate(networks.G, precision, inputs.z)
    real_img = inputs.real_img if inputs.mirror is None else augment.mirror(inputs.real_img, inputs.mirror)
    real_img = augment.scale_images(real_img, networks.img_low).reshape(fake_img.shape)

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
    if networks.has_schedule:
        networks.nimg.add_(len(inputs.z))
    return statistics


def d_step(networks: Networks, precision: Precision, real_img: torch.Tensor, fake_img: torch.Tensor, inputs: StepInputs) -> tuple[torch.Tensor, ...]:
    """Update D in place on real_img and fake_img [N, ...] (no graph behind them). Returns (d_loss, mean real logit, mean fake logit), each []."""
    real_img, fake_img = _noised(networks, real_img, inputs.noise, 0), _noised(networks, fake_img, inputs.noise, 1)
    real_target, fake_target = _targets(networks.loss, inputs.flips)
    if networks.one_pass:  # the same numbers from half the launches, and one weight gradient over 2N images
        both_img = torch.cat([real_img, fake_img.to(real_img.dtype)])
        loss, logits = judge_loss(networks.D, precision, both_img, _one_each(real_target, fake_target, real_img))
        (real_loss, fake_loss), (real_logits, fake_logits) = loss.chunk(2), logits.chunk(2)
    else:  # BatchNorm sees them separately
        real_loss, real_logits = judge_loss(networks.D, precision, real_img, real_target)
        fake_loss, fake_logits = judge_loss(networks.D, precision, fake_img, fake_target)
    d_loss = (real_loss + fake_loss).mean()
    networks.optimizer_D.step(gradients_of(d_loss, networks.optimizer_D.parameters))
    return d_loss.detach(), real_logits.detach().mean(), fake_logits.detach().mean()


def g_step(networks: Networks, precision: Precision, fake_img: torch.Tensor, inputs: StepInputs) -> torch.Tensor:
    """Update G in place through fake_img [N, ...], which carries its graph. Returns g_loss []."""
    target, sign = losses.G_OBJECTIVES[networks.loss.name]
    fake_loss, _ = judge_loss(networks.D, precision, _noised(networks, fake_img, inputs.noise, 2), target)
    g_loss = sign * fake_loss.mean()
    networks.optimizer_G.step(gradients_of(g_loss, networks.optimizer_G.parameters))
    return g_loss.detach()


def generate(G: nn.Module, precision: Precision, z: torch.Tensor) -> torch.Tensor:
    """G(z) in the compute precision."""
    with precision.autocast():
        return G(z)


def judge_loss(D: nn.Module, precision: Precision, img: torch.Tensor, target: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
    """(cross-entropy with the target, D's logits), both float32 [N, L]: L is 1 for one logit an image, more for a map of them.

    target: one number or [N, 1], in [0, 1]. A D that ends in a layers.Head computes both in one kernel; any other is simply called.
    """
    head = getattr(D, "head", None)
    if isinstance(head, Head):
        with precision.autocast():
            features = D.features(img)
        loss, logits = head.loss(features, target.squeeze(1) if isinstance(target, torch.Tensor) else target)
        return loss.unsqueeze(1), logits.unsqueeze(1)
    with precision.autocast():
        logits = D(img)
    logits = logits.float().reshape(logits.shape[0], -1)
    return losses.bce_with_logits(logits, target), logits


def gradients_of(loss: torch.Tensor, parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    """d loss / d parameters, zeros for a parameter that the loss does not reach."""
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))


def _targets(loss: LossConfig, flips: torch.Tensor | None) -> tuple[torch.Tensor | float, torch.Tensor | float]:
    """D's targets for real and fake: smoothed, then swapped where a label is flipped ([N, 1])."""
    real_target, fake_target = 1.0 - loss.smooth_real, loss.smooth_fake
    if flips is None:
        return real_target, fake_target
    real_flips, fake_flips = (flips < loss.flip_labels).float()
    return real_target + (fake_target - real_target) * real_flips, fake_target + (real_target - fake_target) * fake_flips


def _one_each(real_target: torch.Tensor | float, fake_target: torch.Tensor | float, real_img: torch.Tensor) -> torch.Tensor:
    """The targets of a batch of real images and one of fakes behind each other, float32 [2N, 1]."""
    column = real_img.new_ones(len(real_img), 1, dtype=torch.float32)
    return torch.cat([real_target * column, fake_target * column])


def _noised(networks: Networks, img: torch.Tensor, noise: torch.Tensor | None, index: int) -> torch.Tensor:
    """img with its share of the instance noise, which falls linearly to 0 over instance_noise_kimg, or stays."""
    if noise is None:
        return img
    std = networks.loss.instance_noise
    if networks.has_schedule:
        std = std * (1 - networks.nimg.double() / (1000 * networks.loss.instance_noise_kimg)).clamp(min=0).float()
    return augment.instance_noise(img, noise[index], std)
