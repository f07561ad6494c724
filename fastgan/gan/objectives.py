"""Objectives of D and G in a step: adversarial losses, penalties, and losses of further outputs.

Every function takes images as D sees them, [N, ...], and returns a loss [] with its graph and
statistics by name.
"""
import dataclasses
from collections.abc import Callable

import torch
from torch.utils._pytree import tree_leaves, tree_map

from fastgan.config import LossConfig
from fastgan.errors import UserError
from fastgan.gan import losses, penalties
from fastgan.gan.forward import DOutput, generate, run_D, run_D_on_both
from fastgan.gan.inputs import StepInputs
from fastgan.gan.train_state import TrainState
from fastgan.nn.pair.inspect_pair import NETWORK_ERRORS, untouched

Loss = tuple[torch.Tensor, dict[str, torch.Tensor]]  # (the loss, []; statistics, [])


def d_loss(state: TrainState, inputs: StepInputs, real_img: torch.Tensor, fake_img: torch.Tensor) -> Loss:
    """Return D's loss, with the penalties that are part of every update."""
    # D runs on real images and on fakes. Cross-entropies, R1 and R2 come out of these passes; lazy
    # penalties have an update of their own.
    penalty, is_lazy, targets = state.penalty, state.penalty.D_reg_interval > 1, _targets(state.loss, inputs.flips)
    with_gradients = (False, False) if is_lazy else (penalty.r1_gamma > 0, penalty.r2_gamma > 0)
    in_pass = _has_cross_entropy(state) and not state.loss.reconstruction and not any(with_gradients)
    real, fake = run_D_on_both(state, real_img, fake_img, inputs.labels, targets if in_pass else None, with_gradients)

    # The adversarial loss is the caller's, compares pairs, or compares each image with its target.
    if state.own_losses is not None:
        loss = state.own_losses.d_loss(real.own, fake.own).reshape(())
    elif state.loss.name == "relativistic":
        loss = losses.relativistic(real.logits, fake.logits).mean()
    else:
        margins = (None, None) if inputs.margin is None else inputs.margin
        real_loss, fake_loss = (_elementwise(state, *each) for each in zip((real, fake), targets, margins, strict=True))
        loss = (real_loss + fake_loss).mean()
    statistics = {"d_loss": loss, "real_logits": real.logits.mean(), "fake_logits": fake.logits.mean()}

    # D's auxiliary classifier and its decoders add their losses.
    if state.loss.class_D:
        class_loss = losses.classification(real.class_logits, inputs.labels).mean()
        loss = loss + state.weight("loss.class_D") * class_loss
        statistics |= {"class_loss": class_loss}
    if state.loss.reconstruction:
        each_loss = real.reconstruction_loss.mean()
        loss = loss + state.loss.reconstruction * each_loss
        statistics |= {"reconstruction_loss": each_loss}

    # R1 and R2 are taken at real images and at fakes, WGAN-GP's penalty between them.
    for name, gamma, output in _gammas(state, real, fake):
        if output.squared_gradient is not None:
            each_penalty = output.squared_gradient.mean()
            loss, statistics = loss + gamma / 2 * each_penalty, statistics | {name: each_penalty}
    if penalty.gp_weight and not is_lazy:
        between = _gradient_penalty(state, inputs, real_img, fake_img)
        loss = loss + state.weight("penalty.gp_weight") * between
        statistics |= {"gradient_penalty": between}

    # ADA follows the sign of D's logits for real images.
    if state.augmentation is not None:
        statistics |= state.augmentation.observed(real.logits.detach())
    return loss, statistics


def penalties_alone(state: TrainState, inputs: StepInputs, real_img: torch.Tensor, fake_img: torch.Tensor | None):
    """Return (sum of D's penalties, [], with its graph; each of them), without D's loss."""
    # R1 is taken at real images and R2 at fakes.
    total, statistics = 0.0, {}
    for name, gamma, img in _gammas(state, real_img, fake_img):
        if getattr(state.penalty, name.replace("penalty", "gamma")):
            squared = run_D(state, img, inputs.labels, with_gradient=True).squared_gradient.mean()
            total, statistics = total + gamma / 2 * squared, statistics | {name: squared}

    # WGAN-GP's penalty is taken between them.
    if state.penalty.gp_weight:
        between = _gradient_penalty(state, inputs, real_img, fake_img)
        total = total + state.weight("penalty.gp_weight") * between
        statistics |= {"gradient_penalty": between}
    return total, statistics


def _gradient_penalty(
    state: TrainState, inputs: StepInputs, real_img: torch.Tensor, fake_img: torch.Tensor
) -> torch.Tensor:
    """Return WGAN-GP's penalty, [], with its graph: the mean over images between real and fake."""
    grad_probe = state.grad_probe(len(real_img))
    img = penalties.interpolate(real_img, fake_img, _pad_like(inputs.between, real_img))
    output = run_D(state, img + grad_probe, inputs.labels, twice=True)
    return penalties.gradient_penalty(penalties.input_gradient(output.logits, grad_probe)).mean()


