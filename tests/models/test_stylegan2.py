"""StyleGAN2's networks: sizes, styles, classes, and the penalties that differentiate them twice."""
import pytest
import torch

from fastgan.errors import UserError
from fastgan.models.stylegan2 import Discriminator, Generator
from fastgan.models.stylegan2_layers import EqualConv, EqualLinear, StyledConv, ToImage

TINY = {"channel_base": 64, "channel_max": 8}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def tiny_G(img_resolution=16, img_channels=3, z_dim=6, w_dim=5, mapping_layers=2, **rest) -> Generator:
    return Generator(img_resolution, img_channels, z_dim, w_dim, mapping_layers=mapping_layers, **TINY, **rest)


def tiny_D(img_resolution=16, img_channels=3, mapping_layers=2, **rest) -> Discriminator:
    return Discriminator(img_resolution, img_channels, mapping_layers=mapping_layers, **TINY, **rest)


def with_noise(G: Generator) -> Generator:
    """Give the noise a strength, as after some training."""
    with torch.no_grad():
        for conv in G.synthesis.convs:
            conv.noise.strength.fill_(0.3)
    return G


def num_parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def r1_gradients(
    D: Discriminator, img: torch.Tensor, grad_probe: torch.Tensor, c: torch.Tensor | None
) -> list[torch.Tensor]:
    """Return the gradient of R1 with respect to D's parameters."""
    (slope,) = torch.autograd.grad(D(img + grad_probe, c).sum(), grad_probe, create_graph=True)
    return gradients_of(slope.square().sum((1, 2, 3)).mean(), D)


def path_length_gradients(
    G: Generator, z: torch.Tensor, c: torch.Tensor | None, noise: torch.Tensor
) -> list[torch.Tensor]:
    """Return the gradient of the path length penalty with respect to G's parameters."""
    ws = G.mapping(z, c)
    (slope,) = torch.autograd.grad((G.synthesis(ws) * noise).sum(), ws, create_graph=True)
    return gradients_of((slope.square().sum(2).mean(1).sqrt() - 1).square().mean(), G)


def gradients_of(loss: torch.Tensor, network: torch.nn.Module) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("img_resolution", [8, 16, 32, 64, 128])
@pytest.mark.parametrize("architecture", ["resnet", "orig"])
def test_sizes(img_resolution, architecture):
    sizes = {"channel_base": 256, "channel_max": 8}
    G, D = (
        Generator(img_resolution, 1, 6, 5, mapping_layers=2, **sizes),
        Discriminator(img_resolution, 1, architecture=architecture, **sizes),
    )
    img = G(torch.randn(2, 6))
    assert img.shape == (2, 1, img_resolution, img_resolution)
    assert img.dtype == torch.float32
    assert 0.2 < img.std() < 5  # equalised: neither vanishes nor explodes with depth
    assert D(img).shape == (2,)
    assert G.synthesis.num_ws == 2 * (img_resolution.bit_length() - 2)
    assert G.mapping(torch.randn(2, 6)).shape == (2, G.synthesis.num_ws, 5)


def test_the_sizes_of_the_paper_at_256():
    """24.8 and 24.0 million parameters.

    512 channels up to 32x32, then half as many at every doubling.
    """
    with torch.device("meta"):
        G, D = Generator(256, 3), Discriminator(256, 3)
    assert num_parameters(G) == 24_767_458
    assert num_parameters(D) == 24_001_089
    assert [conv.bias.numel() for conv in G.synthesis.convs] == [512] * 7 + [256] * 2 + [128] * 2 + [64] * 2
    assert G.synthesis.num_ws == 14
    assert [block.skip.weight.shape[0] for block in D.blocks] == [128, 256, 512, 512, 512, 512]


def test_numbers_of_parameters_in_closed_form():
    z, w, img, wide, narrow = 6, 5, 3, 8, 4  # 16x16: 8 channels at 4x4 and 8x8, 4 at 16x16

    def affine(width):
        return w * width + width

    def styled(fan_in, fan_out):
        return 9 * fan_in * fan_out + fan_out + 1 + affine(fan_in)

    expected = (
        z * w + w + w * w + w + 16 * wide + 3 * styled(wide, wide) + styled(wide, narrow) + styled(narrow, narrow)
    )
    expected += sum(img * width + img + affine(width) for width in (wide, wide, narrow))
    assert num_parameters(tiny_G()) == expected
    plain = (
        img * narrow + narrow + 9 * narrow * narrow + narrow + 9 * narrow * wide + wide + 2 * (9 * wide * wide + wide)
    )
    plain += 9 * (wide + 1) * wide + wide + 16 * wide * wide + wide + wide + 1
    assert num_parameters(tiny_D(architecture="orig")) == plain
    assert num_parameters(tiny_D()) == plain + narrow * wide + wide * wide


