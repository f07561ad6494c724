"""R3GAN in widths that run in milliseconds."""
import pytest
import torch
import torch.nn.functional as F
from checking import check_gradients
from model_checks import check_gradients_reach_every_parameter, check_one_graph, check_penalty
from torch import nn

from fastgan.errors import UserError
from fastgan.models.r3gan import Discriminator, Generator, ResidualBlock, downsample, upsample

C_DIM = 3
# Stages of every form: widths that change, stay and grow, one or two blocks, groups of one channel
# and of all
STAGES = [
    ((8, 6, 4), (2, 3, 1), (1, 2, 1)),
    ((6, 6, 6), (12, 2, 4), (1, 1, 1)),
    ((6, 4, 4, 8), (2, 2, 2, 2), (1, 1, 1, 2)),
    ((4,), (1,), (2,)),
]
TWO_STAGES = ((4, 2), (2, 1), (1, 1))  # few activations, so that none changes sign between two differences
every_stage = pytest.mark.parametrize("stages", STAGES)
with_classes = pytest.mark.parametrize("c_dim", [0, C_DIM])


def make(stages: tuple, c_dim: int, num: int = 3, img_channels: int = 3) -> tuple:
    """Make (G, D, z, c, img), with random weights in the convolutions that start at 0."""
    torch.manual_seed(0)
    G = Generator(img_channels, 5, *stages, c_dim=c_dim, embedding_dim=4)
    D = Discriminator(img_channels, *stages, c_dim=c_dim, embedding_dim=4)
    for block in blocks_of(G) + blocks_of(D):
        for parameter in (block.contract.weight, block.expand_bias, block.mix_bias):
            nn.init.normal_(parameter, std=0.3)
    img_resolution = 4 << (len(stages[0]) - 1)
    c = torch.tensor([0, 2, 1])[:num] if c_dim else None
    return G, D, torch.randn(num, 5), c, torch.randn(num, img_channels, img_resolution, img_resolution)


def blocks_of(network: nn.Module) -> list[ResidualBlock]:
    return [module for module in network.modules() if isinstance(module, ResidualBlock)]


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@every_stage
@with_classes
@pytest.mark.parametrize(("num", "img_channels"), [(3, 3), (1, 1)])
def test_images_and_logits(stages, c_dim, num, img_channels):
    G, D, z, c, img = make(stages, c_dim, num, img_channels)
    assert G(z, c).shape == img.shape
    assert D(img, c).shape == (num,)


@every_stage
@with_classes
def test_every_parameter_has_a_gradient(stages, c_dim):
    G, D, z, c, _ = make(stages, c_dim)
    check_gradients_reach_every_parameter(G, D, z, c)


@with_classes
@pytest.mark.parametrize("stages", [TWO_STAGES, STAGES[3]])
def test_the_penalty_has_the_right_gradient(stages, c_dim):
    _, D, _, c, img = make(stages, c_dim)
    check_penalty(D, img, c)


@with_classes
def test_a_penalised_step_is_one_graph(c_dim):
    _, D, _, c, img = make(TWO_STAGES, c_dim)
    check_one_graph(D, img, c)


def test_the_class_changes_images_and_logits():
    G, D, z, c, img = make(STAGES[0], C_DIM)
    other = (c + 1) % C_DIM
    assert ((G(z, c) - G(z, other)).abs().amax((1, 2, 3)) > 1e-3).all()
    assert ((D(img, c) - D(img, other)).abs() > 1e-5).all()


def test_without_classes_c_is_ignored():
    G, D, z, _, img = make(STAGES[0], 0)
    c = torch.tensor([0, 1, 2])
    assert torch.equal(G(z, c), G(z))
    assert torch.equal(D(img, c), D(img))


def test_images_are_judged_and_made_one_by_one():
    G, D, z, _, img = make(STAGES[0], 0)
    torch.testing.assert_close(G(z[1:2]), G(z)[1:2])
    torch.testing.assert_close(D(img[1:2]), D(img)[1:2])


def test_any_memory_format_gives_the_same():
    G, D, z, c, img = make(STAGES[0], C_DIM)
    images, logits = G(z, c), D(img, c)
    G, D = (network.to(memory_format=torch.channels_last) for network in (G, D))
    torch.testing.assert_close(G(z, c), images)
    torch.testing.assert_close(D(img.contiguous(memory_format=torch.channels_last), c), logits)


def test_there_is_nothing_but_parameters():
    for network in make(STAGES[0], C_DIM)[:2]:
        assert not list(network.buffers())
        assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_network_starts_as_its_transitions():
    """Without their blocks, G is bilinear interpolation of a 4x4 picture between 1x1 convolutions."""
    torch.manual_seed(0)
    G, z = Generator(3, 5, *STAGES[0]), torch.randn(2, 5)
    x = torch.einsum("nz,wz,whv->nwhv", z, G.weigh.weight, G.basis)
    for transition in G.transitions:
        x = transition(upsample(x))
    torch.testing.assert_close(G(z), G.to_image(x))


