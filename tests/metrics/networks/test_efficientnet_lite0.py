"""EfficientNet-Lite0: its shapes, its padding, and the reading of its file."""
import hashlib
import io
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from fastgan.errors import UserError
from fastgan.metrics.networks import efficientnet_lite0
from fastgan.metrics.networks.convolutions import folded_convolutions
from fastgan.metrics.networks.efficientnet_lite0 import EfficientNetLite0, open_efficientnet_lite0


def random_state(seed: int) -> dict[str, torch.Tensor]:
    generator, state = torch.Generator().manual_seed(seed), {}
    for number, conv in enumerate(folded_convolutions(EfficientNetLite0())):
        channels = conv.weight.shape[0]
        state[f"{number}.weight"] = (
            torch.randn(conv.weight.shape, generator=generator) * (2 / conv.weight[0].numel()) ** 0.5
        )
        for name, low in (("weight", 0.5), ("bias", 0), ("running_mean", -0.5), ("running_var", 0.5)):
            state[f"{number}.bn.{name}"] = torch.rand(channels, generator=generator) + low
        state[f"{number}.bn.num_batches_tracked"] = torch.tensor(7)
    return state | {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}


def saved(state: dict) -> bytes:
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def test_as_many_weights_as_were_published():
    weights = [conv.weight for conv in folded_convolutions(EfficientNetLite0())]
    assert len(weights) == 49
    # Published: 4 652 008 for the whole network, of which 1 281 000 are the classifier's;
    # BatchNorm has two trained numbers a channel.
    assert sum(weight.numel() + 2 * len(weight) for weight in weights) == 4_652_008 - 1_281_000


@torch.no_grad()
def test_features_of_any_images():
    network = EfficientNetLite0().eval()
    network.take(saved(random_state(0)))
    for shape in ((2, 3, 16, 16), (1, 1, 28, 20), (1, 3, 200, 200)):
        features = network(torch.randint(0, 256, shape, dtype=torch.uint8))
        assert features.shape == (shape[0], 1280)
        assert features.isfinite().all()
    first, second = network(torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8))
    assert not torch.equal(first, second)


def test_what_the_network_takes():
    images = torch.tensor([0, 127, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 40, 40)
    scaled = EfficientNetLite0.scaled(images)
    assert scaled.shape == (3, 3, 128, 128)
    torch.testing.assert_close(scaled.amax((1, 2, 3)), torch.tensor([-127 / 128, 0, 1]))


@pytest.mark.parametrize(
    ("kernel", "stride", "before", "after"), [(3, 2, 0, 1), (5, 2, 1, 2), (3, 1, 1, 1), (5, 1, 2, 2), (1, 1, 0, 0)]
)
def test_padding_is_that_of_tensorflow_on_even_sides(kernel, stride, before, after):
    conv = efficientnet_lite0._conv(1, 1, kernel, stride)
    conv.weight.copy_(torch.rand(1, 1, kernel, kernel))
    x = torch.rand(1, 1, 8, 8)
    expected = functional.conv2d(functional.pad(x, (before, after, before, after)), conv.weight, stride=stride).clamp(
        0, 6
    )
    torch.testing.assert_close(conv(x), expected)
    assert expected.shape[2] == 8 // stride


def test_a_block_that_keeps_the_shape_adds_the_image():
    keeping, changing = efficientnet_lite0._Block(8, 8, 6, 1, 3), efficientnet_lite0._Block(8, 16, 6, 1, 3)
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(keeping(x), x)  # the weights are 0
    assert changing(x).eq(0).all()


def test_the_file_is_taken_by_its_checksum_and_read_tensor_by_tensor(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    path.write_bytes(saved(random_state(1)))
    with pytest.raises(UserError, match="is not the published file of efficientnet_lite0"):
        open_efficientnet_lite0(path)
    monkeypatch.setattr(
        efficientnet_lite0,
        "WEIGHTS",
        replace(efficientnet_lite0.WEIGHTS, sha256=hashlib.sha256(path.read_bytes()).hexdigest()),
    )
    state = random_state(1)
    stem = folded_convolutions(open_efficientnet_lite0(path))[0]
    scale = state["0.bn.weight"] / (state["0.bn.running_var"] + 1e-3).sqrt()
    torch.testing.assert_close(stem.weight, state["0.weight"] * scale[:, None, None, None])
    torch.testing.assert_close(stem.bias, state["0.bn.bias"] - state["0.bn.running_mean"] * scale)
