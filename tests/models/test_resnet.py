"""Residual networks at the sizes of their papers, in widths that run in milliseconds."""
import pytest
import torch
from model_checks import check_gradients_reach_every_parameter, check_one_graph, check_penalty
from torch import nn

from fastgan.models.res_blocks import DownBlock, UpBlock, down_blocks, flat_widths, small_image, tapered_widths
from fastgan.models.resnet import ConvDiscriminator, ConvGenerator, Discriminator, Generator, StemDiscriminator
from fastgan.nn.norms import ImageNorm, Spectral

C_DIM = 3
# (G, D, True if they are conditional, img_resolution)
PAIRS = {
    "wgan-gp": (lambda: Generator(flat_widths(16, 6), z_dim=5), lambda: Discriminator((4, 4, 4), 2), False, 16),
    "wgan-gp 32": (lambda: Generator(flat_widths(32, 4), 1, 5), lambda: Discriminator((4,) * 4, 2, 1), False, 32),
    "wgan-gp 64": (
        lambda: Generator(tapered_widths(64, 2, 8), z_dim=5),
        lambda: StemDiscriminator(tapered_widths(64, 2, 8)[::-1]),
        False,
        64,
    ),
    "wgan-gp conv": (lambda: ConvGenerator(16, 3, 5, 4), lambda: ConvDiscriminator(16, 3, 4), False, 16),
    "sngan": (
        lambda: Generator(flat_widths(16, 6), z_dim=5),
        lambda: Discriminator((4, 4), 2, norm="spectral", pool="sum"),
        False,
        16,
    ),
    "sngan 128": (
        lambda: Generator(tapered_widths(128, 2), z_dim=5),
        lambda: Discriminator((2, 4, 8, 16, 32, 32), 5, norm="spectral", pool="sum"),
        False,
        128,
    ),
    "projection": (
        lambda: Generator(flat_widths(16, 6), z_dim=5, c_dim=C_DIM),
        lambda: Discriminator((4, 6), 2, norm="spectral", pool="sum", c_dim=C_DIM),
        True,
        16,
    ),
    "acgan": (
        lambda: Generator(flat_widths(16, 6), z_dim=5, c_dim=C_DIM),
        lambda: Discriminator((4, 6), 2, c_dim=C_DIM, classifier=True),
        True,
        16,
    ),
}
pairs = pytest.mark.parametrize("name", PAIRS)
small_pairs = pytest.mark.parametrize(
    "name", [name for name, (*_, img_resolution) in PAIRS.items() if img_resolution == 16]
)


def make(name: str, num: int = 3) -> tuple:
    """Make (G, D, z, c, img)."""
    torch.manual_seed(0)
    make_G, make_D, knows_classes, img_resolution = PAIRS[name]
    G, D, z = make_G(), make_D(), torch.randn(num, 5)
    c = torch.tensor([0, 2, 1, 2])[:num] if knows_classes else None
    img_channels = [module for module in G.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)][
        -1
    ].out_channels
    return G, D, z, c, torch.randn(num, img_channels, img_resolution, img_resolution)


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pairs
def test_images_and_logits(name):
    G, D, z, c, img = make(name)
    fake_img = G(z, c)
    assert fake_img.shape == img.shape
    assert -1 <= fake_img.min() < fake_img.max() <= 1
    logits = D(fake_img, c)
    if name == "acgan":
        assert [tuple(part.shape) for part in logits] == [(3,), (3, C_DIM)]
    else:
        assert logits.shape == (3,)
        assert D(img[:1], None if c is None else c[:1]).shape == (1,)


@pairs
def test_gradients_reach_every_parameter(name):
    G, D, z, c, _ = make(name)
    if c is not None:
        z, c = torch.randn(4, 5), torch.tensor([0, 1, 2, 1])
    check_gradients_reach_every_parameter(G, D, z, c)


@small_pairs
def test_a_penalty_has_the_right_gradient(name):
    _, D, _, c, img = make(name)
    check_penalty(D, img, c)


@pytest.mark.parametrize("name", ["wgan-gp conv", "acgan"])
def test_a_penalised_step_is_one_graph(name):
    _, D, _, c, img = make(name)
    check_one_graph(D, img, c)


