"""A small classifier, trained when needed on a labelled set.

Its features serve distances; its classes serve class accuracy and modes.
"""
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from fastgan.metrics.networks.cached import cached
from fastgan.progress import progress_bar

_SIDE, _NUM_FEATURES = 32, 128
# 36 s on one Zen 4 core; right on 88.2 % of unseen Fashion-MNIST images (of 10 000), on 98.2 % of
# MNIST
_STEPS, _BATCH, _LR = 1000, 128, 2e-3
_HELD_OUT, _MOST_HELD_OUT = 10, 2000  # every tenth image, at most 2000, is not trained on
_RECIPE = 1  # counts up when a change above or below changes the trained network


class Classifier(nn.Module):
    """The classifier: uint8 [N, in_channels, H, W] -> float32 [N, 128]; `classify` -> int64 [N].

    accuracy: on images that it was not trained on, 0 to 1.
    """

    name, num_features = "classifier", _NUM_FEATURES

    def __init__(self, in_channels: int, num_classes: int):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(in_channels, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(64, 128, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(128 * (_SIDE // 8) ** 2, _NUM_FEATURES), nn.ReLU())  # fmt: skip
        self.head = nn.Linear(_NUM_FEATURES, num_classes)
        self.register_buffer("accuracy", torch.zeros(()))
        self.identity = ""  # a digest of its training set

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.trunk(_scaled(images))

    @torch.no_grad()
    def classify(self, images: torch.Tensor) -> torch.Tensor:
        """Return the class number of each image."""
        return self.head(self(images)).argmax(1)


@dataclass(frozen=True)
class Labelled:
    """The training set of a classifier.

    images: uint8 [num, C, H, W]. labels: int64 [num] from 0. checksum: a digest of the images.
    """

    images: torch.Tensor
    labels: torch.Tensor
    checksum: str


def trained_classifier(labelled: Labelled, device: torch.device, progress: bool = False) -> Classifier:
    """Return the classifier for these images, on `device`, in evaluation mode.

    It is trained now, with a bar if `progress`, or found in the cache folder.
    """
    num_classes = int(labelled.labels.max()) + 1
    facts = {"images": labelled.checksum, "labels": hashlib.sha256(labelled.labels.numpy()).hexdigest(),
             "recipe": _RECIPE,
             "shape": tuple(labelled.images.shape)}  # fmt: skip
    classifier = _fresh(labelled.images.shape[1], num_classes).to(device)
    classifier.load_state_dict(cached("classifier", facts, lambda: _train(classifier, labelled, device, progress)))
    classifier.identity = hashlib.sha256(repr(facts).encode()).hexdigest()
    return classifier.eval()


def _fresh(in_channels: int, num_classes: int) -> Classifier:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # manual_seed is about all of them
        torch.manual_seed(0)
        return Classifier(in_channels, num_classes)


def _train(classifier: Classifier, labelled: Labelled, device: torch.device, progress: bool) -> dict[str, torch.Tensor]:
    """Return the weights after training, with the accuracy on the images held out.

    The same data give the same network on the same machine.
    """
    order = torch.randperm(len(labelled.images), generator=torch.Generator().manual_seed(0))
    num_held_out = min(max(1, len(order) // _HELD_OUT), _MOST_HELD_OUT)
    held_out, seen = order[:num_held_out], order[num_held_out:]
    with progress_bar("training a small classifier on the real images, steps", _STEPS, progress) as advance:
        _fit(classifier, labelled, seen, device, advance)
    right = [
        classifier.classify(labelled.images[rows].to(device)).cpu() == labelled.labels[rows]
        for rows in held_out.split(_BATCH)
    ]
    classifier.accuracy.fill_(torch.cat(right).double().mean())
    return classifier.state_dict()


def _fit(
    classifier: Classifier, labelled: Labelled, seen: torch.Tensor, device: torch.device, advance: Callable[[int], None]
) -> None:
    """Train by Adam with a triangular learning rate for a fixed number of steps.

    seen: the rows that are trained on. advance: moves a progress bar.
    """
    parameters = list(classifier.parameters())
    optimizer = torch.optim.Adam(parameters, lr=_LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=_STEPS)
    generator = torch.Generator().manual_seed(1)
    for _ in range(_STEPS):
        rows = seen[torch.randint(len(seen), (_BATCH,), generator=generator)]
        with torch.enable_grad():
            logits = classifier.head(classifier(labelled.images[rows].to(device)))
            loss = functional.cross_entropy(logits, labelled.labels[rows].to(device))
            gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        schedule.step()
        advance(1)


def _scaled(images: torch.Tensor) -> torch.Tensor:
    """Return the scaled images, float32 [N, C, 32, 32] from -1 to 1."""
    images = images.float()
    if images.shape[2:] != (_SIDE, _SIDE):
        images = functional.interpolate(images, (_SIDE, _SIDE), mode="bilinear", align_corners=False, antialias=True)
    return images / 127.5 - 1
