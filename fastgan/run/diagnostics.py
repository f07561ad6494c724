"""Diagnostics of GAN training, computed once a tick and reported in sentences.

They detect failures that do not stop a run. Gradient norms cost next to nothing: the optimisers'
running means of squared gradients hold them already. Samples are 64 more images of G: together 0.12
of a step of dcgan on two CPU cores, once a tick.
"""
from collections.abc import Callable

import torch

from fastgan.gan.train_state import TrainState

NUM_COMPARED = 64  # samples whose distances are computed
COLLAPSED = 0.4  # times the reals' mean distance: samples this near to each other are few different ones
EARLY = 10  # ticks in which samples may still look alike, since G has learnt nothing yet
SURE = 0.02  # D's cross-entropy, both halves together, below which it is nearly always right and teaches G little
# Mean logits of real minus those of fake images, above which D is likewise nearly always right,
# whatever penalties or label smoothing add to the loss
CLEAR_GAP = 16.0
FADED, GROWN = 1e-3, 1e3  # times the gradient norm of the first tick

_SENTENCES = {
    "sure": "D is nearly always right (d_loss {d_loss:.2g}, mean logits {real_logits:.3g} of real and"
            " {fake_logits:.3g} of fake images), so G learns little: a smaller lr_D, smooth_real, instance_noise or "
            "r1_gamma weakens D",
    "alike": "the samples are too similar (their mean distance is {sample_distance:.2f} times that of real images): "
             "modes may have collapsed",
    "G faded": "the gradients of G have faded to {gradient_norm_G:.2g}, a thousandth of those at first:"
               " it hardly learns any more",
    "D faded": "the gradients of D have faded to {gradient_norm_D:.2g}, a thousandth of those at first:"
               " it hardly learns any more",
    "G grown": "the gradients of G have grown to {gradient_norm_G:.2g}, a thousand times those at first:"
               " training may diverge, and a smaller lr_G may help",
    "D grown": "the gradients of D have grown to {gradient_norm_D:.2g}, a thousand times those at first:"
               " training may diverge, and a smaller lr_D or r1_gamma may help",
}  # fmt: skip


class Diagnostics:
    """The diagnostics of a run, beside its losses.

    samples: num -> that many samples of G, on the device. real: as many real ones, float, scaled as
    G's are, or None where there are none. has_probabilities: D's loss is a cross-entropy, so that
    logits mean certainty.
    """

    def __init__(
        self,
        state: TrainState,
        samples: Callable[[int], torch.Tensor],
        real: torch.Tensor | None,
        has_probabilities: bool,
    ):
        self._networks, self._samples, self._has_probabilities = state, samples, has_probabilities
        self._real_distance = None if real is None else mean_distance(real)
        self._usual: dict[str, float] = {}  # gradient norms of the first tick
        self._present: set[str] = set()
        self._num_ticks_alike = 0  # since the start; EARLY as soon as samples have differed once

    def measure(self) -> dict[str, float]:
        """Return gradient_norm_G and _D, and sample_distance. Waits for the device once.

        gradient_norm: root of the mean squared norm over the last steps, as the optimisers weigh
        them. sample_distance: mean distance between samples over that between real images.
        """
        measured = {
            f"gradient_norm_{name}": getattr(self._networks, f"optimizer_{name}").gradient_norm() for name in ("G", "D")
        }
        if self._real_distance is not None:
            measured["sample_distance"] = mean_distance(self._samples(NUM_COMPARED)) / self._real_distance.clamp(
                min=1e-12
            )
        return dict(zip(measured, torch.stack(list(measured.values())).tolist(), strict=True))

    def said(self, statistics: dict) -> list[str]:
        """Return sentences on the findings that are new in this tick; others are not repeated."""
        found = self._found(statistics)
        new = [name for name in found if name not in self._present]
        self._present = set(found)
        return [_SENTENCES[name].format(**statistics) for name in new]

    def _found(self, statistics: dict) -> list[str]:
        found = []
        if self._has_probabilities and "d_loss" in statistics:
            gap = statistics["real_logits"] - statistics["fake_logits"]
            if statistics["d_loss"] < SURE or gap > CLEAR_GAP:
                found.append("sure")
        if self._is_collapsed(statistics.get("sample_distance", 1.0)):
            found.append("alike")
        for name in ("G", "D"):
            norm = statistics[f"gradient_norm_{name}"]
            usual = self._usual.setdefault(name, norm)
            if norm < FADED * usual:
                found.append(f"{name} faded")
            if norm > GROWN * usual > 0:
                found.append(f"{name} grown")
        return found

    def _is_collapsed(self, distance: float) -> bool:
        """Return True if samples look alike that have differed before, or should by now."""
        if distance >= COLLAPSED:
            self._num_ticks_alike = EARLY
            return False
        self._num_ticks_alike += 1
        return self._num_ticks_alike > EARLY


def mean_distance(samples: torch.Tensor) -> torch.Tensor:
    """Return the mean Euclidean distance between two of the samples, []. samples: [num, ...]."""
    flat = samples.flatten(1).float()
    return torch.cdist(flat, flat).sum() / max(1, len(flat) * (len(flat) - 1))
