"""The classes of a set: their number, their names, and a check that a network can learn them."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastgan.data.source import Source
from fastgan.errors import UserError

if TYPE_CHECKING:
    import torch

    from fastgan.data.real_set import RealSet

_MOST_NAMED = 5


def classes_of(images: Source | RealSet) -> tuple[int, tuple[str, ...] | None]:
    """Return (number of classes, the name of each or None) of an opened source or of a set.

    Decodes nothing. Without names the classes are the numbers from 0 to the largest label. Raises
    UserError for a set without labels, and where the labels are not numbered as classes are: there
    must not be more classes than images.
    """
    if images.class_names is not None:
        return len(images.class_names), images.class_names
    labels = images.labels
    if labels is None:
        why = getattr(images, "why_no_labels", "")
        raise UserError(why) if why else _no_labels(images.name)
    num_classes = int(labels.max()) + 1
    if num_classes > len(labels):
        raise UserError(
            f"the labels of {images.name} go up to {num_classes - 1}, and it has {len(labels)} images: number its "
            "classes from 0 on"
        )
    return num_classes, None


def check_classes(
    labels: np.ndarray | torch.Tensor | None, class_names: tuple[str, ...] | None, name: str, c_dim: int
) -> tuple[str, ...]:
    """Return notes on classes that have too few images to be learnt.

    labels: int64 [num_images], on the CPU. name: of the set. c_dim: the number of classes that the
    networks know. Raises UserError where there are no labels, a negative one, or one at or above
    c_dim.
    """
    if labels is None:
        raise _no_labels(name)
    if labels.min() < 0:
        raise UserError(f"{name}: the label {int(labels.min())} is negative; classes are numbered from 0")
    num_images = np.bincount(np.asarray(labels), minlength=c_dim)
    if len(num_images) > c_dim:
        num_classes = max(len(num_images), len(class_names or ()))
        raise UserError(
            f"the set {name} has {num_classes} classes, the network {c_dim}: give it {num_classes}, or a set of fewer "
            "classes"
        )
    shown = [
        str(number) if class_names is None or number >= len(class_names) else class_names[number]
        for number in range(c_dim)
    ]
    texts = {0: "no image: what is generated of it is not learnt", 1: "a single image"}
    by_number = {few: [shown[number] for number in np.flatnonzero(num_images == few)] for few in texts}
    return tuple(f"{_listed(names)} has {texts[few]}" for few, names in by_number.items() if names)


def _no_labels(name: str) -> UserError:
    return UserError(f"{name} has no labels, which conditional training needs: give a folder or zip with a folder for "
                     "each class, an npz with labels, a dataset.json or a csv beside the images, (images, labels), or "
                     "a set that is known by name")


def _listed(names: list[str]) -> str:
    if len(names) == 1:
        return f"the class {names[0]}"
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"each of the classes {', '.join(names[:_MOST_NAMED])}{rest}"
