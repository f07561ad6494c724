"""The GAN update, in phases: plain functions of tensors.

Real images come in as uint8, parameters and optimiser state are updated in place, statistics are
added to a tensor on the device. Gradients come from torch.autograd.grad, for the requested
parameters only: D's weight gradients are never computed in G's step, G's are never computed in D's,
and where the recipe reuses its fakes G runs forward once. Penalties are differentiated inside the
same function. Nothing calls backward() or changes requires_grad, so every phase is one graph for
the compiler and part of one recording for a CUDA graph.

`update` is D's update and then G's. `d_update` and `g_update` are each of them alone, for recipes
where they have different intervals. `d_penalty_update` and `g_penalty_update` are updates of
penalties alone, at an interval (fastgan/gan/phases.py).
"""
from collections.abc import Callable

import torch

from fastgan.augment import basic
from fastgan.gan import penalties
from fastgan.gan.forward import generate
from fastgan.gan.inputs import StepInputs
from fastgan.gan.objectives import d_loss, g_loss, penalties_alone
from fastgan.gan.train_state import TrainState

Statistics = dict[str, torch.Tensor]  # name -> [], detached


# --- phases -----------------------------------------------------------------------------------------------------------


def update(state: TrainState, inputs: StepInputs) -> Statistics:
    """Update D once, then G once."""
    # Both steps share the fake images where the recipe reuses them: G's graph stays for G's step.
    shares_fakes = inputs.fresh_z is None and state.num_parts == 1
    fake_img = generate(state, inputs.z, inputs.labels) if shares_fakes else None

    # D learns to tell real from fake.
    state.schedules.update(state.nimg)
    statistics = _d_step(state, inputs, fake_img)

    # G learns from the D that was just updated, and its moving average follows.
    statistics |= _g_step(state, inputs, fake_img)
    return _counted(state, statistics, len(inputs.z))


def d_update(state: TrainState, inputs: StepInputs) -> Statistics:
    """Update D alone once."""
    state.schedules.update(state.nimg)
    return _counted(state, _d_step(state, inputs, None), len(inputs.z))


def g_update(state: TrainState, inputs: StepInputs) -> Statistics:
    """Update G alone once, on fakes of its own; D's updates have counted the images."""
    return _counted(state, _g_step(state, inputs, None), 0)


def d_penalty_update(state: TrainState, inputs: StepInputs) -> Statistics:
    """Update D once by its penalties alone, D_reg_interval times as strong.

    Lazy regularisation (arXiv 1912.04958, appendix B).
    """

    def gradients(part):
        real_img, fake_img = _real_images(state, part, part.real_img), None
        if state.penalty.gp_weight or state.penalty.r2_gamma:
            fake_img = _fakes_for_D(state, part, None)
        penalty, statistics = penalties_alone(state, part, real_img, fake_img)
        return gradients_of(state.penalty.D_reg_interval * penalty, state.optimizer_D.parameters), statistics

    d_gradients, statistics = _over_parts(state, inputs, gradients)
    state.optimizer_D.step(_clipped(state, d_gradients), is_extra=True)
    return _counted(state, statistics, 0)


