import pytest

from fastgan.data.sources.records.labels import numbered


@pytest.mark.parametrize(
    ("values", "labels", "class_names"),
    [
        ([3, 0, 1], [3, 0, 1], None),
        (["3", "0", " 1"], [3, 0, 1], None),
        (["cat", "ant ", "cat"], [1, 0, 1], ("ant", "cat")),
        (["1", "x", "1"], [0, 1, 0], ("1", "x")),
        ([[0, 1.0], [1, 0], [0.0, 1]], [1, 0, 1], None),
    ],
)
def test_what_is_a_class_number(values, labels, class_names):
    found = numbered(values, "labels.csv")
    assert found.labels.tolist() == labels
    assert (found.class_names, found.why_none) == (class_names, "")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([], "has no images"),
        ([0, None, 1], "has no label for 1 of 3 images"),
        (["a", "", ""], "has no label for 2 of 3 images"),
        ([0, -1], "has the label -1: classes are numbered from 0"),
        ([0, 2**70], "classes are numbered from 0"),
        ([[0.5, 1.0], [1, 0]], "has vectors of 2 numbers as labels, and the networks take class numbers"),
        ([[0, 1], [1, 0, 0]], "has vectors of 2 numbers"),
        ([1, "a"], "neither class numbers nor class names"),
        ([True, False], "neither class numbers nor class names"),
    ],
)
def test_labels_that_cannot_be_used_say_why(values, why):
    found = numbered(values, "labels.csv")
    assert found.labels is None
    assert why in found.why_none
    assert found.why_none.startswith("labels.csv ")
