"""Objectives of D and G in a step: adversarial losses, penalties, and losses of further outputs.

Every function takes images as D sees them, [N, ...], and returns a loss [] with its graph and
statistics by name.
"""
import torch

from fastgan.config import LossConfig
from fastgan.device.precision import Precision
from fastgan.gan import losses, penalties
from fastgan.gan.forward import DOutput, cross_entropy, run_D, run_D_and_reconstruct, run_D_with_gradient
from fastgan.gan.inputs import StepInputs
from fastgan.gan.train_state import TrainState
from fastgan.nn.layers import in_parts

Loss = tuple[torch.Tensor, dict[str, torch.Tensor]]  # (the loss, []; statistics, [])
Judged = tuple[DOutput, DOutput]  # D's outputs for real and for fake images


def d_loss(
    state: TrainState, precision: Precision, inputs: StepInputs, real_img: torch.Tensor, fake_img: torch.Tensor
) -> Loss:
    """Return D's loss, with the penalties that are part of every update."""
    # Lazy penalties have an update of their own; R1 and R2 share the passes of the loss.
    penalty, is_lazy = state.penalty, state.penalty.D_reg_interval > 1
    with_gradients = (False, False) if is_lazy else (penalty.r1_gamma > 0, penalty.r2_gamma > 0)

    # The adversarial loss is fused with the end of D where nothing else reads D's outputs.
    if (
        any(with_gradients)
        or state.loss.name not in losses.CROSS_ENTROPIES
        or state.is_conditional
        or state.loss.reconstruction
    ):
        loss, statistics, real, fake = _d_loss_of_logits(state, precision, inputs, real_img, fake_img, with_gradients)
    else:
        loss, statistics, real, fake = _d_loss_of_cross_entropy(state, precision, inputs, real_img, fake_img)

    # The gradient penalty of WGAN-GP takes a pass of its own.
    if penalty.gp_weight and not is_lazy:
        between = _gradient_penalty(state, precision, inputs, real_img, fake_img)
        loss, statistics = loss + penalty.gp_weight * between, statistics | {"gradient_penalty": between}

    # ADA follows the sign of D's logits for real images.
    if state.augmentation is not None:
        statistics |= state.augmentation.observed(real.logits.detach())
    return loss, {
        "d_loss": statistics.pop("adversarial"),
        "real_logits": real.logits.mean(),
        "fake_logits": fake.logits.mean(),
        **statistics,
    }


def _d_loss_of_cross_entropy(
    state: TrainState, precision: Precision, inputs: StepInputs, real_img: torch.Tensor, fake_img: torch.Tensor
):
    """Return (loss, statistics, D's outputs for real and for fake) of a cross-entropy.

    The end of D may be one kernel with the loss.
    """
    real_target, fake_target = _targets(state.loss, inputs.flips)

    # One pass over 2N images gives the same numbers from half the launches, and one weight
    # gradient; a D that compares the images of a batch needs two passes.
    if state.one_pass:
        both_img = torch.cat([real_img, fake_img.to(real_img.dtype)])
        with in_parts(state.D, 2):
            each_loss, both = cross_entropy(state.D, precision, both_img, _one_each(real_target, fake_target, real_img))
        (real_loss, fake_loss), (real, fake) = each_loss.chunk(2), both.halves()
    else:
        real_loss, real = cross_entropy(state.D, precision, real_img, real_target)
        fake_loss, fake = cross_entropy(state.D, precision, fake_img, fake_target)
    loss = (real_loss + fake_loss).mean()
    return loss, {"adversarial": loss}, real, fake