def test_a_penalised_step_with_layer_normalisation_is_one_graph():
    torch.manual_seed(0)
    check_one_graph(StemDiscriminator((4, 6)), torch.randn(2, 3, 8, 8), None)


@pairs
def test_memory_formats_do_not_matter(name):
    G, D, z, c, img = make(name)
    G, D = G.eval(), D.eval()
    expected_img, expected = G(z, c), D(img, c)
    G, D = G.to(memory_format=torch.channels_last), D.to(memory_format=torch.channels_last)
    torch.testing.assert_close(G(z, c), expected_img, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(D(img.contiguous(memory_format=torch.channels_last), c), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("make_network", "num_in_source"), [
    (lambda: Generator(flat_widths(32, 256)), 4_276_739),
    (lambda: Discriminator((128,) * 4, 2, norm="spectral", pool="sum"), 1_053_824),
    (lambda: Generator(tapered_widths(128, 64)), 32_150_787),
    (lambda: Discriminator((64, 128, 256, 512, 1024, 1024), 5, norm="spectral", pool="sum"), 29_017_856),
])  # fmt: skip
def test_numbers_of_parameters_of_sngan(make_network, num_in_source):
    assert num_parameters(make_network()) == num_in_source


def test_numbers_of_parameters_in_closed_form():
    def conv(fan_in, fan_out, size=3):
        return size * size * fan_in * fan_out + fan_out

    widths = tapered_widths(64, 8, 8)
    assert widths == (64, 64, 32, 16, 8)
    expected_G = 5 * 1024 + 1024 + 2 * 8 + conv(8, 3)
    expected_G += sum(
        2 * a + conv(a, b) + 2 * b + conv(b, b) + conv(a, b, 1) for a, b in zip(widths[:-1], widths[1:], strict=True)
    )
    assert num_parameters(Generator(widths, z_dim=5)) == expected_G
    widths = widths[::-1]
    expected_D = conv(3, 8) + 16 * 64 + 1
    expected_D += sum(
        2 * a + conv(a, a) + 2 * a + conv(a, b) + conv(a, b, 1) for a, b in zip(widths[:-1], widths[1:], strict=True)
    )
    assert num_parameters(StemDiscriminator(widths)) == expected_D
    expected_D = 75 * 4 + 4 + 25 * 4 * 8 + 8 + 25 * 8 * 16 + 16 + 256 + 1
    assert num_parameters(ConvDiscriminator(32, 3, 4)) == expected_D


def test_every_weight_of_sngans_d_is_spectrally_normalised():
    D = Discriminator((4, 6), 2, norm="spectral", c_dim=C_DIM)
    wrapped = [module.layer for module in D.modules() if isinstance(module, Spectral)]
    assert [parameter.shape for parameter in D.parameters() if parameter.ndim > 1] == [
        layer.weight.shape for layer in wrapped
    ]
    assert D.head.linear.layer.bias is None


def test_normalisations_of_d():
    assert [type(block.before) for block in Discriminator((4, 4), 1).blocks] == [nn.Identity, nn.Sequential]
    assert sum(isinstance(module, ImageNorm) for module in Discriminator((4, 4), 1, norm="layer").modules()) == 3


def test_sum_and_mean_of_the_features():
    torch.manual_seed(0)
    D, img = Discriminator((4, 4), 2, pool="mean"), torch.randn(2, 3, 16, 16)
    mean = D(img)
    D.pool = "sum"
    torch.testing.assert_close(D(img), 16 * mean)


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_a_block_up_is_what_the_papers_compute():
    torch.manual_seed(0)
    block, x = UpBlock(3, 5), torch.randn(2, 3, 2, 4)
    double = nn.Upsample(scale_factor=2)
    h = nn.functional.conv2d(double(block.norm1(x).relu()), block.conv1.weight, block.conv1.bias, padding=1)
    expected = block.conv2(block.norm2(h).relu()) + block.shortcut(double(x))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", [True, False])
def test_a_block_down_is_what_the_papers_compute(first):
    torch.manual_seed(0)
    block, x = DownBlock(3, 5, 4, first=first), torch.randn(2, 3, 4, 6)
    h = block.conv1(x if first else x.relu()).relu()
    h = nn.functional.conv2d(h, block.conv2.weight, block.conv2.bias, padding=1)
    expected = nn.functional.avg_pool2d(h + block.shortcut(x), 2)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_shortcuts_are_the_image_itself_where_the_shape_stays():
    stays, grows = DownBlock(4, 4, 4, down=False), DownBlock(4, 6, 4, down=False)
    assert isinstance(stays.shortcut, nn.Identity)
    x = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(stays(x), stays.conv2(stays.conv1(x.relu()).relu()) + x)
    assert grows(x).shape == (1, 6, 3, 3)


@pytest.mark.parametrize(("wide", "hidden"), [(False, [4, 4, 6]), (True, [4, 6, 6])])
def test_blocks_of_a_discriminator(wide, hidden):
    blocks = down_blocks((3, 4, 6, 6), 2, wide=wide)
    assert [block.conv1.out_channels for block in blocks] == hidden
    assert [isinstance(block.pool, nn.AvgPool2d) for block in blocks] == [True, True, False]


def test_a_small_image_has_the_features_in_order():
    features = torch.randn(2, 48)
    img = small_image(features)
    assert torch.equal(img, features.view(2, 3, 4, 4))
    assert img.is_contiguous(memory_format=torch.channels_last)


# --- initialisation ---------------------------------------------------------------------------------------------------


def check_uniform(weight: torch.Tensor, variance: float) -> None:
    """Check that values lie within five standard errors of this uniform variable of mean 0."""
    bound = (3 * variance) ** 0.5
    assert 0.97 * bound < weight.abs().max() <= bound
    assert weight.square().mean().item() == pytest.approx(variance, rel=5 * (0.8 / weight.numel()) ** 0.5)


def test_weights_start_from_uniform_ones():
    torch.manual_seed(0)
    G, D = Generator(flat_widths(16, 32)), Discriminator((48, 32), 2, c_dim=40)
    check_uniform(G.input.weight, 2 / (128 + 512))
    check_uniform(G.blocks[0].conv1.weight, 4 / (9 * 64))
    check_uniform(G.blocks[1].conv2.weight, 4 / (9 * 64))
    check_uniform(G.blocks[1].shortcut.weight, 2 / 64)
    check_uniform(G.output[2].weight, 2 / (9 * 35))
    check_uniform(D.blocks[1].conv2.weight, 4 / (9 * 80))
    check_uniform(D.head.embed.weight, 2 / 72)
    for network in (G, D):
        assert not any(parameter.any() for name, parameter in network.named_parameters() if name.endswith("bias"))


def test_strides_count_in_the_plain_convolutions():
    torch.manual_seed(0)
    G, D = ConvGenerator(16, 3, 20, 32), ConvDiscriminator(16, 3, 32)
    check_uniform(G.layers[0].weight, 4 / (64 * 25 / 4 + 32 * 25))
    check_uniform(D.layers[2].weight, 4 / (32 * 25 + 64 * 25 / 4))
    check_uniform(G.input.weight, 2 / (20 + 1024))


def test_no_bias_stands_before_a_batchnorm_of_the_plain_generator():
    """BatchNorm would subtract a bias again."""
    G = ConvGenerator(16, 3, 5, 4)
    norms = [name for name, module in G.named_modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    biases = {name for name, _ in G.named_parameters() if name.endswith("bias")}
    assert biases == {f"{name}.bias" for name in norms} | {"layers.2.bias"}


def test_the_class_changes_image_and_logit():
    G, D, z, _, img = make("projection")
    nn.init.normal_(G.blocks[0].norm1.class_gain.weight)
    G, D = G.eval(), D.eval()
    zeros, twos = torch.zeros(3, dtype=torch.int64), torch.full((3,), 2)
    assert not torch.allclose(G(z, zeros), G(z, twos), atol=1e-3)
    assert not torch.allclose(D(img, zeros), D(img, twos), atol=1e-3)
