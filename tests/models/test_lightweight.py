"""The light-weight GAN at all of its sizes, in widths that run in milliseconds."""
import pytest
import torch
import torch.nn.functional as F
from model_checks import check_one_graph, check_penalty
from torch import nn

from fastgan.errors import UserError
from fastgan.models.lightweight import SIZES, Discriminator, Gate, Generator, Noise, _quadrant
from fastgan.nn.norms import Spectral

QUICK_SIZES = SIZES[:4]


def make(img_resolution: int, width: float = 1 / 64, num: int = 2, img_channels: int = 3) -> tuple:
    """Make (G, D, z, img)."""
    torch.manual_seed(0)
    G, D = Generator(img_resolution, img_channels, 5, width), Discriminator(img_resolution, img_channels, width)
    return G, D, torch.randn(num, 5), torch.rand(num, img_channels, img_resolution, img_resolution) * 2 - 1


class Called(nn.Module):
    """D as the checks call it, with a class, which D does not use."""

    def __init__(self, D: nn.Module):
        super().__init__()
        self.D = D

    def forward(self, img: torch.Tensor, c: None) -> torch.Tensor:
        return self.D(img)


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("img_resolution", SIZES)
def test_images_logits_and_reconstructions(img_resolution):
    G, D, z, img = make(img_resolution)
    fake_img, logits = G(z), D(img)
    assert fake_img.shape == img.shape
    assert -1 <= fake_img.min() < fake_img.max() <= 1
    assert logits.shape == (2, 26 if img_resolution == 16 else 50)
    assert D.small == min(128, img_resolution // 2)
    _, loss = D.forward_and_reconstruct(img)
    assert loss.shape == (2,)
    assert (loss > 0).all()
    assert (loss < 6).all()


@pytest.mark.parametrize(("num", "img_channels"), [(1, 1), (3, 5)])
def test_any_number_of_images_and_channels(num, img_channels):
    G, D, z, img = make(32, num=num, img_channels=img_channels)
    assert G(z).shape == img.shape
    assert D.forward_and_reconstruct(img)[0].shape == (num, 50)


def test_the_levels_of_the_paper():
    """The levels and gates at 256 pixels.

    Gates 4 -> 64, 8 -> 128, 16 -> 256 in G and 256 -> 32, 128 -> 16, 64 -> 8 in D, five halvings, a
    small copy of 128.
    """
    with torch.device("meta"):
        G, D = Generator(256, 3), Discriminator(256, 3)
    assert (list(G.levels), list(G.gates)) == (["8", "16", "32", "64", "128", "256"], ["64", "128", "256"])
    assert (list(D.levels), list(D.gates)) == (["128", "64", "32", "16", "8"], ["32", "16", "8"])
    convolutions = [module.layer for module in G.levels.modules() if isinstance(module, Spectral)]
    ways = [(conv.in_channels, conv.out_channels) for conv in convolutions]
    assert ways == [
        (1024, 1024),
        (512, 1024),
        (512, 512),
        (256, 256),
        (128, 256),
        (128, 256),
        (128, 128),
        (64, 128),
        (64, 64),
    ]
    assert sum(isinstance(module, Noise) for module in G.modules()) == 6


@pytest.mark.parametrize("img_resolution", SIZES)
def test_gates_stand_where_their_levels_do(img_resolution):
    G, D, _, _ = make(img_resolution)
    assert list(G.gates) == [str(size) for size in (64, 128, 256, 512) if size <= img_resolution]
    assert list(D.gates) == [str(size) for size in (32, 16, 8) if 8 * size <= min(256, img_resolution)]


def test_every_convolution_is_normalised_and_none_has_a_bias():
    for network in make(64)[:2]:
        wrapped = {id(module.layer) for module in network.modules() if isinstance(module, Spectral)}
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
        assert wrapped == {id(convolution) for convolution in convolutions}
        assert all(convolution.bias is None for convolution in convolutions)


def test_weights_start_from_normals_of_standard_deviation_0_02():
    torch.manual_seed(0)
    for network in (Generator(32, 3, 16, 0.25), Discriminator(32, 3, 0.25)):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                assert module.weight.std().item() == pytest.approx(0.02, rel=5 * (2 * module.weight.numel()) ** -0.5)


def test_width_scales_the_channels():
    with torch.device("meta"):
        for half, full in (
            (Generator(256, 3, 8, 0.5), Generator(256, 3, 8)),
            (Discriminator(256, 3, 0.5), Discriminator(256, 3)),
        ):
            assert num_parameters(half) == pytest.approx(num_parameters(full) / 4, rel=0.05)


@pytest.mark.parametrize("img_resolution", [16, 64])
def test_every_parameter_has_a_gradient(img_resolution):
    G, D, z, img = make(img_resolution, num=4)
    for module in G.modules():
        if isinstance(module, Noise):
            nn.init.ones_(module.weight)
    _, loss = D.forward_and_reconstruct(img)
    judged = D(G(z)).square().sum()
    state = torch.nn.ModuleDict({"G": G, "D": D})
    gradients = torch.autograd.grad(judged + loss.sum(), list(state.parameters()))
    assert [
        name for (name, _), gradient in zip(state.named_parameters(), gradients, strict=True) if not gradient.any()
    ] == []


def test_the_penalty_has_the_right_gradient():
    """At the smallest size with a gate."""
    _, D, _, img = make(64)
    check_penalty(Called(D), img, None)


def test_a_penalised_step_is_one_graph():
    _, D, _, img = make(16)
    check_one_graph(Called(D), img, None)


def test_judging_and_reconstructing_is_one_graph():
    _, D, _, img = make(16)
    D.eval()

    def losses(img: torch.Tensor) -> list[torch.Tensor]:
        logits, loss = D.forward_and_reconstruct(img)
        return [logits.detach(), *torch.autograd.grad(logits.mean() + loss.mean(), list(D.parameters()))]

    with torch._dynamo.config.patch(trace_autograd_ops=True):
        traced = torch.compile(losses, fullgraph=True, dynamic=False, backend="aot_eager")
        torch.manual_seed(1)
        ours = traced(img)
    torch.manual_seed(1)
    for one, other in zip(ours, losses(img), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())


@pytest.mark.parametrize("img_resolution", QUICK_SIZES)
def test_real_images_are_judged_as_d_judges_them(img_resolution):
    _, D, _, img = make(img_resolution)
    D.eval()
    assert torch.equal(D.forward_and_reconstruct(img)[0], D(img))


def test_the_loss_is_the_distance_of_three_pictures():
    """The loss with decoders that are replaced by constants.

    It compares the whole picture twice, and the drawn quadrant of the image.
    """
    _, D, _, _ = make(32)
    img = torch.tensor([[0.5, 0.1], [-0.3, 0.9]]).repeat_interleave(16, 0).repeat_interleave(16, 1).expand(1, 3, 32, 32)
    for decoder, shade in ((D.decode_whole, 0.0), (D.decode_small, 1.0), (D.decode_part, 0.0)):
        decoder.forward = lambda x, shade=shade: torch.full((1, 3, 16, 16), shade)
    losses = {round(D.forward_and_reconstruct(img)[1].item(), 4) for _ in range(40)}
    whole = (0.5 + 0.1 + 0.3 + 0.9) / 4 + (0.5 + 0.9 + 1.3 + 0.1) / 4
    assert losses == {round(whole + part, 4) for part in (0.5, 0.1, 0.3, 0.9)}


def test_each_image_has_its_own_quadrant():
    x = torch.arange(4.0).view(1, 1, 2, 2).expand(4, 3, 2, 2)
    is_top, is_left = (
        torch.tensor(which).view(4, 1, 1, 1) for which in ([True, True, False, False], [True, False, True, False])
    )
    assert torch.equal(_quadrant(x, is_top, is_left), torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 1, 1))


