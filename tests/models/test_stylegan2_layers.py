"""The layers of StyleGAN2 against the statements of their papers."""
import math

import pytest
import torch
import torch.nn.functional as F
from checking import check_gradients

from fastgan.models.stylegan2_layers import (
    EqualConv,
    EqualLinear,
    MinibatchStd,
    StyledConv,
    ToImage,
    largest_divisor,
    normalised,
)
from fastgan.models.stylegan2_styles import modulations
from fastgan.ops.upfirdn2d import downsample2d, filter2d

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
every_format = pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS)


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def styled(conv: StyledConv, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return one layer's output with the modulation of its style. w: [N, w_dim]."""
    noise = torch.randn(len(w), conv.noise.noise_const.numel()) if conv.training else None
    (modulation,), _ = modulations([conv], [], w[None])
    return conv(x, *modulation, noise)


def by_weights_of_each_image(conv: StyledConv, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Compute the paper's definition (equations 1 and 3) image by image, float64, without noise."""
    conv, x, w = conv.double(), x.double(), w.double()
    style = w @ conv.style.weight.T / math.sqrt(w.shape[1]) + conv.style.bias
    weight = conv.weight.transpose(0, 1) if conv.up else conv.weight  # [K, C, 3, 3]
    images = []
    for img, scale in zip(x, style, strict=True):
        own = weight / math.sqrt(9 * weight.shape[1]) * scale.view(1, -1, 1, 1)
        own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if conv.up:
            y = filter2d(F.conv_transpose2d(img[None], own.transpose(0, 1), stride=2), padding=1, gain=4.0)
        else:
            y = F.conv2d(img[None], own, padding=1)
        images.append(F.leaky_relu(y + conv.bias.view(1, -1, 1, 1), 0.2) * math.sqrt(2))
    return torch.cat(images)


class Styled(torch.nn.Module):
    """A layer as a function of x and w."""

    def __init__(self, conv: StyledConv):
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return styled(self.conv, x, w)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("num", [1, 3])
@every_format
def test_scaling_input_and_result_is_scaling_the_weights(up, num, memory_format):
    conv = StyledConv(5, 3, 7, 12 if up else 6, up)
    torch.nn.init.normal_(conv.bias)
    x, w = torch.randn(num, 5, 6, 6).to(memory_format=memory_format), torch.randn(num, 7)
    y = styled(conv, x, w)
    assert y.shape == (num, 3, 12, 12) if up else (num, 3, 6, 6)
    torch.testing.assert_close(y, by_weights_of_each_image(conv, x, w).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("up", [False, True])
def test_demodulation_takes_the_size_of_a_style_away(up):
    """Twice the style gives the same image.

    At the start the affine's bias is 1, so the style itself is scaled here.
    """
    conv = StyledConv(4, 3, 5, 8 if up else 4, up)
    x, w = torch.randn(2, 4, 4, 4), torch.randn(2, 5)
    y = styled(conv, x, w)
    with torch.no_grad():
        conv.style.weight *= 2
        conv.style.bias *= 2
    torch.testing.assert_close(styled(conv, x, w), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("up", [False, True])
def test_both_orders_of_the_gradient_of_a_modulated_convolution(up):
    conv = StyledConv(2, 2, 3, 4 if up else 2, up).double()
    names = [name for name, _ in conv.named_parameters()]

    def function(x, w, *parameters):
        own = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(
            Styled(conv.eval()), {f"conv.{name}": each for name, each in own.items()}, (x, w)
        )

    parameters = [parameter.detach() + 0.1 for parameter in conv.parameters()]
    check_gradients(function, (torch.randn(2, 2, 2, 2), torch.randn(2, 3), *parameters))


def test_noise_is_one_map_for_all_channels_random_in_training_alone():
    conv = StyledConv(4, 3, 5, 8)
    x, w = torch.randn(1, 4, 8, 8).repeat(2, 1, 1, 1), torch.randn(1, 5).repeat(2, 1)
    without = styled(conv, x, w)
    assert torch.equal(without[0], without[1])  # its strength is zero at the start
    with torch.no_grad():
        conv.noise.strength.fill_(0.5)
        inner = conv.noise(torch.zeros(2, 3, 8, 8), torch.randn(2, 64))
        assert inner.shape == (2, 1, 8, 8)
        assert not torch.equal(inner[0], inner[1])
        assert inner.std().item() == pytest.approx(0.5, abs=0.15)
        assert not torch.equal(styled(conv, x, w), styled(conv, x, w))
        conv.eval()
        assert torch.equal(styled(conv, x, w), styled(conv, x, w))
        assert not torch.equal(styled(conv, x, w), without)
        torch.testing.assert_close(conv.noise(x, None), 0.5 * conv.noise.noise_const)


@every_format
def test_to_image_is_a_modulated_1x1_convolution_without_demodulation(memory_format):
    layer = ToImage(6, 3, 4)
    torch.nn.init.normal_(layer.bias)
    x, w = torch.randn(2, 6, 4, 5).to(memory_format=memory_format), torch.randn(2, 4)
    style = layer.style(w) / math.sqrt(6)
    expected = F.conv2d(x * style.view(2, 6, 1, 1), layer.weight.view(3, 6, 1, 1), layer.bias)
    torch.testing.assert_close(layer(x, style), expected)
    assert layer(x.bfloat16(), style).dtype == torch.float32


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_equalised_layers_start_with_results_of_variance_1(lr_multiplier):
    layer = EqualLinear(300, 200, lr_multiplier=lr_multiplier, bias_init=2.0)
    assert layer.weight.std().item() == pytest.approx(1 / lr_multiplier, rel=0.05)
    y = layer(torch.randn(100, 300))
    assert y.std().item() == pytest.approx(1, rel=0.05)
    assert y.mean().item() == pytest.approx(2, abs=0.1)
    conv = EqualConv(40, 50, 3, act="linear")
    assert conv(torch.randn(2, 40, 16, 16))[:, :, 1:-1, 1:-1].std().item() == pytest.approx(1, rel=0.1)
    assert conv.weight.std().item() == pytest.approx(1, rel=0.05)


def test_a_learning_rate_multiplier_multiplies_what_a_step_of_the_optimiser_changes():
    changes = []
    for lr_multiplier in (1.0, 0.01):
        torch.manual_seed(3)
        layer, x = EqualLinear(30, 20, lr_multiplier=lr_multiplier), torch.randn(8, 30)
        before = layer(x).detach()
        # Its first step is lr for every parameter, whatever the gradient's size
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3)
        layer(x).square().sum().backward()
        optimizer.step()
        changes.append((layer(x) - before).detach())
    torch.testing.assert_close(changes[1], 0.01 * changes[0], rtol=2e-2, atol=1e-5)


@every_format
def test_halving_convolutions(memory_format):
    x = torch.randn(2, 4, 8, 6).to(memory_format=memory_format)
    conv, skip = EqualConv(4, 5, 3, down=True, gain=0.5), EqualConv(4, 5, 1, act="linear", down=True, gain=0.5)
    torch.nn.init.normal_(conv.bias)
    filtered = F.conv2d(filter2d(F.pad(x, (1, 1, 1, 1)), padding=1), conv.weight / 6, conv.bias, stride=2)
    torch.testing.assert_close(conv(x), 0.5 * math.sqrt(2) * F.leaky_relu(filtered, 0.2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(skip(x), 0.5 * F.conv2d(downsample2d(x), skip.weight / 2), rtol=1e-4, atol=1e-5)
    assert conv(x).shape == skip(x).shape == (2, 5, 4, 3)
    assert skip.bias is None


def test_a_halved_image_is_not_shifted():
    """An image that is its mirror image stays so, under a weight that is one as well."""
    x = torch.randn(1, 2, 8, 8)
    x = x + x.flip(2) + x.flip(3) + x.flip(2, 3)
    for conv in (EqualConv(2, 3, 3, down=True), EqualConv(2, 3, 1, down=True), StyledConv(2, 3, 4, 16, up=True)):
        with torch.no_grad():
            conv.weight.copy_(conv.weight + conv.weight.flip(2) + conv.weight.flip(3) + conv.weight.flip(2, 3))
        y = styled(conv, x, torch.zeros(1, 4)) if isinstance(conv, StyledConv) else conv(x)
        torch.testing.assert_close(y, y.flip(2, 3), rtol=1e-4, atol=1e-5)


def test_minibatch_std_worked_out_by_hand():
    x = torch.zeros(4, 2, 1, 1)
    x[:, 0, 0, 0] = torch.tensor([1.0, 10.0, 3.0, 10.0])  # groups of two: images 0 and 2, 1 and 3
    y = MinibatchStd(2)(x)
    assert y.shape == (4, 3, 1, 1)
    assert torch.equal(y[:, :2], x)
    # 1e-4 = sqrt(eps)
    torch.testing.assert_close(y[:, 2].flatten(), torch.tensor([0.5, 0.0, 0.5, 0.0]), atol=2e-4, rtol=0)


@pytest.mark.parametrize(("num", "limit"), [(4, 2), (6, 4), (5, 4)])
def test_minibatch_std_of_parts_takes_each_for_a_batch(num, limit):
    one, many, x = MinibatchStd(limit), MinibatchStd(limit), torch.randn(3 * num, 2, 3, 2)
    one.parts = 3
    torch.testing.assert_close(one(x), torch.cat([many(part) for part in x.chunk(3)]))


@pytest.mark.parametrize(
    ("num", "limit", "size"), [(8, 4, 4), (6, 4, 3), (7, 4, 1), (3, 4, 3), (1, 4, 1), (32, 32, 32)]
)
def test_groups_have_the_largest_size_that_divides_the_batch(num, limit, size):
    assert largest_divisor(num, limit) == size
    x = torch.randn(num, 3, 2, 2)
    numbers = MinibatchStd(limit)(x)[:, 3, 0, 0]
    assert len(numbers.unique()) == (1 if size == 1 else num // size)  # alone, an image differs from nothing
    expected = torch.stack(
        [x[group :: num // size].var(0, unbiased=False).add(1e-8).sqrt().mean() for group in range(num // size)]
    )
    torch.testing.assert_close(numbers[: num // size], expected)


def test_minibatch_std_has_both_orders_of_the_gradient():
    check_gradients(MinibatchStd(2), (torch.randn(4, 2, 1, 2),))
    same = torch.ones(4, 2, 1, 2, requires_grad=True)  # images that do not differ at all
    (slope,) = torch.autograd.grad(MinibatchStd(4)(same).sum(), same, create_graph=True)
    assert slope.isfinite().all()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(slope.square().sum(), same))


def test_normalised_rows():
    x = torch.randn(5, 16) * torch.tensor([1e-2, 1.0, 10.0, 1e3, 1.0]).unsqueeze(1)
    torch.testing.assert_close(normalised(x).square().mean(1), torch.ones(5), rtol=1e-3, atol=1e-3)
    assert normalised(torch.zeros(1, 4)).isfinite().all()
