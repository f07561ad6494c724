"""Adversarial losses: logits to per-sample losses. D's output is a logit everywhere; no probability is ever formed."""
import torch
import torch.nn.functional as F


def bce_with_logits(logits: torch.Tensor, target: torch.Tensor | float) -> torch.Tensor:
    """Binary cross-entropy of logits against targets in [0, 1], per element: t softplus(-l) + (1 - t) softplus(l).

    Finite for every finite logit, and exact where D is sure: softplus(l) - t * l would be the rounding error of l there.
    """
    return target * F.softplus(-logits) + (1 - target) * F.softplus(logits)


def d_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor, real_target: torch.Tensor | float = 1.0, fake_target: torch.Tensor | float = 0.0):
    """Per-sample loss of D, float32 [N, ...]: the cross-entropy of real against `real_target` plus that of fake against `fake_target`.

    Goodfellow et al., 2014 (arXiv 1406.2661), equation 1; smoothed targets: Salimans et al., 2016 (arXiv 1606.03498), section 3.4.
    """
    return bce_with_logits(real_logits, real_target) + bce_with_logits(fake_logits, fake_target)


def g_loss(fake_logits: torch.Tensor, name: str) -> torch.Tensor:
    """Per-sample loss of G, float32 [N, ...] (Goodfellow et al., 2014, section 3).

    non_saturating: -log D(G(z)) = softplus(-l). saturating: log(1 - D(G(z))) = -softplus(l), whose gradient vanishes where D is sure.
    """
    return F.softplus(-fake_logits) if name == "non_saturating" else -F.softplus(fake_logits)
