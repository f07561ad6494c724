"""Every row against the numbers of its source, read off the networks that it builds."""
import gans
import pytest
import torch
from torch import nn

from fastgan import models
from fastgan.config import Config, replace
from fastgan.config.presets import PRESETS, preset
from fastgan.errors import UserError
from fastgan.nn.layers import BatchNorm2d, Deconv, Head
from fastgan.run.sampler import draw_z


def built(name: str, **sizes) -> tuple[Config, nn.Module, nn.Module]:
    config = preset(name)
    if config.model.architecture != "samples":
        sizes = {"img_resolution": 28, "img_channels": 1} | sizes
    for key, value in sizes.items():
        config = replace(config, f"model.{key}", value)
    torch.manual_seed(0)
    return config, *models.build(config.model)


def layers(network: nn.Module) -> list[str]:
    """Name the layers of a network, as short names: `100-256`, `ReLU`, `3-64 4,2,1`."""
    leaves = [
        module
        for module in network.modules()
        if not list(module.children()) and not isinstance(module, nn.Flatten | nn.Identity)
    ]
    return [name for module in leaves for name in _short_names(module)]


def _short_names(module: nn.Module) -> list[str]:
    """One name, or two where the layer contains its activation."""
    if isinstance(module, Head):
        kind = (
            f"{module.weight.shape[1]}-1"
            if module.weight.ndim == 2
            else f"C {module.weight.shape[1]}-1 {module.weight.shape[2]},1,0"
        )
        return [*{0.0: ["ReLU()"], 0.2: ["LeakyReLU(0.2)"], 1.0: []}[module.slope], kind]
    if isinstance(module, BatchNorm2d):
        return [_short(module), *{"relu": ["ReLU()"], "leaky_relu": ["LeakyReLU(0.2)"], "linear": []}[module.act]]
    if isinstance(module, Deconv) and module.act == "tanh":
        return [_short(module), "Tanh()"]
    return [_short(module)]


