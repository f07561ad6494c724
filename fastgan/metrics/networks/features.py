"""The feature networks by name."""
import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from fastgan.data import ImageSet
from fastgan.errors import UserError
from fastgan.metrics.networks.classifier import Classifier, Labelled, trained_classifier
from fastgan.metrics.networks.efficientnet_lite0 import open_efficientnet_lite0
from fastgan.metrics.networks.inception import open_inception

NETWORKS = ("inception", "efficientnet_lite0", "classifier")


def open_features(asked: str, real: ImageSet, device: torch.device, progress: bool = False) -> nn.Module:
    """Return the network called `asked`, in evaluation mode on `device`.

    asked: `NAME` or `NAME=PATH of its weights`. The network maps uint8 images [N, C, H, W] to
    float32 [N, num_features] and has a `name`, `num_features`, and an `identity` that changes with
    its weights. progress: a bar on stderr while a classifier is trained. Raises UserError for a
    name that is unknown, weights that are missing or not the published ones, and a classifier
    without labels.
    """
    name, _, path = asked.partition("=")
    given = Path(path).expanduser() if path else None
    if name == "classifier" and given is None:
        return class_classifier(real, device, progress)
    openers = {"inception": open_inception, "efficientnet_lite0": open_efficientnet_lite0}
    if name not in openers:
        raise UserError(f"--features {asked} is not a feature network: choose from {', '.join(NETWORKS)}; inception "
                        "and efficientnet_lite0 take =PATH, the file of their weights")
    return openers[name](given).eval().to(device, memory_format=torch.channels_last)


def class_classifier(real: ImageSet, device: torch.device, progress: bool = False) -> Classifier:
    """Return a classifier of the classes of a labelled set; raise UserError without labels."""
    if real.labels is None:
        raise UserError(
            f"{real.name} has no class labels, which the classifier needs: give a labelled set, or other features "
            "and metrics"
        )
    return trained_classifier(Labelled(real.images.permute(0, 3, 1, 2), real.labels, real.checksum), device, progress)


@contextlib.contextmanager
def fp32_arithmetic() -> Iterator[None]:
    """Disable gradients, and on CUDA TF32, inside this context.

    With TF32, distances would depend on the GPU. Training's settings are restored afterwards.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
