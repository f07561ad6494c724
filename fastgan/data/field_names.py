"""The fields of an item by name: which of them is the image, which the label.

Items and sets come as one array, as a pair (images, labels), or as a dict of anything.
"""
from __future__ import annotations

from collections.abc import Mapping

from fastgan.errors import UserError

# The first of these that is there.
IMG_NAMES = ("img", "image", "images", "pixel_values", "x", "x_train", "data", "arr_0")
LABEL_NAMES = ("c", "label", "labels", "y", "y_train", "class")


def named(value: object) -> dict[str, object]:
    """Return the parts of an item, a batch or a set by name.

    Those of a tuple or list are img, c, field2, field3, ...; anything without parts is img.
    """
    if isinstance(value, Mapping):
        return {str(name): part for name, part in value.items()}
    if hasattr(value, "_asdict"):  # a named tuple
        return value._asdict()
    if isinstance(value, tuple | list):
        return {("img", "c")[index] if index < 2 else f"field{index}": part for index, part in enumerate(value)}
    return {"img": value}


def img_and_label(fields: Mapping[str, object], origin: str) -> tuple[str, str | None]:
    """Return the name of the image and that of the label, None where there is none.

    Raises UserError where no field has a name of images.
    """
    img, label = (next((name for name in names if name in fields), None) for names in (IMG_NAMES, LABEL_NAMES))
    if img is None:
        raise UserError(
            f"{origin} has the fields {', '.join(fields) or '(none)'}, and which are the images is unclear: name them "
            f"{IMG_NAMES[0]!r}"
        )
    return img, label


def others_said(names: list[str], origin: str) -> tuple[str, ...]:
    """Return a note on the fields that neither G nor D takes."""
    if not names:
        return ()
    return (f"of {origin}, {', '.join(names)} is not used: a step of one's own (Trainer.from_step) takes all fields",)