def g_loss(
    state: TrainState,
    fake_img: torch.Tensor,
    labels: torch.Tensor | None,
    real_img: torch.Tensor | None,
    real_labels: torch.Tensor | None,
) -> Loss:
    """Return G's loss, with a graph through fake_img.

    real_img: the real images that a loss compares with, None for other losses.
    """
    # The adversarial loss is the caller's, or compares fakes with real images where it is relativistic.
    if state.own_losses is not None:
        fake, loss = _own_g_loss(state, fake_img, labels, real_img, real_labels)
    elif state.loss.name == "relativistic":
        fake = run_D(state, fake_img, labels)
        with torch.no_grad():
            real = run_D(state, real_img, real_labels)
        loss = losses.relativistic(fake.logits, real.logits).mean()
    else:
        each_loss, target, sign = losses.G_OBJECTIVES[state.loss.name]
        fake = run_D(state, fake_img, labels, target if _has_cross_entropy(state) else None)
        in_pass = fake.cross_entropy is not None
        loss = sign * (fake.cross_entropy if in_pass else each_loss(fake.logits, target)).mean()
    statistics = {"g_loss": loss}

    # The auxiliary classifier and the penalty on G's weights add to it.
    if state.loss.class_G:
        class_loss = losses.classification(fake.class_logits, labels).mean()
        loss = loss + state.weight("loss.class_G") * class_loss
        statistics |= {"class_loss_fake": class_loss}
    if state.penalty.orthogonal:
        loss = loss + state.weight("penalty.orthogonal") * penalties.orthogonality(state.optimizer_G.parameters)
    return loss, statistics


def _own_g_loss(
    state: TrainState,
    fake_img: torch.Tensor,
    labels: torch.Tensor | None,
    real_img: torch.Tensor | None,
    real_labels: torch.Tensor | None,
) -> tuple[DOutput, torch.Tensor]:
    """Return (D's output of the fakes, the caller's loss of G), with a graph through fake_img."""
    fake, own = run_D(state, fake_img, labels), state.own_losses
    if not own.compares:
        return fake, own.g_loss(fake.own).reshape(())
    with torch.no_grad():
        real = run_D(state, real_img, real_labels)
    return fake, own.g_loss(fake.own, real.own).reshape(())


def _gammas(state: TrainState, real: object, fake: object) -> tuple[tuple, tuple]:
    """Return (statistic, gamma, place) of R1 and of R2."""
    gammas = state.weight("penalty.r1_gamma"), state.weight("penalty.r2_gamma")
    return ("r1_penalty", gammas[0], real), ("r2_penalty", gammas[1], fake)


def with_tried_losses(state: TrainState, z_shape: tuple[int, ...], num: int) -> TrainState:
    """Return the state of a caller's losses after a trial of both on `num` images, without a trace.

    Real and fake images share a pass only where every tensor of D's output has one row an image.
    Raises UserError for a loss that fails, or that gives no number with a graph.
    """
    device, own = state.nimg.device, state.own_losses
    with untouched(state.G, state.D):
        labels = torch.arange(num, device=device) % state.c_dim if state.is_conditional else None
        with torch.no_grad():
            fake_img = generate(state, torch.randn(num, *z_shape, device=device), labels)
        output = run_D(state, fake_img, labels).own
        _try_loss("d_loss", own.d_loss, output, output)
        _try_loss("g_loss", own.g_loss, output, *([output] if own.compares else []))
    is_by_image = all(isinstance(leaf, torch.Tensor) and leaf.shape[:1] == (num,) for leaf in tree_leaves(output))
    return dataclasses.replace(state, one_pass=state.one_pass and is_by_image)


def _try_loss(name: str, function: Callable, *outputs: object) -> None:
    try:
        loss = function(*outputs)
    except NETWORK_ERRORS as error:
        raise UserError(f"{name} fails on D's output, {_described(outputs[0])}: {error}") from error
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
        given = _described(loss) if isinstance(loss, torch.Tensor) else repr(loss)
        raise UserError(
            f"{name} must return a tensor with one number that depends on D's output, such as a mean, not {given}"
        )


def _described(output: object) -> str:
    """Return an output in words: the shapes of its tensors, in their structure."""
    if isinstance(output, torch.Tensor):
        return f"a tensor {list(output.shape)}" + ("" if output.requires_grad else " without a gradient")
    return str(tree_map(lambda tensor: list(tensor.shape) if isinstance(tensor, torch.Tensor) else tensor, output))


def _targets(loss: LossConfig, flips: torch.Tensor | None) -> tuple[torch.Tensor | float, torch.Tensor | float]:
    """Return D's targets for real and fake: smoothed, then swapped where a label is flipped.

    Numbers, or [N, 1] where labels are flipped.
    """
    real_target, fake_target = 1.0 - loss.smooth_real, loss.smooth_fake
    if flips is None:
        return real_target, fake_target
    real_flips, fake_flips = (flips < loss.flip_labels).float()
    difference = fake_target - real_target
    return real_target + difference * real_flips, fake_target - difference * fake_flips


def _has_cross_entropy(state: TrainState) -> bool:
    """Return True if a pass of D may compute the loss: a cross-entropy, of a D without conditions."""
    return state.loss.name in losses.CROSS_ENTROPIES and not state.is_conditional


def _elementwise(
    state: TrainState, output: DOutput, target: torch.Tensor | float, margin: torch.Tensor | None
) -> torch.Tensor:
    """Return D's loss of its outputs against a target, [N, L], which the pass may have computed.

    margin: of the hinge, [N, 1] in U(0,1), mapped here to U(hinge_margin, 1).
    """
    if output.cross_entropy is not None:
        return output.cross_entropy
    if margin is not None:
        low = state.loss.hinge_margin
        return losses.hinge(output.logits, target, low + (1 - low) * margin)
    return losses.D_LOSSES[state.loss.name](output.logits, target)


def _pad_like(values: torch.Tensor, img: torch.Tensor) -> torch.Tensor:
    """Return values [N, 1, 1, 1] with as many dimensions as img, which may be flat."""
    return values.reshape(len(values), *(1,) * (img.dim() - 1))
