"""Adversarial losses: logits to per-image losses.

D's output is a logit everywhere; no probability is ever formed.

D minimises loss(real, 1) + loss(fake, 0) of one of the elementwise losses below, whose targets may
be smoothed or flipped (Salimans et al., 2016, arXiv 1606.03498, section 3.4); the relativistic loss
compares real with fake instead. G's losses are in G_OBJECTIVES.
"""
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fastgan.nn.pair.outputs import Output
from fastgan.ops.leaky_relu_bce import leaky_relu_bce

# (logits, target in [0, 1]) -> losses, all of one shape
Elementwise = Callable[[torch.Tensor, torch.Tensor | float], torch.Tensor]


def bce_with_logits(logits: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
    """Return the binary cross-entropy of logits and targets in [0, 1], per element.

        t softplus(-l) + (1 - t) softplus(l), float32 (float64 of float64)

    Goodfellow et al., 2014 (arXiv 1406.2661), equation 1. Finite for every finite logit, and exact
    where D is sure: softplus(l) - t * l would be the rounding error of l there.
    """
    return leaky_relu_bce(logits, target, slope=1.0)


def wasserstein(logits: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
    """Return (1 - 2t) l: -l for target 1, l for target 0.

    Arjovsky et al., 2017 (arXiv 1701.07875), algorithm 1.
    """
    return (1.0 - 2.0 * target) * logits


def hinge(logits: torch.Tensor, target: torch.Tensor | float, margin: torch.Tensor | float = 1.0) -> torch.Tensor:
    """Return t relu(margin - l) + (1 - t) relu(margin + l). margin: a number or like logits.

    Lim and Ye, 2017 (arXiv 1705.02894), equation 5.
    """
    return target * F.relu(margin - logits) + (1.0 - target) * F.relu(margin + logits)


def least_squares(logits: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
    """Return (l - t)^2 / 2: Mao et al., 2017 (arXiv 1611.04076), equation 9."""
    return 0.5 * (logits - target).square()


def relativistic(logits: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return softplus(-(l - o)) of pairs, small where l is above o.

    D minimises it of (real, fake), G of (fake, real). Jolicoeur-Martineau, 2018 (arXiv 1807.00734);
    as in R3GAN (arXiv 2501.05441).
    """
    return F.softplus(others - logits)


# Losses of D by the name of the objective; "relativistic" has none, since it compares pairs.
D_LOSSES: dict[str, Elementwise] = {
    "non_saturating": bce_with_logits, "saturating": bce_with_logits,
    "wasserstein": wasserstein, "hinge": hinge, "least_squares": least_squares,
}  # fmt: skip
# For these a layers.Head computes the loss of D or G and the logits in one kernel
CROSS_ENTROPIES = ("non_saturating", "saturating")
# Losses of G: (loss, target, sign).
# non_saturating: -log D(G(z)) = softplus(-l).
# saturating: log(1 - D(G(z))) = -softplus(l), whose gradient vanishes where D is sure (Goodfellow
# et al., 2014, section 3).
# hinge: -l.
G_OBJECTIVES: dict[str, tuple[Elementwise, float, float]] = {
    "non_saturating": (bce_with_logits, 1.0, 1.0), "saturating": (bce_with_logits, 0.0, -1.0),
    "wasserstein": (wasserstein, 1.0, 1.0), "hinge": (wasserstein, 1.0, 1.0),
    "least_squares": (least_squares, 1.0, 1.0),
}  # fmt: skip


def classification(class_logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of an auxiliary classifier, float32 [N].

    class_logits [N, c_dim], labels int64 [N]. Odena et al., 2017 (arXiv 1610.09585).
    """
    return F.cross_entropy(class_logits.float(), labels, reduction="none")


# --- a caller's own ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OwnLosses:
    """A caller's losses, of D's own outputs: tensors, float32, in the structure that D returns.

    d_loss: (real_out, fake_out) -> []. g_loss: fake_out -> [], or with compares (fake_out,
    real_out) -> []. logits: output -> one number or a map of them an image, which penalties
    differentiate; None = as fastgan.nn.pair.outputs.logits_of finds them.
    """

    d_loss: Callable[[Output, Output], torch.Tensor]
    g_loss: Callable[..., torch.Tensor]
    compares: bool = False
    logits: Callable[[Output], torch.Tensor] | None = None


def num_arguments(function: Callable) -> int:
    """Return the number of positional parameters without a default; 1 where that is unknown."""
    function = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(each.kind in positional and each.default is each.empty for each in parameters)
