"""Forward passes of G and D in the compute precision.

The end of D is fused into the cross-entropy where D ends in a layers.Head.
"""
from typing import NamedTuple

import torch
from torch import nn

from fastgan.device.precision import Precision
from fastgan.gan import losses, penalties
from fastgan.gan.train_state import TrainState
from fastgan.nn.layers import Head


class DOutput(NamedTuple):
    """D's outputs for N images."""

    logits: torch.Tensor  # float32 [N, L]: L is 1 for one logit an image, more for a map of them
    class_logits: torch.Tensor | None = None  # float32 [N, c_dim], of an auxiliary classifier
    reconstruction_loss: torch.Tensor | None = None  # float32 [N], of a D that has decoders

    @classmethod
    def of(cls, output: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> "DOutput":
        """Return the outputs for what D returned: logits, or (logits, class_logits)."""
        logits, class_logits = output if isinstance(output, tuple) else (output, None)
        logits = logits.float().reshape(logits.shape[0], -1)
        return cls(logits, None if class_logits is None else class_logits.float())

    def halves(self) -> tuple["DOutput", "DOutput"]:
        """Split the outputs of one pass over two batches."""
        return tuple(
            DOutput(*parts)
            for parts in zip(*([None, None] if each is None else each.chunk(2) for each in self), strict=True)
        )


def generate(
    state: TrainState, precision: Precision, z: torch.Tensor, labels: torch.Tensor | None, twice: bool = False
) -> torch.Tensor:
    """Return G(z), or G(z, c), in the compute precision.

    labels: int64 [N], None for a G without conditions. twice: the pass is differentiated twice.
    """
    with precision.autocast(twice):
        return state.G(z, *state.condition(labels))


def run_D(
    state: TrainState, precision: Precision, img: torch.Tensor, labels: torch.Tensor | None, twice: bool = False
) -> DOutput:
    """Return D(img), or D(img, c). twice: the pass is differentiated twice."""
    with precision.autocast(twice):
        return DOutput.of(state.D(img, *state.condition(labels)))


def run_D_and_reconstruct(state: TrainState, precision: Precision, img: torch.Tensor) -> DOutput:
    """Return D's logits for real images, and the loss of reconstructing them from D's features."""
    with precision.autocast():
        logits, reconstruction_loss = state.D.forward_and_reconstruct(img)
    return DOutput.of(logits)._replace(reconstruction_loss=reconstruction_loss.float())


def cross_entropy(
    D: nn.Module, precision: Precision, img: torch.Tensor, target: torch.Tensor | float
) -> tuple[torch.Tensor, DOutput]:
    """Return (cross-entropy with the target, [N, L]; D's outputs) of a D without conditions.

    target: one number or [N, 1], in [0, 1]. For a D that ends in a layers.Head one kernel computes
    both; any other D is called.
    """
    head = getattr(D, "head", None)
    if isinstance(head, Head):
        with precision.autocast():
            features = D.features(img)
        loss, logits = head.loss(features, target.squeeze(1) if isinstance(target, torch.Tensor) else target)
        return loss.unsqueeze(1), DOutput(logits.unsqueeze(1))
    with precision.autocast():
        output = DOutput.of(D(img))
    return losses.bce_with_logits(output.logits, target), output


def run_D_with_gradient(
    state: TrainState, precision: Precision, img: torch.Tensor, labels: torch.Tensor | None, with_gradient: bool
):
    """Return (D's outputs, squared norm of the gradient of each image's logits, [N], or None).

    The gradient is with respect to the image; with_gradient=False leaves it out.
    """
    if not with_gradient:
        return run_D(state, precision, img, labels), None
    grad_probe = state.grad_probe(len(img))
    output = run_D(state, precision, img + grad_probe, labels, twice=True)
    return output, penalties.squared_norms(penalties.input_gradient(output.logits, grad_probe))
