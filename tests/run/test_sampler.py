"""Images from a generator, and the pictures of a run."""
import contextlib

import gans
import pytest
import torch
from torch import nn

from fastgan.config import replace
from fastgan.errors import UserError
from fastgan.gan.train_state import make_train_state
from fastgan.nn.pair import inspect_pair
from fastgan.run.sampler import DENSITY_SAMPLES, Sampler, draw_z, evaluating, generate_chunks

IMG_SHAPE = (1, 16, 16)


class Recording(nn.Module):
    """A conditional generator that is as bright as the class, and keeps its arguments."""

    def __init__(self, one_hot: bool = False):
        super().__init__()
        self.scale, self.one_hot, self.calls = nn.Parameter(torch.ones(())), one_hot, []

    def forward(self, z, c):
        if self.one_hot and not c.is_floating_point():
            raise TypeError("one-hot classes, please")
        if not self.one_hot and c.is_floating_point():
            raise TypeError("class numbers, please")
        self.calls.append((z.clone(), c.clone(), self.training))
        number = c.argmax(1) if self.one_hot else c
        return (self.scale * number / 4).view(-1, 1, 1, 1).expand(len(z), *IMG_SHAPE) + 0 * z.sum()


class Judging(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(256, 1)

    def forward(self, img, c):
        return self.layer(img.flatten(1))


def sampler(preset: str = "mlp", pair=None, img_shape=IMG_SHAPE, **overrides) -> Sampler:
    config = gans.tiny_config(preset, **overrides)
    if pair is None:
        state = gans.tiny_networks(config)
        signature = inspect_pair.inspect(
            state.G, state.D, config.model.z_dim, config.run.batch_size, gans.CPU, gans.classes_of(config)
        )
    else:
        num, classes = config.run.batch_size, gans.classes_of(config)
        signature = inspect_pair.inspect(*pair, config.model.z_dim, num, gans.CPU, classes)
        state = make_train_state(*pair, config, signature, gans.CPU, gans.FP32)
        pair[0].calls.clear()
    return Sampler(config, signature, state, img_shape)


def conditional(one_hot: bool = False, **overrides) -> tuple[Sampler, Recording]:
    G = Recording(one_hot)
    return sampler("cgan-mlp", (G, Judging()), model__z_dim=2, **overrides), G


def test_the_grid_is_always_the_same_and_the_seed_decides_it():
    ours, same, other = sampler(run__grid=10), sampler(run__grid=10), sampler(run__grid=10, run__seed=1)
    grid = ours.grid()
    assert grid.shape == (10, *IMG_SHAPE)
    assert ours.columns is None
    torch.randn(3)
    assert torch.equal(ours.grid(), grid)
    assert torch.equal(same.grid(), grid)
    assert not torch.equal(other.grid(), grid)


def test_a_conditional_grid_has_a_class_a_row():
    each, _ = conditional(run__grid=30)
    grid = each.grid()
    assert each.columns == 10
    assert torch.equal(grid[:, 0, 0, 0], torch.tensor([0, 0.25, 0.5]).repeat_interleave(10))


@pytest.mark.parametrize("one_hot", [False, True])
def test_samples_are_of_the_classes_asked_for(one_hot):
    each, G = conditional(one_hot)
    for labels, expected in (
        (None, [0, 1, 2, 0, 1, 2, 0]),
        (2, [2] * 7),
        (torch.tensor([1, 0, 0, 0, 0, 0, 2]), [1, 0, 0, 0, 0, 0, 2]),
    ):
        assert (each.samples(7, 0, labels)[:, 0, 0, 0] * 4).tolist() == expected
    assert all(c.dtype == (torch.float32 if one_hot else torch.int64) for _, c, _ in G.calls)
    assert not any(training for _, _, training in G.calls)
    assert G.training


def test_at_most_a_part_of_a_batch_at_a_time():
    each, G = conditional(run__batch_size=8, run__batch_gpu=4)
    each.samples(10, 0)
    assert [len(z) for z, _, _ in G.calls] == [4, 4, 2]
    each, G = conditional(run__batch_size=8)
    each.samples(10, 0)
    assert [len(z) for z, _, _ in G.calls] == [8, 2]


def test_seeds_of_samples():
    each = sampler()
    assert torch.equal(each.samples(5, 3), each.samples(5, 3))
    assert not torch.equal(each.samples(5, 3), each.samples(5, 4))
    assert not torch.equal(each.samples(5), each.samples(5))
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(each.samples(5, generator), each.samples(5, 3))
    assert not torch.equal(each.samples(5, generator), each.samples(5, 3))  # it went on


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 256)

    def forward(self, z):
        return self.layer(z) + torch.randn(len(z), 256)


