"""DCGAN at every size it comes in."""
import math

import pytest
import torch
from torch import nn

from fastgan.layers import Head
from fastgan.models.dcgan import Discriminator, Generator

SIZES = [(16, 1), (32, 3), (64, 3), (128, 1)]


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def num_convolution(fan_in: int, fan_out: int) -> int:
    return 16 * fan_in * fan_out  # 4x4, no bias


@pytest.mark.parametrize(("img_resolution", "img_channels"), SIZES)
def test_images_in_the_range_of_tanh_and_a_logit_for_each(img_resolution, img_channels):
    torch.manual_seed(0)
    G, D = Generator(img_resolution, img_channels, z_dim=7, ngf=4), Discriminator(img_resolution, img_channels, ndf=6)
    img = G(torch.randn(3, 7))
    assert img.shape == (3, img_channels, img_resolution, img_resolution)
    assert -1 <= img.min() < img.max() <= 1
    assert D(img).shape == (3,)
    assert D(img[:2]).shape == (2,)


@pytest.mark.parametrize(("img_resolution", "img_channels"), SIZES)
def test_numbers_of_parameters_in_closed_form(img_resolution, img_channels):
    z_dim, ngf, ndf = 7, 4, 6
    doublings = range(int(math.log2(img_resolution)) - 3)
    top = 2 ** len(doublings)
    expected_G = num_convolution(z_dim, top * ngf) + 2 * top * ngf + num_convolution(ngf, img_channels)
    expected_G += sum(num_convolution(2 * ngf * 2**level, ngf * 2**level) + 2 * ngf * 2**level for level in doublings)
    expected_D = num_convolution(img_channels, ndf) + num_convolution(top * ndf, 1)
    expected_D += sum(num_convolution(ndf * 2**level, 2 * ndf * 2**level) + 2 * 2 * ndf * 2**level for level in doublings)
    assert num_parameters(Generator(img_resolution, img_channels, z_dim, ngf)) == expected_G
    assert num_parameters(Discriminator(img_resolution, img_channels, ndf)) == expected_D


def test_the_sizes_of_the_paper():
    """3.6 and 2.8 million, as the PyTorch example has at 64 pixels in colour."""
    assert num_parameters(Generator(64, 3)) == 3_576_704
    assert num_parameters(Discriminator(64, 3)) == 2_765_568


@pytest.mark.parametrize(("img_resolution", "num_blocks"), [(16, 1), (32, 2), (64, 3)])
def test_ds_parameters_keep_their_names(img_resolution, num_blocks):
    """Those of Sequential blocks with the last convolution behind them: older snapshots load."""
    batchnorm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = ["0.0.weight"]
    for block in range(1, num_blocks + 1):
        expected += [f"{block}.0.weight", *(f"{block}.1.{name}" for name in batchnorm)]
    D = Discriminator(img_resolution, 1, ndf=2)
    assert list(D.state_dict()) == [*expected, f"{num_blocks + 1}.weight"]
    assert D.state_dict()[f"{num_blocks + 1}.weight"].shape == (1, 2 << num_blocks, 4, 4)


def test_d_is_its_features_and_its_head():
    """The head begins with the last LeakyReLU, and ends in the convolution of the 4x4 image."""
    torch.manual_seed(0)
    D, img = Discriminator(16, 3, ndf=6).eval(), torch.randn(2, 3, 16, 16)
    features = D.features(img)
    assert features.shape == (2, 12, 4, 4)
    assert features.min() < -0.3 * features.max()  # not activated yet
    logits = nn.functional.conv2d(nn.functional.leaky_relu(features, 0.2), D.head.weight).flatten()
    assert torch.equal(D(img), logits)


def test_weights_start_from_normals_of_standard_deviation_0_02():
    torch.manual_seed(0)
    for network in (Generator(32, 3), Discriminator(32, 3)):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | Head):
                assert module.bias is None
                check_normal(module.weight, 0.0)
            elif isinstance(module, nn.BatchNorm2d):
                check_normal(module.weight, 1.0)
                assert not module.bias.any()


def check_normal(weight: torch.Tensor, mean: float) -> None:
    """Within five standard errors of N(mean, 0.02)."""
    error = 5 * 0.02 / weight.numel() ** 0.5
    assert weight.mean().item() == pytest.approx(mean, abs=error)
    assert weight.std().item() == pytest.approx(0.02, abs=error)


def test_z_is_a_vector_or_a_map_of_one_pixel_and_need_not_be_contiguous():
    torch.manual_seed(0)
    G = Generator(16, 1, z_dim=5, ngf=2).eval()
    z = torch.randn(3, 8)[:, :5]
    assert torch.equal(G(z), G(z.contiguous()))
    assert torch.equal(G(z), G(z.reshape(3, 5, 1, 1)))


def test_an_image_of_another_size_is_not_taken():
    with pytest.raises(RuntimeError):
        Discriminator(32, 1, ndf=2)(torch.randn(2, 1, 16, 16))
