"""Labels as people write them: class numbers, class names, or vectors."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Labels:
    """The labels of a set.

    labels: int64, one an image, or None. class_names: by class number, or None. why_none: a sentence
    for labels that are there and cannot be used.
    """

    labels: np.ndarray | None
    class_names: tuple[str, ...] | None = None
    why_none: str = ""


def numbered(values: Sequence, origin: str) -> Labels:
    """Return the class numbers of integers, of their texts, of one-hot vectors, or of class names.

    Class names are numbered in sorted order. origin: where the labels are from, for the sentence
    about others.
    """
    if not values:
        return Labels(None, why_none=f"{origin} has no images")
    if any(value is None or value == "" for value in values):
        num_without = sum(value is None or value == "" for value in values)
        return Labels(None, why_none=f"{origin} has no label for {num_without} of {len(values)} images")
    if all(type(value) is int for value in values):
        return _of_numbers(values, origin)
    if all(isinstance(value, str) for value in values):
        return _of_texts(values, origin)
    if all(isinstance(value, list) for value in values):
        return _of_vectors(values, origin)
    return Labels(None, why_none=f"{origin} has labels that are neither class numbers nor class names")


def _of_numbers(values: Sequence[int], origin: str) -> Labels:
    low, high = min(values), max(values)
    if low < 0 or high >= 1 << 62:
        return Labels(None, why_none=f"{origin} has the label {low if low < 0 else high}: classes are numbered from 0")
    return Labels(np.array(values, np.int64))


def _of_texts(values: Sequence[str], origin: str) -> Labels:
    if all(value.strip().isdecimal() and len(value) < 19 for value in values):
        return _of_numbers([int(value) for value in values], origin)
    names = tuple(sorted({value.strip() for value in values}))
    number = {name: label for label, name in enumerate(names)}
    return Labels(np.array([number[value.strip()] for value in values], np.int64), names)


def _of_vectors(values: Sequence[list], origin: str) -> Labels:
    length = len(values[0])
    if any(len(value) != length or value.count(1) != 1 or value.count(0) != length - 1 for value in values):
        return Labels(
            None,
            why_none=f"{origin} has vectors of {length} numbers as labels, and the networks take class numbers: "
            "write one integer for each file, or train without --cond",
        )
    return Labels(np.array([value.index(1) for value in values], np.int64))