def test_noise_that_a_generator_draws_by_itself_is_fixed_too_and_not_trainings():
    pair = Noisy(), nn.Linear(256, 1)
    pair[0].calls = []
    each = sampler("mlp", pair, model__z_dim=4)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    grid, samples = each.grid(), each.samples(5, 1)
    assert not torch.equal(each.samples(5), each.samples(5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(9)
    assert torch.equal(each.grid(), grid)
    assert torch.equal(each.samples(5, 1), samples)
    assert grid.shape == (64, *IMG_SHAPE)  # flat images are unfolded


def test_of_a_density_there_are_enough_for_a_histogram():
    each = sampler("gaussian1d", img_shape=None)
    assert each.grid().shape == (DENSITY_SAMPLES, 1)
    assert torch.equal(each.grid(), each.grid())


def test_samples_are_of_the_moving_average():
    config = replace(gans.tiny_config("mlp"), "optim.ema_kimg", 1.0)
    state = gans.tiny_networks(config)
    signature = inspect_pair.inspect(state.G, state.D, config.model.z_dim, config.run.batch_size, gans.CPU)
    each = Sampler(config, signature, state, IMG_SHAPE)
    before = each.samples(3, 0)
    with torch.no_grad():
        for parameter in state.G.parameters():
            parameter.add_(1)
    assert torch.equal(each.samples(3, 0), before)
    with torch.no_grad():
        for parameter in state.G_ema.parameters():
            parameter.add_(1)
    assert not torch.equal(each.samples(3, 0), before)


@pytest.mark.parametrize(
    "labels", [3, -1, torch.tensor([0, 1]), torch.tensor([0, 1, 2, 3]), torch.tensor([0.0, 1.0, 2.0, 0.0])], ids=str
)
def test_classes_that_are_none(labels):
    with pytest.raises(UserError, match=r"c is one class, or int64 \[4\], from 0 to 2"):
        sampler("cgan").samples(4, 0, labels)


def test_without_classes_none_is_taken():
    with pytest.raises(UserError, match="trained without classes"):
        sampler("mlp").samples(4, 0, 1)


CPU = torch.device("cpu")


def z_of(distribution: str, num: int = 20_000, z_shape=(3,), seed: int = 0) -> torch.Tensor:
    return draw_z(num, z_shape, distribution, torch.Generator().manual_seed(seed), CPU)


@pytest.mark.parametrize(
    ("distribution", "low", "high", "mean", "std"),
    [("normal", -7, 7, 0, 1), ("uniform", -1, 1, 0, 3**-0.5), ("unit_uniform", 0, 1, 0.5, 12**-0.5)],
)
def test_the_law_of_z(distribution, low, high, mean, std):
    z = z_of(distribution)
    assert z.dtype == torch.float32
    assert low <= z.min() < z.max() <= high
    assert z.mean().item() == pytest.approx(mean, abs=5 * std / z.numel() ** 0.5)  # five standard errors
    assert z.std().item() == pytest.approx(std, rel=5 / (2 * z.numel()) ** 0.5)


def test_z_has_the_shape_that_g_takes_and_the_seed_decides_it():
    assert z_of("normal", 5, (4, 1, 1)).shape == (5, 4, 1, 1)
    assert torch.equal(z_of("uniform", seed=3), z_of("uniform", seed=3))
    assert not torch.equal(z_of("uniform", seed=3), z_of("uniform", seed=4))


def test_images_are_made_in_evaluation_mode_a_few_at_a_time_and_in_order():
    sizes = []

    class G(nn.Module):
        def forward(self, z):
            assert not self.training
            assert not torch.is_grad_enabled()
            sizes.append(len(z))
            return z.double() * 2

    network, z = G(), torch.randn(10, 3)
    images = generate_chunks(network, z, contextlib.nullcontext, chunk=4)
    assert torch.equal(images, z * 2)
    assert images.dtype == torch.float32
    assert sizes == [4, 4, 2]
    assert network.training


def test_the_precision_is_the_callers():
    network = nn.Linear(4, 4)
    rounded = generate_chunks(network, torch.ones(2, 4) / 3, lambda: torch.autocast("cpu", torch.bfloat16))
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, rounded.bfloat16().float())


def test_every_module_gets_its_own_mode_back():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    network[1].eval()

    def look_and_fail():
        with evaluating(network):
            assert not any(module.training for module in network.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look_and_fail()
    assert [module.training for module in network.modules()] == [True, True, False, True]