def test_weights_start_from_fix_up():
    torch.manual_seed(0)
    widths, cardinalities, blocks = (64, 48), (8, 6), (2, 1)
    G = Generator(3, 40, widths, cardinalities, blocks, c_dim=10, embedding_dim=60)
    D = Discriminator(3, widths, cardinalities, blocks, c_dim=10, embedding_dim=60)
    gain = (2 / 1.04) ** 0.5 * 3**-0.25
    for block in blocks_of(G) + blocks_of(D):
        check_normal(block.expand.weight, gain * block.expand.in_channels**-0.5)
        check_normal(block.mix.weight, gain * (9 * 16) ** -0.5)  # 16 channels in a group
        assert not any(parameter.any() for parameter in (block.contract.weight, block.expand_bias, block.mix_bias))
    for weight, std in (
        (G.weigh.weight, 0.1),
        (G.basis, 1),
        (G.embedding.weight, 10**-0.5),
        (G.to_image.weight, 48**-0.5),
    ):
        check_normal(weight, std)
    for weight, std in (
        (D.basis, 1 / 4),
        (D.judge.weight, 1 / 8),
        (D.embedding.weight, (60 * 10) ** -0.5),
        (D.from_image.weight, 3**-0.5),
    ):
        check_normal(weight, std)
    for network, fan_in in ((G, 64), (D, 48)):
        check_normal(network.transitions[0].weight, fan_in**-0.5)


def check_normal(weight: torch.Tensor, std: float) -> None:
    """Check that values lie within five standard errors of N(0, std)."""
    assert weight.mean().item() == pytest.approx(0, abs=5 * std * weight.numel() ** -0.5)
    assert weight.std().item() == pytest.approx(std, rel=5 * (2 * weight.numel()) ** -0.5)


def test_numbers_of_parameters_in_closed_form():
    """The CIFAR-10 form, and the one for 256 pixels, whose fine stages are narrower.

    They are never in memory.
    """
    with torch.device("meta"):
        for widths, cardinalities in (((768,) * 4, (96,) * 4), ((768,) * 4 + (384, 192, 96), (96,) * 4 + (48, 24, 12))):
            stages = widths, cardinalities, (2,) * len(widths)
            # Two 1x1, 3x3 in groups of 16 channels, two biases
            blocks = sum(2 * (4 * w * w + 9 * 2 * w * 16 + 4 * w) for w in widths)
            transitions = sum(a * b for a, b in zip(widths[:-1], widths[1:], strict=True) if a != b)
            shared = blocks + transitions + 16 * 768 + 3 * widths[-1]
            assert num_parameters(Generator(3, 64, *stages)) == shared + 64 * 768
            assert num_parameters(Discriminator(3, *stages)) == shared + 768
            assert num_parameters(Generator(3, 64, *stages, c_dim=10)) == shared + (64 + 64) * 768 + 10 * 64
            assert num_parameters(Discriminator(3, *stages, c_dim=10)) == shared + 64 * 768 + 10 * 64


def test_4x4_stages_and_logits_are_float32_under_autocast():
    G, D, z, c, img = make(STAGES[0], C_DIM)
    seen = []
    for stage in (G.stages[0], D.stages[-1], G.stages[1], D.stages[0]):
        stage.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        images, logits = G(z, c), D(img, c)
    assert seen == [torch.float32, torch.bfloat16, torch.bfloat16, torch.float32]
    assert (images.dtype, logits.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(images.float(), G(z, c), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (1, 1, 1, 1), (1, 5, 1, 3)])
def test_upsampling_keeps_pixels_and_puts_means_between(shape):
    torch.manual_seed(0)
    x = torch.randn(shape)
    y, right, below = upsample(x), F.pad(x, (0, 1))[..., 1:], F.pad(x, (0, 0, 0, 1))[:, :, 1:]
    diagonal = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
    assert y.shape == (*shape[:2], 2 * shape[2], 2 * shape[3])
    torch.testing.assert_close(y[..., ::2, ::2], x)
    torch.testing.assert_close(y[..., ::2, 1::2], (x + right) / 2)
    torch.testing.assert_close(y[..., 1::2, ::2], (x + below) / 2)
    torch.testing.assert_close(y[..., 1::2, 1::2], (x + right + below + diagonal) / 4)


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (1, 1, 2, 2), (1, 5, 2, 8)])
def test_downsampling_is_a_quarter_of_what_undoes_upsampling(shape):
    """<up(x), y> = 4 <x, down(y)>: the two filters are transposes of each other, up to their sums.

    The sums are 4 and 1.
    """
    torch.manual_seed(0)
    y = torch.randn(shape)
    x = torch.randn(*shape[:2], shape[2] // 2, shape[3] // 2)
    torch.testing.assert_close((upsample(x) * y).sum(), 4 * (x * downsample(y)).sum())
    torch.testing.assert_close(downsample(torch.ones(1, 2, 8, 8))[..., 1:, 1:], torch.ones(1, 2, 3, 3))


@pytest.mark.parametrize("resample", [upsample, downsample])
def test_resampling_in_bf16_keeps_dtype_and_format_and_rounds_once(resample):
    x = torch.randn(2, 5, 6, 4).bfloat16().to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = resample(x)
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last)
    # Half a step of bf16, and float32 on its edge
    torch.testing.assert_close(y, resample(x.double()).bfloat16(), rtol=0.008, atol=1e-6)


@pytest.mark.parametrize("resample", [upsample, downsample])
def test_resampling_has_gradients_of_both_orders(resample):
    check_gradients(lambda x: resample(x).square(), [torch.randn(2, 2, 4, 2)])


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        (((8, 8), (2,), (1, 1)), "for every stage"),
        (((), (), ()), "for every stage"),
        (((8, 6), (2, 5), (1, 1)), "cardinality 5 must divide 12"),
    ],
)
def test_stages_that_do_not_fit_are_refused(stages, problem):
    for make_network in (lambda: Generator(3, 5, *stages), lambda: Discriminator(3, *stages)):
        with pytest.raises(UserError, match=problem):
            make_network()