def test_initial_values():
    G, D = Generator(32, 3, 64, 48, channel_max=64, mapping_layers=3), Discriminator(32, 3, channel_max=64)
    assert G.synthesis.const.shape == (1, 64, 4, 4)
    assert G.synthesis.const.std().item() == pytest.approx(1, abs=0.15)
    for network in (G, D):
        for module in network.modules():
            if isinstance(module, EqualLinear | EqualConv | StyledConv | ToImage):
                std = 100 if getattr(module, "lr_multiplier", 1) == 0.01 else 1
                assert module.weight.std().item() == pytest.approx(std, rel=8 / module.weight.numel() ** 0.5)
            if isinstance(module, StyledConv):
                assert module.noise.strength == 0
            if isinstance(module, StyledConv | ToImage):
                assert (module.style.bias == 1).all()
                assert not module.bias.any()
    assert not any(layer.bias.any() for layer in G.mapping.layers.layers)
    assert G.mapping(torch.randn(8, 64)).std() > 0.1


@pytest.mark.parametrize(
    ("img_resolution", "channel_base", "words"),
    [(4, 64, "8, 16, 32"), (100, 512, "8, 16, 32"), (64, 32, "channel_base")],
)
def test_other_sizes_are_refused(img_resolution, channel_base, words):
    for network in (Generator, Discriminator):
        with pytest.raises(UserError, match=words):
            network(img_resolution, 3, channel_base=channel_base)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(UserError, match="resnet or orig"):
        tiny_D(architecture="skip")


def test_every_style_reaches_its_layer_and_coarse_ones_what_is_finer():
    """A change of style k leaves what the layers before it give, and changes the image."""
    G = tiny_G().eval()
    ws = G.mapping(torch.randn(2, 6)).clone()
    img, seen = G.synthesis(ws), []
    hooks = [conv.register_forward_hook(lambda module, args, y: seen.append(y)) for conv in G.synthesis.convs]
    G.synthesis(ws)
    before = seen.copy()
    for layer in range(G.synthesis.num_ws):
        changed = ws.clone()
        changed[:, layer] += 1
        seen.clear()
        assert not torch.equal(G.synthesis(changed), img)
        same = [torch.equal(old, new) for old, new in zip(before, seen, strict=True)]
        assert same == [k < layer for k in range(len(same))]
    for hook in hooks:
        hook.remove()


def test_a_grid_of_mixed_styles_from_two_sets_of_styles():
    """Coarse styles of one image and fine ones of another make a third."""
    G = tiny_G().eval()
    first, second = G.mapping(torch.randn(2, 6))
    mixed = torch.cat([first[:2], second[2:]])
    images = G.synthesis(torch.stack([first, mixed, second]))
    assert not torch.allclose(images[0], images[1])
    assert not torch.allclose(images[1], images[2])


def test_mixing_happens_in_training_for_its_part_of_the_images_at_any_layer_but_the_first():
    G, z = tiny_G(style_mixing=0.75), torch.randn(1, 6).repeat(2000, 1)
    own = G.mapping(z[:1])
    is_own = torch.isclose(G.mixed_styles(z), own, atol=1e-5).all(2)  # [N, num_ws]
    assert is_own[:, 0].all()
    assert (is_own[:, 1:] <= is_own[:, :-1]).all()  # once another z has begun, it stays
    assert 1 - is_own.all(1).float().mean().item() == pytest.approx(0.75, abs=0.05)
    starts = is_own.sum(1)
    assert set(starts.tolist()) == set(range(1, G.synthesis.num_ws + 1))
    assert torch.equal(G.mapping(z[:2])[:, 0], G.mapping(z[:2])[:, -1])
    G.style_mixing = 0.0
    torch.testing.assert_close(G.mixed_styles(z[:3]), own.expand(3, -1, -1))


