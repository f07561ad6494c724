"""Metrics that a classifier trained for them decides, image by image.

They are the share of images that show the class asked for, and the mode of each stacked digit.
"""
from collections.abc import Callable
from typing import Protocol

import torch

from fastgan.data import ImageSet
from fastgan.errors import UserError
from fastgan.metrics.modes import NUM_STACKED, class_accuracy, mode_coverage, stacked_digits
from fastgan.metrics.networks.classifier import Labelled, trained_classifier
from fastgan.metrics.networks.features import class_classifier


class Judge(Protocol):
    """A classifier of generated images. note: a fact for the reader of the numbers."""

    note: str

    def judge(self, images: torch.Tensor, asked: torch.Tensor | None) -> torch.Tensor:
        """Return a verdict on each of the uint8 images [N, C, H, W]: int64 [N, ...].

        asked: the classes asked for, int64 [N], None where none were.
        """

    def numbers(self, verdicts: torch.Tensor) -> dict[str, float]:
        """Return the numbers, each by the suffix that its name adds to that of the metric."""


class ClassJudge:
    """The accuracy of a conditional generator: the share of images that show the class asked for.

    Its numbers are accuracy, and `_classC` of every class that was asked for.
    """

    def __init__(self, real: ImageSet, device: torch.device, progress: bool = False):
        self._classifier = class_classifier(real, device, progress)
        self._num_classes = self._classifier.head.out_features
        self.note = (f"the classifier behind accuracy is right on {self._classifier.accuracy.item():.1%} of real "
                     "images that it was not trained on, so a perfect generator reaches about that")  # fmt: skip

    def judge(self, images: torch.Tensor, asked: torch.Tensor | None) -> torch.Tensor:
        if asked is None:
            raise UserError(
                "accuracy needs a conditional generator, and this one is unconditional: leave accuracy out"
            )
        return torch.stack([asked.to(images.device), self._classifier.classify(images)], 1)

    def numbers(self, verdicts: torch.Tensor) -> dict[str, float]:
        accuracy, per_class = class_accuracy(*verdicts.unbind(1), self._num_classes)
        asked_for = per_class.isfinite().nonzero().flatten().tolist()
        return {"": accuracy} | {f"_class{number}": per_class[number].item() for number in asked_for}


class StackedJudge:
    """The number of stacked digits' modes reached, at most 1000, and `_kl`, KL(samples || real)."""

    def __init__(self, real: ImageSet, device: torch.device, progress: bool = False):
        if real.labels is None or real.img_shape[2] != 3 or not 100 <= real.labels.max() < NUM_STACKED:
            raise UserError(f"{real.name} is no set of stacked digits, which modes are counted of: three channels, a "
                            "digit in each, and labels 100 red + 10 green + blue; leave modes out")  # fmt: skip
        self._real_share = torch.bincount(real.labels, minlength=NUM_STACKED).to(device).double() / real.num_images
        self._classifier = trained_classifier(_single_digits(real), device, progress)
        self.note = (
            f"the classifier behind modes is right on {self._classifier.accuracy.item():.1%} of real digits that it "
            "was not trained on"
        )

    def judge(self, images: torch.Tensor, asked: torch.Tensor | None) -> torch.Tensor:
        return stacked_digits(images, self._classifier.classify)

    def numbers(self, verdicts: torch.Tensor) -> dict[str, float]:
        coverage = mode_coverage(verdicts, self._real_share)
        return {"": coverage["modes"], "_kl": coverage["kl"]}


JUDGES: dict[str, Callable[[ImageSet, torch.device, bool], Judge]] = {"accuracy": ClassJudge, "modes": StackedJudge}


def _single_digits(real: ImageSet) -> Labelled:
    """Return the channels as grey images of their own, all red ones first."""
    images = real.images.permute(3, 0, 1, 2).reshape(-1, 1, *real.img_shape[:2])
    digits = torch.cat([real.labels // 100, real.labels // 10 % 10, real.labels % 10])
    return Labelled(images, digits, real.checksum)