def g_penalty_update(state: TrainState, inputs: StepInputs) -> Statistics:
    """Update G once by the path length penalty alone, G_reg_interval times as strong.

    Karras et al., 2020, arXiv 1912.04958, equation 4.
    """
    # The path lengths are the changes of G's images with the styles, in a random direction.
    with state.precision.autocast(twice=True):
        ws = state.G.mapping(inputs.z, *state.calls.G_condition(inputs.labels, inputs.z))
        fake_img = state.G.synthesis(ws)
    noise = inputs.path_noise / (fake_img.shape[2] * fake_img.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((fake_img.float() * noise).sum(), ws, create_graph=True)
    lengths = penalties.path_lengths(gradient)

    # G is pulled towards equal path lengths: their running mean.
    mean = torch.lerp(state.path_mean, lengths.detach().mean(), state.penalty.pl_decay)
    penalty = state.penalty.pl_weight * (lengths - mean).square().mean()

    # Adam takes an extra step, which the moving average skips.
    state.path_mean.copy_(mean)
    gradients = gradients_of(state.penalty.G_reg_interval * penalty, state.optimizer_G.parameters)
    state.optimizer_G.step(_clipped(state, gradients), is_extra=True)
    return _counted(state, {"path_length": lengths.mean()}, 0)


# --- D's step ---------------------------------------------------------------------------------------------------------


def _d_step(state: TrainState, inputs: StepInputs, fake_img: torch.Tensor | None) -> Statistics:
    """Update D in place. fake_img: the fakes where they exist already, or None."""
    # WGAN clips D's weights before every update.
    if state.penalty.clip:
        penalties.clip(state.optimizer_D.parameters, state.penalty.clip)

    # D's gradients are computed for the whole batch or for a part.
    def gradients(part):
        real_img = _real_images(state, part, part.real_img)
        loss, statistics = d_loss(state, part, real_img, _fakes_for_D(state, part, fake_img))
        return gradients_of(loss, state.optimizer_D.parameters), statistics

    # The optimiser updates D in place.
    d_gradients, statistics = _over_parts(state, inputs, gradients)
    state.optimizer_D.step(_clipped(state, d_gradients))
    return statistics


# --- G's step ---------------------------------------------------------------------------------------------------------


def _g_step(state: TrainState, inputs: StepInputs, fake_img: torch.Tensor | None) -> Statistics:
    """Update G and its moving average in place. fake_img: fakes with their graph, or None."""

    # G's gradients are computed for the whole batch or for a part.
    def gradients(part):
        # The fakes are those of D's step, or new ones.
        if fake_img is not None:
            labels, img = part.labels, _as_D_sees_it(state, fake_img, part, 1, 2)
        else:
            labels = part.labels if part.fresh_z is None or part.g_labels is None else part.g_labels
            img = generate(state, part.z if part.fresh_z is None else part.fresh_z, labels)
            img = _as_D_sees_it(state, img, part, 1 if part.fresh_z is None else 2, 2)

        # The loss compares them with real images where it is relativistic, or the caller's wants it.
        real_img = None if part.g_real_img is None else _real_images(state, part, part.g_real_img)
        loss, statistics = g_loss(state, img, labels, real_img, part.g_labels)
        return gradients_of(loss, state.optimizer_G.parameters), statistics

    # The optimiser updates G in place, and the moving average follows.
    g_gradients, statistics = _over_parts(state, inputs, gradients)
    state.optimizer_G.step(_clipped(state, g_gradients))
    if state.average is not None:
        state.average.step()
    return statistics


# --- images, as D sees them -------------------------------------------------------------------------------------------


def _real_images(state: TrainState, inputs: StepInputs, real_img: torch.Tensor) -> torch.Tensor:
    """Return real images in G's shape and range, mirrored, scaled, augmented and with noise."""
    if inputs.mirror is not None:
        real_img = basic.mirror(real_img, inputs.mirror)
    real_img = basic.scale_images(real_img, state.img_low).reshape(-1, *state.img_shape)
    if state.memory_format == torch.contiguous_format:
        real_img = real_img.contiguous()  # feeds give channels_last
    return _as_D_sees_it(state, real_img, inputs, 0, 0)


def _fakes_for_D(state: TrainState, inputs: StepInputs, fake_img: torch.Tensor | None) -> torch.Tensor:
    """Return fake images without a graph: the given ones, or new ones."""
    if fake_img is None:
        with torch.no_grad():
            fake_img = generate(state, inputs.z, inputs.labels)
    return _as_D_sees_it(state, fake_img.detach(), inputs, 1, 1)


def _as_D_sees_it(
    state: TrainState, img: torch.Tensor, inputs: StepInputs, augment_index: int, noise_index: int
) -> torch.Tensor:
    """Return img augmented and with its share of the instance noise.

    The noise falls linearly to 0 over instance_noise_kimg, or stays where that is 0.
    """
    if inputs.augment is not None:
        img = state.augmentation(img, inputs.augment[augment_index])
    if inputs.noise is None:
        return img
    std = state.weight("loss.instance_noise")
    if state.loss.instance_noise_kimg:
        std = std * (1 - state.nimg.double() / (1000 * state.loss.instance_noise_kimg)).clamp(min=0).float()
    return basic.instance_noise(img, inputs.noise[noise_index], std)


# --- what the steps share ---------------------------------------------------------------------------------------------


def gradients_of(loss: torch.Tensor, parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return d loss / d parameters, zeros for a parameter that the loss does not reach."""
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))


def _clipped(state: TrainState, gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the gradients of a network, scaled down to the norm of grad_clip where it is set.

    Pascanu et al., 2013 (arXiv 1211.5063); as torch.nn.utils.clip_grad_norm_ does it.
    """
    if not state.grad_clip:
        return gradients
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return list(torch._foreach_mul(gradients, (state.grad_clip / (norm + 1e-6)).clamp(max=1)))


def _over_parts(state: TrainState, inputs: StepInputs, gradients: Callable) -> tuple[list[torch.Tensor], Statistics]:
    """Return (gradients, statistics) of a batch, or their means over its parts.

    Parts are computed one after another, so that only one of them needs memory. gradients:
    StepInputs -> (gradients, statistics); the types are stated here, since the compiler cannot read
    annotations of an inner function.
    """
    if state.num_parts == 1:
        return gradients(inputs)
    total, sums = gradients(inputs.part(0, state.num_parts))
    for index in range(1, state.num_parts):
        more, statistics = gradients(inputs.part(index, state.num_parts))
        total = torch._foreach_add(total, more)  # not in place: gradients of two parameters may be one tensor
        sums = {name: value + statistics[name] for name, value in sums.items()}
    torch._foreach_div_(total, state.num_parts)
    return total, {name: value / state.num_parts for name, value in sums.items()}


def _counted(state: TrainState, statistics: Statistics, num_images: int) -> Statistics:
    """Add the statistics and the number of images shown to the totals; return the statistics.

    They stay on the device until the tick.
    """
    statistics = {name: value.detach() for name, value in statistics.items()}
    state.totals.add(statistics)
    if num_images and state.counts_images:
        state.nimg.add_(num_images)
    return statistics