def test_the_average_style_follows_in_training_alone():
    G = tiny_G(style_mixing=0.0)
    z = torch.randn(500, 6)
    mean = G.eval().mapping(z)[:, 0].mean(0)
    assert not G.mapping.w_avg.any()
    G.train().mapping(z)
    torch.testing.assert_close(G.mapping.w_avg, 0.002 * mean)
    G.mapping(z)
    torch.testing.assert_close(G.mapping.w_avg, (1 - 0.998**2) * mean)


def test_truncation_goes_from_the_average_image_to_the_whole_range():
    G, z = tiny_G().eval(), torch.randn(4, 6)
    G.mapping.w_avg.normal_()
    average = G.synthesis(G.mapping.w_avg.expand(4, G.synthesis.num_ws, -1))
    ws = G.mapping(z)
    torch.testing.assert_close(G.synthesis(G.truncated(ws, 0.0)), average)
    torch.testing.assert_close(G.synthesis(G.truncated(ws, 1.0)), G(z))
    torch.testing.assert_close(G.truncated(ws, 0.3), G.mapping.w_avg + 0.3 * (ws - G.mapping.w_avg))


def test_samples_are_reproducible_and_training_images_are_not():
    G, z = with_noise(tiny_G(style_mixing=0.0)), torch.randn(2, 6)
    assert not torch.equal(G(z), G(z))
    G.eval()
    state = torch.get_rng_state()
    assert torch.equal(G(z), G(z))
    assert torch.equal(torch.get_rng_state(), state)
    copy = tiny_G(style_mixing=0.0).eval()
    copy.load_state_dict(G.state_dict())
    assert torch.equal(copy(z), G(z))


def test_a_class_changes_images_and_logits():
    G, D = tiny_G(c_dim=3).eval(), tiny_D(c_dim=3)
    z, c = torch.randn(1, 6).repeat(3, 1), torch.arange(3)
    img = G(z, c)
    assert not torch.allclose(img[0], img[1])
    assert not torch.allclose(img[1], img[2])
    same = img[:1].repeat(3, 1, 1, 1)
    logits = D(same, c)
    assert logits.shape == (3,)
    assert len(logits.unique()) == 3
    assert torch.equal(D(same, c.flip(0)), logits.flip(0))
    assert not list(D.buffers())
    for call in (lambda: G(z), lambda: D(img)):
        with pytest.raises(UserError, match="built for 3 classes"):
            call()


def test_without_classes_c_is_ignored():
    G, D, z, c = tiny_G().eval(), tiny_D(), torch.randn(2, 6), torch.tensor([0, 1])
    assert torch.equal(G(z, c), G(z))
    assert torch.equal(D(G(z), c), D(G(z)))


@pytest.mark.parametrize("c_dim", [0, 2])
def test_losses_reach_every_parameter(c_dim):
    G, D = tiny_G(c_dim=c_dim, style_mixing=0.9), tiny_D(c_dim=c_dim)
    c = torch.arange(4) % 2
    img = G(torch.randn(4, 6), c)
    for network in (G, D):
        grads = torch.autograd.grad(D(img, c).square().sum(), list(network.parameters()), retain_graph=True)
        assert all(grad.any() and grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("c_dim", [0, 2])
@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS)
def test_penalties_in_fp32_are_those_of_float64(c_dim, memory_format):
    G, D = with_noise(tiny_G(c_dim=c_dim)).eval(), tiny_D(c_dim=c_dim)
    for network in (G, D):
        network.to(memory_format=memory_format)
    img, z, c = torch.randn(4, 3, 16, 16).to(memory_format=memory_format), torch.randn(4, 6), torch.arange(4) % 2

    def both(dtype):
        G.to(dtype)
        D.to(dtype)
        grad_probe = torch.zeros_like(img, dtype=dtype).requires_grad_()
        return r1_gradients(D, img.to(dtype), grad_probe, c), path_length_gradients(
            G, z.to(dtype), c, img.to(dtype) / 16
        )

    for ours, truth in zip(both(torch.float32), both(torch.float64), strict=True):
        for grad, expected in zip(ours, truth, strict=True):
            torch.testing.assert_close(
                grad.double(), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item() + 1e-7
            )
        # All but biases that shift a logit or an image, which no input gradient depends on
        assert sum(not grad.any() for grad in truth) <= 8


