"""Data kept of generated images: each metric gets as many of the first ones as it asks for."""
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastgan.metrics.generated import Generated, portions
from fastgan.metrics.names import Metric

CPU = torch.device("cpu")


@given(st.sets(st.integers(2, 300), min_size=1, max_size=4), st.integers(1, 100))
def test_portions_end_at_every_number(nums, batch_size):
    sizes = portions([Metric("fid", num) for num in nums], batch_size)
    ends = torch.tensor(sizes).cumsum(0).tolist()
    assert nums <= set(ends)
    assert ends[-1] == max(nums)
    assert all(1 <= size <= batch_size for size in sizes)


class Network:
    num_features = 1

    def __init__(self):
        self.num_seen = 0

    def __call__(self, images):
        self.num_seen += len(images)
        return images.float().flatten(1)


class Judge:
    note = ""

    def judge(self, images, asked):
        return images.flatten().long()


def test_each_metric_has_its_first_images():
    metrics = [
        Metric("fid", 5),
        Metric("fid", 9),
        Metric("kid", 7),
        Metric("pr", 3),
        Metric("accuracy", 4),
        Metric("modes", 20),
    ]
    network, judges = Network(), {"accuracy": Judge(), "modes": Judge()}
    generated, images = Generated(metrics, network, judges, CPU), torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1)
    for part in images.split(portions(metrics, 4)):
        generated.add(part, None)
    assert {num: moments.num for num, moments in generated.moments.items()} == {5: 5, 9: 9}
    assert generated.moments[5].mean().item() == 2
    assert generated.moments[9].mean().item() == 4
    assert generated.features(7).flatten().tolist() == list(range(7))
    assert generated.features(3).flatten().tolist() == [0, 1, 2]
    assert generated.verdicts("accuracy", 4).tolist() == [0, 1, 2, 3]
    assert generated.verdicts("modes", 20).tolist() == list(range(20))
    assert network.num_seen == 9  # modes need no features


def test_without_metrics_of_features_there_is_no_network():
    metrics = [Metric("modes", 3)]
    generated = Generated(metrics, None, {"modes": Judge()}, CPU)
    generated.add(torch.zeros(3, 1, 1, 1, dtype=torch.uint8), None)
    assert generated.verdicts("modes", 3).tolist() == [0, 0, 0]
