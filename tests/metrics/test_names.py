"""The metrics that a user may ask for, and the names of their numbers."""
import pytest

from fastgan.errors import UserError
from fastgan.metrics.names import Metric, counts, parse


@pytest.mark.parametrize(("asked", "metric"), [
    ("fid5k", Metric("fid", 5000)), ("fid50k_full", Metric("fid", 50_000, full=True)),
    ("kid4803", Metric("kid", 4803)), ("pr2", Metric("pr", 2)),
    ("dc10k", Metric("dc", 10_000)), ("accuracy1k", Metric("accuracy", 1000)), ("modes26k", Metric("modes", 26_000)),
])  # fmt: skip
def test_the_number_of_generated_images_is_part_of_the_name(asked, metric):
    assert parse(asked, num_real=100) == (metric,)
    assert metric.label("inception") == asked


@pytest.mark.parametrize(
    ("num_real", "named"), [(70_000, "fid50k_full"), (10_000, "fid10k_full"), (4803, "fid4803_full")]
)
def test_a_plain_fid_is_that_of_the_papers_as_far_as_the_set_goes(num_real, named):
    assert parse("fid", num_real)[0].label("inception") == named


def test_plain_names_of_the_others_ask_for_few_images():
    assert [metric.num for metric in parse("kid,pr,dc,accuracy,modes", 60_000)] == [5000, 5000, 5000, 5000, 26_000]
    assert [metric.num for metric in parse("kid,pr,dc,accuracy,modes", 300)] == [300, 300, 300, 300, 26_000]


def test_lists_keep_their_order_and_name_each_metric_once():
    metrics = parse(" kid5k, fid5k,kid5000,", 10)
    assert [metric.kind for metric in metrics] == ["kid", "fid"]
    assert parse(["kid5k", "fid5k"], 10) == metrics


@pytest.mark.parametrize(
    ("kind", "prefix", "label"),
    [
        ("fid", None, "fd_classifier_5k"),
        ("kid", None, "kd_classifier_5k"),
        ("pr", "recall", "recall_classifier_5k"),
        ("modes", None, "modes5k"),
    ],
)
def test_only_inception_gives_the_names_of_the_papers(kind, prefix, label):
    assert Metric(kind, 5000).label("classifier", prefix) == label


def test_other_networks_keep_the_full_set_in_the_name():
    assert Metric("fid", 5000, full=True).label("efficientnet_lite0") == "fd_efficientnet_lite0_5k_full"


@pytest.mark.parametrize(
    "asked", ["", ",", "fid5m", "FID5k", "is5k", "kid5k_full", "fid_full", "fid1", "kid0k", "fid-5"]
)
def test_what_is_no_metric_is_named(asked):
    with pytest.raises(UserError, match="choose from fid|needs at least 2"):
        parse(asked, 100)


def test_counts_are_those_of_the_kinds_asked_about():
    metrics = parse("fid5k,kid1k,pr1k,dc300", 100)
    assert counts(metrics, "kid", "pr", "dc") == [300, 1000]
    assert counts(metrics, "modes") == []