def test_the_second_discriminator_sees_means_of_areas_alone():
    _, D, _, img = make(32)
    D.eval()
    swapped = img.view(2, 3, 16, 2, 16, 2).flip(3).reshape(img.shape)
    difference = D(img) - D(swapped)
    assert difference[:, :25].abs().max() > 1e-4
    torch.testing.assert_close(difference[:, 25:], torch.zeros(2, 25), rtol=0, atol=1e-6)


def test_a_gate_weighs_channels():
    torch.manual_seed(0)
    gate, x = Gate(3, 5, 8), torch.randn(2, 3, 8, 8)
    weights = gate(x)
    assert weights.shape == (2, 5, 1, 1)
    assert 0 < weights.min() < weights.max() < 1
    torch.testing.assert_close(gate(F.avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)), weights)


def test_gates_weigh_the_levels_of_their_size():
    """A gate that is shut leaves nothing of the last level: black stays where tanh is 0."""
    G, D, z, img = make(64)
    shut_gate(G.gates["64"])
    assert not G(z).any()
    shut_gate(D.gates["8"])
    assert not D.eval()(img)[:, :25].any()


def shut_gate(gate: Gate) -> None:
    gate.register_forward_hook(lambda module, inputs, weights: torch.zeros_like(weights))


def test_noise_while_training_alone():
    noise, x = Noise(), torch.zeros(500, 3, 2, 2)
    assert torch.equal(noise(x), x)  # it starts at 0
    nn.init.constant_(noise.weight, 0.5)
    y = noise(x)
    assert y.std().item() == pytest.approx(0.5, rel=0.1)
    assert torch.equal(y[:, 0], y[:, 2])  # one picture of noise for all channels
    assert torch.equal(noise.eval()(x), x)


def test_any_memory_format_gives_the_same():
    G, D, z, img = make(64)
    G.eval(), D.eval()
    images, logits = G(z), D(img)
    G, D = (network.to(memory_format=torch.channels_last) for network in (G, D))
    torch.testing.assert_close(G(z), images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(D(img.contiguous(memory_format=torch.channels_last)), logits, rtol=1e-4, atol=1e-5)


def test_everything_runs_under_autocast():
    G, D, z, img = make(32)
    with torch.autocast("cpu", torch.bfloat16):
        assert G(z).isfinite().all()
        logits, loss = D.forward_and_reconstruct(img)
    assert logits.isfinite().all()
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("img_resolution", [8, 48, 2048])
def test_other_sizes_are_refused(img_resolution):
    for network in (Generator, Discriminator):
        with pytest.raises(UserError, match=f"{img_resolution} is not one of 16, 32"):
            network(img_resolution, 3)
