"""DCGAN at every size it comes in."""
import math

import pytest
import torch
from torch import nn

from fastgan.errors import UserError
from fastgan.models.dcgan import ConcatDiscriminator, ConcatGenerator, Discriminator, Generator, ProjectionDiscriminator
from fastgan.nn.layers import BatchNorm2d, Deconv, Head, StridedConv
from fastgan.nn.norms import ImageNorm, Spectral, WeightNorm

SIZES = [(16, 1), (32, 3), (64, 3), (128, 1)]
NORMS = ["batch", "instance", "layer", "none", "spectral", "weight"]
C_DIM = 3
CONDITIONAL_G = {
    "concat": lambda: ConcatGenerator(16, 3, 5, 4, C_DIM, embed_dim=4),
    "projection": lambda: Generator(16, 3, 5, 4, c_dim=C_DIM),
}
CONDITIONAL_D = {
    "concat": lambda norm="batch": ConcatDiscriminator(16, 3, 4, C_DIM, norm),
    "projection": lambda norm="batch": ProjectionDiscriminator(16, 3, 4, C_DIM, norm),
}
conditionings = pytest.mark.parametrize("conditioning", CONDITIONAL_G)


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
    expected_D += sum(
        num_convolution(ndf * 2**level, 2 * ndf * 2**level) + 2 * 2 * ndf * 2**level for level in doublings
    )
    assert num_parameters(Generator(img_resolution, img_channels, z_dim, ngf)) == expected_G
    assert num_parameters(Discriminator(img_resolution, img_channels, ndf)) == expected_D


def test_the_sizes_of_the_paper():
    """3.6 and 2.8 million, as the PyTorch example has at 64 pixels in colour."""
    assert num_parameters(Generator(64, 3)) == 3_576_704
    assert num_parameters(Discriminator(64, 3)) == 2_765_568


@pytest.mark.parametrize(("img_resolution", "num_blocks"), [(16, 1), (32, 2), (64, 3)])
def test_ds_parameters_keep_their_names(img_resolution, num_blocks):
    """The names are those of Sequential blocks and the last convolution: older snapshots load."""
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
    """Check that values lie within five standard errors of N(mean, 0.02)."""
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


# --- normalisations ---------------------------------------------------------------------------------------------------


def layers_of(network: nn.Module, kind: type) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("norm", NORMS)
def test_one_normalisation_in_the_place_of_batchnorm(norm):
    torch.manual_seed(0)
    G, D = Generator(32, 3, 5, 4, norm), Discriminator(32, 3, 4, norm)
    img = G(torch.randn(2, 5))
    assert img.shape == (2, 3, 32, 32)
    assert D(img).shape == (2,)
    in_G, in_D = {
        "batch": (3, 2),
        "instance": (3, 2),
        "layer": (3, 2),
        "none": (0, 0),
        "spectral": (4, 4),
        "weight": (4, 4),
    }[norm]
    expected = {
        "batch": BatchNorm2d,
        "instance": ImageNorm,
        "layer": ImageNorm,
        "spectral": Spectral,
        "weight": WeightNorm,
    }
    for network, num in ((G, in_G), (D, in_D)):
        found = layers_of(network, (nn.BatchNorm2d, ImageNorm, Spectral, WeightNorm))
        assert [type(layer) for layer in found] == num * [expected.get(norm)]
        biases = [layer.bias is not None for layer in layers_of(network, (Deconv, StridedConv))]
        assert biases[:-1] == [norm in ("none", "spectral", "weight")] * (len(biases) - 1)
    gradients = torch.autograd.grad(D(G(torch.randn(2, 5))).sum(), [*G.parameters(), *D.parameters()])
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("norm", ["spectral", "weight"])
def test_weights_start_from_the_same_normals_under_a_normalisation_of_weights(norm):
    torch.manual_seed(0)
    D = Discriminator(32, 3, norm=norm)
    check_normal(D[1][0].layer.weight, 0.0)
    assert not isinstance(D.head, Head)  # whose fused loss would read the weight as it is


@pytest.mark.parametrize("norm", ["instance", "layer", "none", "spectral", "weight"])
@pytest.mark.parametrize("conditioning", [None, "concat", "projection"])
def test_a_penalty_is_differentiable(norm, conditioning):
    """The gradient for the image has a gradient for every parameter that it depends on."""
    torch.manual_seed(0)
    D = (CONDITIONAL_D[conditioning](norm) if conditioning else Discriminator(16, 3, 4, norm)).double().eval()
    img, c = torch.randn(2, 3, 16, 16, dtype=torch.float64, requires_grad=True), torch.tensor([0, 2])
    (slope,) = torch.autograd.grad(D(img, c).sum(), img, create_graph=True)
    weights = [parameter for parameter in D.parameters() if parameter.ndim == 4]
    gradients = torch.autograd.grad(slope.square().sum(), weights)
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)


# --- labels -----------------------------------------------------------------------------------------------------------


@conditionings
def test_the_class_changes_image_and_logit(conditioning):
    torch.manual_seed(0)
    G, D = CONDITIONAL_G[conditioning](), CONDITIONAL_D[conditioning]()
    if conditioning == "projection":  # all classes start as one in G
        nn.init.normal_(G[0][1].class_gain.weight)
    G, D = G.eval(), D.eval()
    z, zeros, twos = torch.randn(3, 5), torch.zeros(3, dtype=torch.int64), torch.full((3,), 2)
    img = G(z, zeros)
    assert img.shape == (3, 3, 16, 16)
    assert torch.equal(G(z, zeros), img)
    assert (G(z, twos) - img).abs().max() > 0.1 * img.abs().max()
    assert D(img, zeros).shape == (3,)
    assert not torch.equal(D(img, zeros), D(img, twos))
    assert torch.equal(D(img, torch.tensor([0, 2, 0]))[::2], D(img, zeros)[::2])


@conditionings
def test_gradients_reach_every_parameter(conditioning):
    torch.manual_seed(0)
    G, D = CONDITIONAL_G[conditioning](), CONDITIONAL_D[conditioning]()
    c = torch.tensor([0, 1, 2, 1])
    logits = D(G(torch.randn(4, 5), c), c)
    for gradient in torch.autograd.grad(logits.square().sum(), [*G.parameters(), *D.parameters()]):
        assert gradient.any()


def test_the_projection_is_the_inner_product_with_the_summed_features():
    torch.manual_seed(0)
    D, img, c = CONDITIONAL_D["projection"]().eval(), torch.randn(2, 3, 16, 16), torch.tensor([2, 1])
    h = D.layers(img).sum((2, 3))
    expected = h @ D.projection.linear.weight[0] + D.projection.linear.bias + (h * D.projection.embed.weight[c]).sum(1)
    torch.testing.assert_close(D(img, c), expected)


def test_without_labels_c_is_ignored():
    G, D = Generator(16, 1, z_dim=5, ngf=2).eval(), Discriminator(16, 1, ndf=2).eval()
    z, img = torch.randn(2, 5), torch.randn(2, 1, 16, 16)
    assert torch.equal(G(z, None), G(z))
    assert torch.equal(D(img, None), D(img))


def test_classes_are_batchnorms():
    with pytest.raises(UserError, match="'layer' cannot be class-conditional"):
        Generator(16, 3, norm="layer", c_dim=2)
