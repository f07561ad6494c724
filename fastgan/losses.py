"""Adversarial losses: logits to per-sample losses. D's output is a logit everywhere; no probability is ever formed.

D minimises the cross-entropy of real images against 1 plus that of fakes against 0: Goodfellow et al., 2014 (arXiv 1406.2661), equation 1; smoothed
targets: Salimans et al., 2016 (arXiv 1606.03498), section 3.4.
"""
import torch

from fastgan.ops.leaky_relu_bce import leaky_relu_bce

# What G minimises (Goodfellow et al., 2014, section 3): (target, sign) of the cross-entropy of D's logits of fakes. non_saturating: -log D(G(z)) =
# softplus(-l). saturating: log(1 - D(G(z))) = -softplus(l), whose gradient vanishes where D is sure.
G_OBJECTIVES = {"non_saturating": (1.0, 1.0), "saturating": (0.0, -1.0)}


def bce_with_logits(logits: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
    """Binary cross-entropy of logits against targets in [0, 1], per element: t softplus(-l) + (1 - t) softplus(l), float32 (float64 of float64).

    Finite for every finite logit, and exact where D is sure: softplus(l) - t * l would be the rounding error of l there.
    """
    return leaky_relu_bce(logits, target, slope=1.0)
