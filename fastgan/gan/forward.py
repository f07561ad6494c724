"""Forward passes of G and D in the compute precision.

The end of D is fused into the cross-entropy where D ends in a layers.Head.
"""
from typing import NamedTuple

import torch
from torch.utils._pytree import tree_map

from fastgan.gan import losses, penalties
from fastgan.gan.train_state import TrainState
from fastgan.nn.layers import Head, in_parts
from fastgan.nn.pair.outputs import Output, class_logits_of, floats, logits_of


class DOutput(NamedTuple):
    """D's outputs for N images, and what its passes computed with them."""

    logits: torch.Tensor  # float32 [N, L]: L is 1 for one logit an image, more for a map of them
    class_logits: torch.Tensor | None = None  # float32 [N, c_dim], of an auxiliary classifier
    reconstruction_loss: torch.Tensor | None = None  # float32 [N], of a D that has decoders
    cross_entropy: torch.Tensor | None = None  # float32 [N, L], with a target
    squared_gradient: torch.Tensor | None = None  # float32 [N], squared norm of d logits / d image
    own: Output = None  # D's own output in float32, for a caller's losses

    @classmethod
    def of(cls, output: Output, num_classified: int = 0) -> "DOutput":
        """Return the outputs for what D returned. num_classified: classes of its classifier, or 0."""
        logits, class_logits = logits_of(output), None
        if num_classified:
            class_logits = class_logits_of(output, num_classified)
        logits = logits.float().reshape(logits.shape[0], -1)
        return cls(logits, None if class_logits is None else class_logits.float())

    def halves(self) -> tuple["DOutput", "DOutput"]:
        """Split the outputs of one pass over two batches."""
        return tuple(DOutput(*parts) for parts in zip(*map(_halves, self), strict=True))


def generate(state: TrainState, z: torch.Tensor, labels: torch.Tensor | None, twice: bool = False) -> torch.Tensor:
    """Return G(z), or G(z, c), in the compute precision.

    labels: int64 [N], None for a G without conditions. twice: the pass is differentiated twice.
    """
    with state.precision.autocast(twice):
        return state.calls.generate(state.G, z, labels)


def run_D(
    state: TrainState,
    img: torch.Tensor,
    labels: torch.Tensor | None,
    target: torch.Tensor | float | None = None,
    with_gradient: bool = False,
    twice: bool = False,
) -> DOutput:
    """Return D(img), or D(img, c).

    target: in [0, 1], one number or [N, 1], for D without conditions: the outputs contain the
    cross-entropy with it. with_gradient: they contain the squared norm of the input gradient.
    twice: the pass is differentiated twice.
    """
    if target is not None:
        return _run_D_with_cross_entropy(state, img, target)
    if with_gradient:
        grad_probe = state.grad_probe(len(img))
        output = run_D(state, img + grad_probe, labels, twice=True)
        gradient = penalties.input_gradient(output.logits, grad_probe)
        return output._replace(squared_gradient=penalties.squared_norms(gradient))
    with state.precision.autocast(twice):
        output = state.calls.discriminate(state.D, img, labels)
    if state.own_losses is None:
        return DOutput.of(output, state.num_classified)
    return _with_own_output(state, floats(output))


def run_D_and_reconstruct(state: TrainState, img: torch.Tensor) -> DOutput:
    """Return D's logits for real images, and the loss of reconstructing them from D's features."""
    with state.precision.autocast():
        logits, reconstruction_loss = state.D.forward_and_reconstruct(img)
    return DOutput.of(logits)._replace(reconstruction_loss=reconstruction_loss.float())


def run_D_on_both(
    state: TrainState,
    real_img: torch.Tensor,
    fake_img: torch.Tensor,
    labels: torch.Tensor | None,
    targets: tuple[torch.Tensor | float, torch.Tensor | float] | None = None,
    with_gradients: tuple[bool, bool] = (False, False),
) -> tuple[DOutput, DOutput]:
    """Return D's outputs for real images and for fakes of the same classes.

    targets, with_gradients: see run_D; for real and for fake. One pass over 2N images gives the
    same numbers as two from half the launches, and one weight gradient; a D that compares the
    images of a batch, or reconstructs the real ones, needs two.
    """
    real_target, fake_target = (None, None) if targets is None else targets
    if state.one_pass and not state.loss.reconstruction and with_gradients[0] == with_gradients[1]:
        both_img = torch.cat([real_img, fake_img.to(real_img.dtype)])
        both_labels = None if labels is None else torch.cat([labels, labels])
        target = None if targets is None else _one_each(real_target, fake_target, real_img)
        with in_parts(state.D, 2):
            return run_D(state, both_img, both_labels, target, with_gradients[0]).halves()
    if state.loss.reconstruction:
        real = run_D_and_reconstruct(state, real_img)
    else:
        real = run_D(state, real_img, labels, real_target, with_gradients[0])
    return real, run_D(state, fake_img, labels, fake_target, with_gradients[1])


def _run_D_with_cross_entropy(state: TrainState, img: torch.Tensor, target: torch.Tensor | float) -> DOutput:
    """Return the outputs of D, without conditions, and their cross-entropy with the target.

    One kernel computes both where D ends in a layers.Head; any other D is called.
    """
    head = getattr(state.D, "head", None)
    if isinstance(head, Head):
        with state.precision.autocast():
            features = state.D.features(img)
        loss, logits = head.loss(features, target.squeeze(1) if isinstance(target, torch.Tensor) else target)
        return DOutput(logits.unsqueeze(1), cross_entropy=loss.unsqueeze(1))
    with state.precision.autocast():
        output = DOutput.of(state.calls.discriminate(state.D, img, None))
    return output._replace(cross_entropy=losses.bce_with_logits(output.logits, target))


def _with_own_output(state: TrainState, output: Output) -> DOutput:
    """Return the outputs with D's own, in float32, and the logits that the caller names."""
    parts = DOutput.of(output, state.num_classified)._replace(own=output)
    if state.own_losses.logits is None:
        return parts
    return parts._replace(logits=DOutput.of(state.own_losses.logits(output)).logits)


def _halves(output: Output) -> tuple[Output, Output]:
    """Split every tensor of an output in two, along the images."""
    if output is None:
        return None, None
    if isinstance(output, torch.Tensor):
        return output.chunk(2)
    return tuple(tree_map(lambda tensor, index=index: tensor.chunk(2)[index], output) for index in range(2))


def _one_each(
    real_target: torch.Tensor | float, fake_target: torch.Tensor | float, real_img: torch.Tensor
) -> torch.Tensor:
    """Return the targets of a batch of real images followed by one of fakes, float32 [2N, 1]."""
    column = real_img.new_ones(len(real_img), 1, dtype=torch.float32)
    return torch.cat([real_target * column, fake_target * column])
