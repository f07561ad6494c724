"""The Inception network: the peculiarities of the release of 2015-12-05, and its file.

Where the file is there, published numbers are compared.
"""
import hashlib
import io
import zipfile
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from fastgan.errors import UserError
from fastgan.metrics.frechet import RunningMoments, frechet_distance, target
from fastgan.metrics.kid import kernel_distance
from fastgan.metrics.networks import inception
from fastgan.metrics.networks.convolutions import folded_convolutions
from fastgan.metrics.networks.inception import Inception, open_inception


def archive_of(network: Inception, seed: int) -> tuple[bytes, list[torch.Tensor]]:
    """Return (a file like the published one with random tensors, the tensors)."""
    generator, tensors = torch.Generator().manual_seed(seed), []
    for conv in folded_convolutions(network):
        channels = conv.weight.shape[0]
        weight = torch.randn(conv.weight.shape, generator=generator) / conv.weight[0].numel() ** 0.5
        beta, mean, var = torch.rand(3, channels, generator=generator)
        tensors += [weight, beta, mean, var + 0.5]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as members:
        members.writestr("out_jit_module/data.pkl", b"cos\nsystem\n(S'false'\ntR.")  # code, if anybody unpickled it
        for number, tensor in enumerate(tensors):
            members.writestr(f"out_jit_module/data/{number}", tensor.numpy().tobytes())
    return content.getvalue(), tensors


@pytest.fixture(scope="module")
def random_network():
    network = Inception().eval()
    content, tensors = archive_of(network, 0)
    network.take(content)
    return network, content, tensors


def test_there_are_94_convolutions_with_as_many_weights_as_were_published():
    weights = [conv.weight for conv in folded_convolutions(Inception())]
    assert len(weights) == 94
    # Bytes of the published tensors
    assert 4 * sum(weight.numel() + 3 * len(weight) for weight in weights) == 87_211_136


@torch.no_grad()
def test_features_of_any_images(random_network):
    network = random_network[0]
    for shape in ((2, 3, 16, 16), (1, 1, 28, 20)):
        features = network(torch.randint(0, 256, shape, dtype=torch.uint8))
        assert features.shape == (shape[0], 2048)
        assert features.isfinite().all()
        assert (features >= 0).all()
    assert not torch.equal(*network(torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)))


@torch.no_grad()
def test_the_first_convolutions_are_those_of_the_file(random_network):
    network, _, tensors = random_network
    x = torch.rand(1, 3, 31, 33) * 2 - 1
    expected = x
    for number, (stride, padding) in enumerate([(2, 0), (1, 0), (1, 1)]):
        weight, beta, mean, var = tensors[4 * number:4 * number + 4]
        expected = functional.conv2d(expected, weight, None, stride, padding)
        expected = functional.batch_norm(expected, mean, var, None, beta, False, 0.1, 1e-3).relu()
    torch.testing.assert_close(network.stem[:3](x), expected, rtol=1e-4, atol=1e-4)


def test_what_the_network_takes():
    images = torch.tensor([0, 128, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 5, 5)
    scaled = Inception.scaled(images)
    assert scaled.shape == (3, 3, 299, 299)
    assert [scaled[number].unique().item() for number in range(3)] == [-1, 0, 127 / 128]


def test_averages_leave_out_the_padding():
    assert inception._average()(torch.ones(1, 1, 4, 5)).eq(1).all()
    pools = [
        module for module in Inception().mixed.modules() if isinstance(module, torch.nn.AvgPool2d | torch.nn.MaxPool2d)
    ]
    assert [type(pool).__name__[:3] for pool in pools] == ["Avg"] * 3 + ["Max"] + ["Avg"] * 4 + ["Max", "Avg", "Max"]


def test_a_file_is_taken_by_its_checksum_alone(random_network, tmp_path, monkeypatch):
    _, content, tensors = random_network
    (tmp_path / "mine.pt").write_bytes(content)
    with pytest.raises(UserError, match="is not the published file of inception"):
        open_inception(tmp_path / "mine.pt")
    monkeypatch.setattr(inception, "WEIGHTS", replace(inception.WEIGHTS, sha256=hashlib.sha256(content).hexdigest()))
    last = folded_convolutions(open_inception(tmp_path / "mine.pt"))[-1]
    weight, _, _, var = tensors[-4:]
    torch.testing.assert_close(last.weight, weight / (var + 1e-3).sqrt()[:, None, None, None])


# --- published numbers ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    """Return the network with its true weights."""
    try:
        return open_inception().eval().to(memory_format=torch.channels_last)
    except UserError as reason:
        pytest.skip(f"needs the published weights, and FASTGAN_FEATURES names no folder with them: {reason}")


@pytest.fixture(scope="module")
def documented_images(published):
    """Return the two sets of torchmetrics' documented examples.

    The seeded generator first draws initial weights for Inception, then these.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        for conv in folded_convolutions(published):
            torch.empty_like(conv.weight, memory_format=torch.contiguous_format).uniform_()
        torch.empty(1008 * 2048 + 1008).uniform_()
        return torch.randint(0, 200, (100, 3, 299, 299), dtype=torch.uint8), torch.randint(
            100, 255, (100, 3, 299, 299), dtype=torch.uint8
        )


@pytest.mark.slow
@torch.no_grad()
def test_the_documented_distance_after_the_first_pooling(published, documented_images):
    moments = [RunningMoments(64, torch.device("cpu")) for _ in documented_images]
    for running, images in zip(moments, documented_images, strict=True):
        for part in images.split(20):
            running.add(published.stem[:4](published.scaled(part)).mean((2, 3)))
    assert frechet_distance(target(moments[0]), moments[1]) == pytest.approx(12.7202, abs=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_the_documented_kernel_distance(published, documented_images):
    real, fake = (torch.cat([published(part) for part in images.split(20)]) for images in documented_images)
    generator = torch.Generator().manual_seed(0)
    subsets = [kernel_distance(real[torch.randperm(100, generator=generator)[:50]],
                               fake[torch.randperm(100, generator=generator)[:50]])
               for _ in range(400)]  # fmt: skip
    mean = torch.tensor(subsets).mean().item()
    assert mean == pytest.approx(0.0337, abs=0.0006)  # of 100 subsets, whose deviation is documented as 0.0023
    assert kernel_distance(real, fake) == pytest.approx(mean, abs=0.0004)
