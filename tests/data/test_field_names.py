"""The names of fields: which is the image, which the label."""
from collections import namedtuple

import pytest

from fastgan.data.field_names import img_and_label, named, others_said
from fastgan.errors import UserError

Pair = namedtuple("Pair", ["x", "y"])


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (7, {"img": 7}),
        ([7], {"img": 7}),
        ((7, 8), {"img": 7, "c": 8}),
        ((7, 8, 9, 10), {"img": 7, "c": 8, "field2": 9, "field3": 10}),
        ({"image": 7, 3: 8}, {"image": 7, "3": 8}),
        (Pair(7, 8), {"x": 7, "y": 8}),
    ],
)
def test_parts_have_names(value, parts):
    assert named(value) == parts


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("img c cond", ("img", "c")),
        ("label image", ("image", "label")),
        ("pixel_values labels", ("pixel_values", "labels")),
        ("x y", ("x", "y")),
        ("data class", ("data", "class")),
        ("x img", ("img", None)),
    ],
)
def test_images_and_labels_go_by_the_usual_names(names, found):
    assert img_and_label(dict.fromkeys(names.split()), "it") == found


@pytest.mark.parametrize(("names", "listed"), [(["left", "right"], "left, right"), ([], r"\(none\)")])
def test_fields_without_images_are_refused(names, listed):
    with pytest.raises(UserError, match=f"the data has the fields {listed}, .* name them 'img'"):
        img_and_label(dict.fromkeys(names), "the data")


def test_what_the_networks_do_not_take_is_said():
    assert others_said([], "the data") == ()
    (note,) = others_said(["mask", "cond"], "the data")
    assert note.startswith("of the data, mask, cond is not used")