def _d_loss_of_logits(
    state: TrainState, precision: Precision, inputs: StepInputs, real_img, fake_img, with_gradients: tuple[bool, bool]
):
    """Return (loss, statistics, D's outputs for real and for fake) of any loss.

    with_gradients: for R1 and for R2, true where the passes of the loss compute it.
    """
    # The adversarial loss compares pairs, or each image with its target.
    real, fake, r1, r2 = _run_D_on_both(state, precision, inputs, real_img, fake_img, with_gradients)
    if state.loss.name == "relativistic":
        loss = losses.relativistic(real.logits, fake.logits).mean()
    else:
        real_target, fake_target = _targets(state.loss, inputs.flips)
        real_margin, fake_margin = (None, None) if inputs.margin is None else inputs.margin
        loss = (
            _elementwise(state, real.logits, real_target, real_margin)
            + _elementwise(state, fake.logits, fake_target, fake_margin)
        ).mean()
    statistics = {"adversarial": loss}

    # D's further outputs, of its auxiliary classifier and its decoders, add their losses.
    if state.loss.class_D:
        class_loss = losses.classification(real.class_logits, inputs.labels).mean()
        loss, statistics = loss + state.loss.class_D * class_loss, statistics | {"class_loss": class_loss}
    if state.loss.reconstruction:
        reconstruction_loss = real.reconstruction_loss.mean()
        loss, statistics = (
            loss + state.loss.reconstruction * reconstruction_loss,
            statistics | {"reconstruction_loss": reconstruction_loss},
        )

    # R1 and R2 come from the passes above.
    for name, gamma, each in (("r1_penalty", state.r1_gamma, r1), ("r2_penalty", state.r2_gamma, r2)):
        if each is not None:
            loss, statistics = loss + gamma / 2 * each, statistics | {name: each}
    return loss, statistics, real, fake


def _run_D_on_both(
    state: TrainState, precision: Precision, inputs: StepInputs, real_img, fake_img, with_gradients: tuple[bool, bool]
):
    """Return (D's outputs for real, for fake, R1, R2).

    R1 and R2 are mean squared gradient norms, [], or None where they are not asked for.
    """
    # Both batches share a pass where D allows it and both have the same penalties.
    if state.one_pass and not state.loss.reconstruction and with_gradients[0] == with_gradients[1]:
        both_img = torch.cat([real_img, fake_img.to(real_img.dtype)])
        labels = None if inputs.labels is None else torch.cat([inputs.labels, inputs.labels])
        with in_parts(state.D, 2):
            both, squared = run_D_with_gradient(state, precision, both_img, labels, with_gradients[0])
        return *both.halves(), *((None, None) if squared is None else (each.mean() for each in squared.chunk(2)))

    # Otherwise real and fake images have a pass each.
    if state.loss.reconstruction:
        real, r1 = run_D_and_reconstruct(state, precision, real_img), None
    else:
        real, r1 = run_D_with_gradient(state, precision, real_img, inputs.labels, with_gradients[0])
    fake, r2 = run_D_with_gradient(state, precision, fake_img, inputs.labels, with_gradients[1])
    return real, fake, None if r1 is None else r1.mean(), None if r2 is None else r2.mean()


def penalties_alone(
    state: TrainState, precision: Precision, inputs: StepInputs, real_img: torch.Tensor, fake_img: torch.Tensor | None
):
    """Return (sum of D's penalties, [], with its graph; each of them), without D's loss."""
    # R1 is taken at real images and R2 at fakes.
    total, statistics = 0.0, {}
    for name, gamma, img in (("r1_penalty", state.r1_gamma, real_img), ("r2_penalty", state.r2_gamma, fake_img)):
        if getattr(state.penalty, name.replace("penalty", "gamma")):
            squared = run_D_with_gradient(state, precision, img, inputs.labels, True)[1].mean()
            total, statistics = total + gamma / 2 * squared, statistics | {name: squared}

    # WGAN-GP's penalty is taken between them.
    if state.penalty.gp_weight:
        between = _gradient_penalty(state, precision, inputs, real_img, fake_img)
        total, statistics = total + state.penalty.gp_weight * between, statistics | {"gradient_penalty": between}
    return total, statistics


