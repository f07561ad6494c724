"""Forms in which G and D take the classes of a batch: found by trying, or given by the user."""
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

Given = Callable[..., torch.Tensor]  # of labels, or of labels and the tensor beside them


@dataclass(frozen=True)
class Condition:
    """The arguments of a network besides z or images.

    form: a name of FORMS. c_dim: number of classes, or length of a vector label. given: the user's
    own function of the labels, or of the labels and the tensor beside them (z, or images).
    """

    form: str = "none"
    c_dim: int = 0
    given: Given | None = None

    def __call__(self, labels: torch.Tensor | None, beside: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the further arguments for a batch.

        labels: int64 [N], or float32 [N, c_dim] for vector labels. beside: z or images, [N, ...].
        """
        if self.form == "none":
            return ()
        if self.form == "given":
            return (self.given(labels, beside),)
        return (FORMS[self.form](_rows(labels, self.c_dim, self.form), beside),)

    def describe(self) -> str:
        """Return the form in words."""
        return WORDS[self.form]


def conditions_to_try(c_dim: int, is_vector: bool, has_images: bool) -> list[Condition]:
    """Return the forms that a network may take, the most common first.

    is_vector: labels are vectors of floats. has_images: the network gets images, so that planes of
    their size are possible.
    """
    if not c_dim:
        return [Condition()]
    forms = ("one-hot", "maps") if is_vector else ("numbers", "one-hot", "maps")
    return [Condition(form, c_dim) for form in (*forms, *(("planes",) if has_images else ()))]


def _rows(labels: torch.Tensor, c_dim: int, form: str) -> torch.Tensor:
    """Return class numbers as they are for `numbers`, else float32 [N, c_dim]."""
    if form == "numbers" or labels.is_floating_point():
        return labels
    return F.one_hot(labels, c_dim).float()


def _planes(rows: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
    ones = [1] * (beside.dim() - 2)
    return rows.view(*rows.shape, *ones).expand(-1, -1, *beside.shape[2:])


FORMS = {
    "numbers": lambda rows, beside: rows,
    "one-hot": lambda rows, beside: rows,
    "maps": lambda rows, beside: rows[:, :, None, None],
    "planes": _planes,
}
WORDS = {
    "none": "no classes",
    "numbers": "class numbers, int64 [N]",
    "one-hot": "one-hot classes, float32 [N, c_dim]",
    "maps": "one-hot maps, float32 [N, c_dim, 1, 1]",
    "planes": "one-hot planes of the images' size, float32 [N, c_dim, H, W]",
    "given": "the form that condition=... makes",
}