def test_the_penalties_derivatives_against_finite_differences():
    G, D = with_noise(Generator(8, 1, 3, 3, channel_base=16, channel_max=2, mapping_layers=1)).eval().double(), None
    D = Discriminator(8, 1, channel_base=16, channel_max=2).double()
    img, z = torch.randn(2, 1, 8, 8, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)

    def check(penalty_gradients, penalty, parameter, index):
        analytic = penalty_gradients()[index].flatten()[0]
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                parameter.view(-1)[0] += sign * 1e-5
                with torch.enable_grad():
                    values.append(penalty())
                parameter.view(-1)[0] -= sign * 1e-5
        assert analytic.item() == pytest.approx((values[0] - values[1]).item() / 2e-5, rel=1e-5, abs=1e-8)

    def r1():
        grad_probe = torch.zeros_like(img).requires_grad_()
        (slope,) = torch.autograd.grad(D(img + grad_probe).sum(), grad_probe)
        return slope.square().sum((1, 2, 3)).mean()

    def path_length():
        ws = G.mapping(z)
        (slope,) = torch.autograd.grad((G.synthesis(ws) * img).sum(), ws)
        return (slope.square().sum(2).mean(1).sqrt() - 1).square().mean()

    for index, parameter in enumerate(D.parameters()):
        check(lambda: r1_gradients(D, img, torch.zeros_like(img).requires_grad_(), None), r1, parameter, index)
    for index, parameter in enumerate(G.parameters()):
        check(lambda: path_length_gradients(G, z, None, img), path_length, parameter, index)


def test_bf16_is_near_fp32():
    G, D, z = tiny_G().eval(), tiny_D(), torch.randn(8, 6)
    img = G(z)
    with torch.autocast("cpu", torch.bfloat16):
        half, logits = G(z), D(img)
    assert half.dtype == torch.float32
    assert (half - img).abs().max() < 0.05 * img.abs().max()
    assert (logits - D(img)).abs().max() < 0.1 * D(img).abs().max()


def one_graph(function):
    """Compile the function as a single graph, and return it with the graphs that it took."""
    from torch._dynamo.backends.debugging import aot_eager

    torch._dynamo.config.trace_autograd_ops = True
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return aot_eager(graph, inputs)

    return torch.compile(function, backend=backend, fullgraph=True, dynamic=False), graphs


def assert_same(ours: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for grad, truth in zip(ours, expected, strict=True):
        torch.testing.assert_close(grad, truth, rtol=1e-3, atol=1e-4 * truth.abs().max().item() + 1e-6)


def test_r1_is_one_graph():
    D, img, c = tiny_D(8, mapping_layers=1, c_dim=2), torch.randn(4, 3, 8, 8), torch.arange(4) % 2
    D.to(memory_format=torch.channels_last)
    grad_probe = torch.zeros_like(img).requires_grad_()
    step, graphs = one_graph(lambda img, grad_probe, c: r1_gradients(D, img, grad_probe, c))
    assert_same(step(img, grad_probe, c), r1_gradients(D, img, grad_probe, c))
    assert len(graphs) == 1


def test_path_length_is_one_graph_and_moves_the_average_style():
    G, z, noise = with_noise(tiny_G(8, mapping_layers=1, c_dim=2)), torch.randn(4, 6), torch.randn(4, 3, 8, 8) / 8
    G.to(memory_format=torch.channels_last)
    c = torch.arange(4) % 2
    step, graphs = one_graph(lambda z, c, noise: path_length_gradients(G, z, c, noise))
    torch.manual_seed(5)
    ours, w_avg = step(z, c, noise), G.mapping.w_avg.clone()
    assert w_avg.any()
    G.mapping.w_avg.zero_()
    torch.manual_seed(5)
    assert_same(ours, path_length_gradients(G, z, c, noise))
    torch.testing.assert_close(G.mapping.w_avg, w_avg)
    assert len(graphs) == 1


def test_a_step_in_bf16_is_one_graph():
    G, D, z = with_noise(tiny_G(8, mapping_layers=1)), tiny_D(8, architecture="orig"), torch.randn(4, 6)

    def step(z):
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            fake_img = G(z)
            logits = D(fake_img)
        loss = torch.nn.functional.softplus(-logits.float()).mean()
        return [fake_img.detach(), *torch.autograd.grad(loss, [*G.parameters(), *D.parameters()])]

    compiled, graphs = one_graph(step)
    torch.manual_seed(5)
    ours = compiled(z)
    torch.manual_seed(5)
    for result, expected in zip(ours, step(z), strict=True):  # eager, the filters sum in another order
        torch.testing.assert_close(result, expected, rtol=0, atol=0.1 * expected.abs().max().item() + 1e-3)
    assert len(graphs) == 1