def _gradient_penalty(
    state: TrainState, precision: Precision, inputs: StepInputs, real_img: torch.Tensor, fake_img: torch.Tensor
) -> torch.Tensor:
    """Return WGAN-GP's penalty, [], with its graph: the mean over images between real and fake."""
    grad_probe = state.grad_probe(len(real_img))
    img = penalties.interpolate(real_img, fake_img, _pad_like(inputs.between, real_img))
    output = run_D(state, precision, img + grad_probe, inputs.labels, twice=True)
    return penalties.gradient_penalty(penalties.input_gradient(output.logits, grad_probe)).mean()


def g_loss(
    state: TrainState,
    precision: Precision,
    fake_img: torch.Tensor,
    labels: torch.Tensor | None,
    real_img: torch.Tensor | None,
    real_labels: torch.Tensor | None,
) -> Loss:
    """Return G's loss, with a graph through fake_img.

    real_img: the real images of a relativistic loss, None for other losses.
    """
    # The adversarial loss compares fakes with real images where it is relativistic.
    name = state.loss.name
    if name == "relativistic":
        fake = run_D(state, precision, fake_img, labels)
        with torch.no_grad():
            real = run_D(state, precision, real_img, real_labels)
        loss = losses.relativistic(fake.logits, real.logits).mean()
    else:
        each_loss, target, sign = losses.G_OBJECTIVES[name]
        if name in losses.CROSS_ENTROPIES and not state.is_conditional:
            fake_loss, fake = cross_entropy(state.D, precision, fake_img, target)
        else:
            fake = run_D(state, precision, fake_img, labels)
            fake_loss = each_loss(fake.logits, target)
        loss = sign * fake_loss.mean()
    statistics = {"g_loss": loss}

    # The auxiliary classifier and the penalty on G's weights add to it.
    if state.loss.class_G:
        class_loss = losses.classification(fake.class_logits, labels).mean()
        loss, statistics = loss + state.loss.class_G * class_loss, statistics | {"class_loss_fake": class_loss}
    if state.penalty.orthogonal:
        loss = loss + state.penalty.orthogonal * penalties.orthogonality(state.optimizer_G.parameters)
    return loss, statistics


def _targets(loss: LossConfig, flips: torch.Tensor | None) -> tuple[torch.Tensor | float, torch.Tensor | float]:
    """Return D's targets for real and fake: smoothed, then swapped where a label is flipped.

    Numbers, or [N, 1] where labels are flipped.
    """
    real_target, fake_target = 1.0 - loss.smooth_real, loss.smooth_fake
    if flips is None:
        return real_target, fake_target
    real_flips, fake_flips = (flips < loss.flip_labels).float()
    return real_target + (fake_target - real_target) * real_flips, fake_target + (
        real_target - fake_target
    ) * fake_flips


def _one_each(
    real_target: torch.Tensor | float, fake_target: torch.Tensor | float, real_img: torch.Tensor
) -> torch.Tensor:
    """Return the targets of a batch of real images followed by one of fakes, float32 [2N, 1]."""
    column = real_img.new_ones(len(real_img), 1, dtype=torch.float32)
    return torch.cat([real_target * column, fake_target * column])


def _elementwise(
    state: TrainState, logits: torch.Tensor, target: torch.Tensor | float, margin: torch.Tensor | None
) -> torch.Tensor:
    """Return D's loss for logits [N, L] against a target.

    margin: of the hinge, [N, 1] in U(0,1), mapped here to U(hinge_margin, 1).
    """
    name = state.loss.name
    if margin is not None:
        low = state.loss.hinge_margin
        return losses.hinge(logits, target, low + (1 - low) * margin)
    return losses.D_LOSSES[name](logits, target)


def _pad_like(values: torch.Tensor, img: torch.Tensor) -> torch.Tensor:
    """Return values [N, 1, 1, 1] with as many dimensions as img, which may be flat."""
    return values.reshape(len(values), *(1,) * (img.dim() - 1))