def _short(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return f"{module.in_features}-{module.out_features}"
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        assert module.kernel_size[0] == module.kernel_size[1]
        kind = "T" if isinstance(module, nn.ConvTranspose2d) else "C"
        channels, taps = f"{module.in_channels}-{module.out_channels}", module.kernel_size[0]
        return f"{kind} {channels} {taps},{module.stride[0]},{module.padding[0]}"
    return (
        f"BN {module.num_features}"
        if isinstance(module, nn.BatchNorm2d)
        else repr(module).replace("negative_slope=", "").replace("alpha=", "")
    )


def adam(config: Config) -> tuple[float, float, float, float]:
    assert config.optim.name == "adam"
    return config.optim.lr_G, config.optim.lr_D, config.optim.beta1, config.optim.beta2


def test_mlp():
    config, G, D = built("mlp")
    assert layers(G) == ["100-256", "ReLU()", "256-784", "Tanh()"]
    assert layers(D) == ["784-256", "ReLU()", "256-1"]
    assert adam(config) == (2e-4, 2e-4, 0.9, 0.999)
    assert (config.run.batch_size, config.run.epochs, config.model.z_distribution, config.model.img_low) == (
        64,
        5,
        "normal",
        -1,
    )
    assert (config.loss.name, config.loss.fresh_fakes, config.optim.ema_kimg) == ("non_saturating", False, None)


def test_mlp_tf():
    config, G, D = built("mlp-tf")
    assert layers(G) == ["100-128", "ReLU()", "128-784", "Sigmoid()"]
    assert layers(D) == ["784-128", "ReLU()", "128-1"]
    assert adam(config) == (1e-3, 1e-3, 0.9, 0.999)
    assert (config.run.batch_size, config.run.steps, config.model.z_distribution, config.model.img_low) == (
        128,
        1_000_000,
        "uniform",
        0,
    )
    assert config.loss.fresh_fakes
    # Every 1000 iterations a 4x4 grid, and the losses.
    assert (1000 * config.run.tick_kimg / config.run.batch_size, config.run.image_ticks, config.run.grid) == (
        1000,
        1,
        16,
    )


def test_mlp_tf_starts_from_xavier_normal_weights_and_zero_biases():
    _, G, D = built("mlp-tf")
    for linear in [module for network in (G, D) for module in network.modules() if isinstance(module, nn.Linear)]:
        expected, num = (linear.in_features / 2) ** -0.5, linear.weight.numel()
        assert linear.weight.std().item() == pytest.approx(expected, rel=5 / (2 * num) ** 0.5)  # five standard errors
        assert linear.weight.mean().item() == pytest.approx(0, abs=5 * expected / num**0.5)
        assert not linear.bias.any()


def test_mlp_mnist():
    config, G, D = built("mlp-mnist")
    assert layers(G) == ["64-256", "ReLU()", "256-256", "ReLU()", "256-784", "Tanh()"]
    assert layers(D) == ["784-256", "LeakyReLU(0.2)", "256-256", "LeakyReLU(0.2)", "256-1"]
    assert adam(config) == (2e-4, 2e-4, 0.9, 0.999)
    assert (config.run.batch_size, config.model.z_distribution, config.model.img_low) == (100, "normal", -1)
    # A tick is a hundredth of the run, so one epoch, and every tick saves samples.
    assert (config.run.epochs, config.run.tick_kimg, config.run.image_ticks) == (100, None, 1)


def test_gaussian1d():
    config, G, D = built("gaussian1d")
    assert layers(G) == ["1-50", "ELU(1.0)", "50-50", "ELU(1.0)", "50-1"]
    assert layers(D) == ["200-50", "ELU(1.0)", "50-50", "ELU(1.0)", "50-1"]  # 100 samples and their squared deviations
    assert (config.data.source, config.data.mean, config.data.std) == ("gaussian", 4.0, 1.25)
    assert (config.run.batch_size, config.run.steps, config.model.z_distribution, config.loss.fresh_fakes) == (
        100,
        20_000,
        "unit_uniform",
        True,
    )


def test_dcgan_at_64_pixels_in_colour():
    config, G, D = built("dcgan", img_resolution=64, img_channels=3)
    assert layers(G) == [
        "T 100-512 4,1,0", "BN 512", "ReLU()", "T 512-256 4,2,1", "BN 256", "ReLU()",
        "T 256-128 4,2,1", "BN 128", "ReLU()",
        "T 128-64 4,2,1", "BN 64", "ReLU()", "T 64-3 4,2,1", "Tanh()",
    ]  # fmt: skip
    assert layers(D) == [
        "C 3-64 4,2,1",
        "LeakyReLU(0.2)",
        "C 64-128 4,2,1",
        "BN 128",
        "LeakyReLU(0.2)",
        "C 128-256 4,2,1",
        "BN 256",
        "LeakyReLU(0.2)",
        "C 256-512 4,2,1",
        "BN 512",
        "LeakyReLU(0.2)",
        "C 512-1 4,1,0",
    ]
    assert adam(config) == (2e-4, 2e-4, 0.5, 0.999)
    assert (config.model.z_distribution, config.model.img_low, config.run.batch_size) == ("normal", -1, 64)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_makes_images_in_range_and_logits(name):
    config = gans.tiny_config(name)
    model = config.model
    torch.manual_seed(0)
    G, D = models.build(model)
    num = config.run.batch_size
    condition = (torch.arange(num) % 3,) if model.cond else ()
    img = G(draw_z(num, (model.z_dim,), model.z_distribution, torch.Generator().manual_seed(0), gans.CPU), *condition)
    logits = D(img, *condition)[0] if config.loss.class_D else D(img, *condition)
    if model.architecture in ("samples", "points"):
        assert img.shape == (num, 1 if model.architecture == "samples" else 2)
        assert logits.shape == (num // 100 if model.architecture == "samples" else num,)
        return
    assert img.shape == (num, 1, 16, 16)
    if model.architecture not in ("stylegan2", "r3gan"):  # whose images are unbounded
        assert model.img_low <= img.min() < img.max() <= 1
    assert len(logits) == num
    assert logits.min() < logits.max()


@pytest.mark.parametrize(
    ("given", "nearest"), [("mlpp", "mlp"), ("DCGAN", "dcgan"), ("mnist", "mlp-mnist"), ("gaussian", "gaussian1d")]
)
def test_an_unknown_preset_has_a_nearest_one(given, nearest):
    with pytest.raises(UserError, match=f"no preset '{given}'.*nearest is '{nearest}'"):
        preset(given)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_knows_its_name(name):
    assert preset(name).preset == name
