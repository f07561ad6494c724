"""Metrics by classifiers: classes that were asked for, and modes of stacked digits."""
import pytest
import torch

from fastgan.data import ImageSet
from fastgan.errors import UserError
from fastgan.metrics import classifier_metrics
from fastgan.metrics.classifier_metrics import ClassJudge, StackedJudge

CPU = torch.device("cpu")


class Reader:
    """A stand-in for a classifier: an image shows the digit that its first pixel holds."""

    accuracy = torch.tensor(0.975)
    head = torch.nn.Linear(1, 10)

    def classify(self, images):
        assert images.shape[1] == 1
        return images[:, 0, 0, 0].long()


@pytest.fixture
def trained_on(monkeypatch):
    sets = []

    def train(labelled, device, progress):
        sets.append(labelled)
        return Reader()
    monkeypatch.setattr(classifier_metrics, "trained_classifier", train)
    monkeypatch.setattr(classifier_metrics, "class_classifier", lambda real, device, progress: Reader())
    return sets


def stacked(codes: list[int]) -> torch.Tensor:
    """Return uint8 [N, 3, 2, 2] of stacked digits as Reader sees them."""
    return torch.tensor([[code // 100, code // 10 % 10, code % 10] for code in codes], dtype=torch.uint8)[
        :, :, None, None
    ].expand(-1, -1, 2, 2)


def stacked_set(codes: list[int]) -> ImageSet:
    return ImageSet(stacked(codes).permute(0, 2, 3, 1).contiguous(), torch.tensor(codes), None, "stacked")


def test_accuracy_is_told_over_all_and_for_every_class_asked_for(trained_on):
    judge = ClassJudge(None, CPU)
    images = torch.tensor([1, 1, 3, 4], dtype=torch.uint8).view(4, 1, 1, 1)
    verdicts = torch.cat([judge.judge(images[:2], torch.tensor([1, 2])), judge.judge(images[2:], torch.tensor([3, 3]))])
    assert judge.numbers(verdicts) == {"": 0.5, "_class1": 1, "_class2": 0, "_class3": 0.5}
    assert "97.5%" in judge.note


def test_a_generator_that_is_not_asked_has_no_accuracy(trained_on):
    with pytest.raises(UserError, match="this one is unconditional: leave accuracy out"):
        ClassJudge(None, CPU).judge(torch.zeros(1, 1, 1, 1, dtype=torch.uint8), None)


def test_stacked_digits_are_counted_beside_the_real_ones(trained_on):
    judge = StackedJudge(stacked_set([123, 123, 7, 990]), CPU)
    verdicts = judge.judge(stacked([7, 123, 123, 990]), None)
    assert verdicts.tolist() == [7, 123, 123, 990]
    assert judge.numbers(verdicts) == {"": 3, "_kl": 0}
    assert judge.numbers(torch.tensor([1])) == {"": 1, "_kl": float("inf")}


def test_the_classifier_learns_from_single_channels(trained_on):
    StackedJudge(stacked_set([123, 907]), CPU)
    [labelled] = trained_on
    assert labelled.images.shape == (6, 1, 2, 2)
    assert torch.equal(Reader().classify(labelled.images), labelled.labels)
    assert sorted(labelled.labels.tolist()) == [0, 1, 2, 3, 7, 9]


@pytest.mark.parametrize("labels", [None, [3, 9], [0, 1000]])
def test_another_set_has_no_modes_to_count(labels):
    images = torch.zeros(2, 2, 2, 3, dtype=torch.uint8)
    with pytest.raises(UserError, match="CIFAR is no set of stacked digits"):
        StackedJudge(ImageSet(images, None if labels is None else torch.tensor(labels), None, "CIFAR"), CPU)
    with pytest.raises(UserError, match="is no set of stacked digits"):
        StackedJudge(ImageSet(images[..., :1], torch.tensor([0, 500]), None, "grey"), CPU)
