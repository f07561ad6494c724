"""The networks of the presets, built by name.

Plain nn.Modules: z (and classes) -> image, image (and classes) -> logits.
"""
from torch import nn

from fastgan.config import DCGAN_RESOLUTIONS, ModelConfig
from fastgan.errors import UserError
from fastgan.models import biggan, dcgan, lightweight, mlp, r3gan, resnet, stylegan2
from fastgan.models.res_blocks import flat_widths, tapered_widths
from fastgan.nn.noise import Noise

Pair = tuple[nn.Module, nn.Module]
POWERS_OF_2 = tuple(2**power for power in range(4, 11))  # 16 to 1024


def build(model: ModelConfig) -> Pair:
    """Build (G, D) in fp32 on the CPU, initialised from torch's global generator.

    Resolution, channels and number of classes must be known.

    Raises UserError for a resolution that the architecture cannot make, and for classes where it
    cannot use them.
    """
    builder, knows_classes = BUILDERS[model.architecture]
    allowed = sizes(model)
    if allowed is not None and model.img_resolution not in allowed:
        raise UserError(
            f"--resolution {model.img_resolution} is not supported by {model.architecture}: choose from "
            f"{', '.join(map(str, allowed))}"
        )
    if model.c_dim and not knows_classes:
        raise UserError(
            f"the networks of {model.architecture} are unconditional: leave out --cond, or choose another preset"
        )
    return builder(model)


def sizes(model: ModelConfig) -> tuple[int, ...] | None:
    """Return the resolutions that an architecture can have; None = any."""
    if model.architecture in ("mlp", "samples", "points", "custom"):
        return None
    if model.architecture == "dcgan":
        return DCGAN_RESOLUTIONS
    if model.architecture == "r3gan":
        return tuple(size for size in POWERS_OF_2 if size <= 2 << len(model.widths))
    return POWERS_OF_2


def _dcgan(model: ModelConfig) -> Pair:
    size, c_dim, noise = (model.img_resolution, model.img_channels), model.c_dim, _noise(model)
    if not c_dim:
        return dcgan.Generator(*size, model.z_dim, model.ngf, model.G_norm), dcgan.Discriminator(
            *size, model.ndf, model.D_norm, noise
        )
    if model.conditioning == "concat":
        G = dcgan.ConcatGenerator(*size, model.z_dim, model.ngf, c_dim, model.G_norm)
        return G, dcgan.ConcatDiscriminator(*size, model.ndf, c_dim, model.D_norm, noise)
    G = dcgan.Generator(*size, model.z_dim, model.ngf, model.G_norm, c_dim)
    return G, dcgan.ProjectionDiscriminator(*size, model.ndf, c_dim, model.D_norm, noise)


def _noise(model: ModelConfig) -> Noise:
    return Noise(model.D_noise, model.D_noise_kimg)


def _mlp(model: ModelConfig) -> Pair:
    img_shape = (model.img_channels, model.img_resolution, model.img_resolution)
    if model.c_dim:
        G = mlp.ConditionalGenerator(img_shape, model.z_dim, model.c_dim, model.G_hidden)
        return G, mlp.ConditionalDiscriminator(img_shape, model.c_dim, model.D_hidden, _noise(model))
    G = mlp.Generator(img_shape, model.z_dim, model.G_hidden, model.G_activation, model.init, tanh=model.img_low < 0)
    return G, mlp.Discriminator(img_shape, model.D_hidden, model.D_activation, model.init, _noise(model))


def _samples(model: ModelConfig) -> Pair:
    return mlp.SampleGenerator(model.z_dim, model.G_hidden, model.G_activation), mlp.SampleDiscriminator(
        model.D_hidden, model.D_activation, _noise(model)
    )


def _points(model: ModelConfig) -> Pair:
    return mlp.PointGenerator(model.z_dim, model.G_hidden, model.G_activation), mlp.PointDiscriminator(
        model.D_hidden, model.D_activation, _noise(model)
    )


def _resnet(model: ModelConfig) -> Pair:
    G = resnet.Generator(_up_widths(model), model.img_channels, model.z_dim, model.c_dim)
    is_spectral = model.D_norm == "spectral"
    widths, num_down = _down_widths(model)
    D = resnet.Discriminator(widths, num_down, model.img_channels, model.D_norm,
                             "sum" if is_spectral else "mean", model.c_dim,
                             classifier=model.conditioning == "classifier" and model.c_dim > 0)  # fmt: skip
    return G, D


def _resnet_stem(model: ModelConfig) -> Pair:
    G = resnet.Generator(tapered_widths(model.img_resolution, model.ngf, 8), model.img_channels, model.z_dim)
    widths = tapered_widths(model.img_resolution, model.ndf, 8)[::-1]
    return G, resnet.StemDiscriminator(widths, model.img_channels, model.D_norm)


def _conv(model: ModelConfig) -> Pair:
    size = (model.img_resolution, model.img_channels)
    return resnet.ConvGenerator(*size, model.z_dim, model.ngf), resnet.ConvDiscriminator(*size, model.ndf)


def _biggan(model: ModelConfig) -> Pair:
    widths, num_down = _down_widths(model)
    init = "orthogonal" if model.shared_dim else "normal"
    G = biggan.Generator(
        _up_widths(model), model.img_channels, model.z_dim, model.c_dim, model.shared_dim, model.attention, init
    )
    return G, biggan.Discriminator(
        widths, num_down, model.img_resolution, model.img_channels, model.c_dim, model.attention, init
    )


def _stylegan2(model: ModelConfig) -> Pair:
    size, channels, c_dim = (
        (model.img_resolution, model.img_channels),
        (model.channel_base, model.channel_max),
        model.c_dim,
    )
    G = stylegan2.Generator(*size, model.z_dim, model.w_dim, c_dim, *channels, model.mapping_layers, model.style_mixing)
    architecture = "resnet" if model.D_skips else "orig"
    return G, stylegan2.Discriminator(*size, c_dim, *channels, architecture, model.mbstd_group, model.mapping_layers)


def _lightweight(model: ModelConfig) -> Pair:
    size = (model.img_resolution, model.img_channels)
    return lightweight.Generator(*size, model.z_dim, model.width), lightweight.Discriminator(*size, model.width)


def _r3gan(model: ModelConfig) -> Pair:
    stages = tuple(
        each[: model.img_resolution.bit_length() - 2] for each in (model.widths, model.cardinalities, model.blocks)
    )
    return r3gan.Generator(model.img_channels, model.z_dim, *stages, model.c_dim), r3gan.Discriminator(
        model.img_channels, *stages, model.c_dim
    )


def _up_widths(model: ModelConfig) -> tuple[int, ...]:
    """Return G's widths: of the 4x4 image and of every block."""
    if model.taper:
        return tapered_widths(model.img_resolution, model.ngf)
    return flat_widths(model.img_resolution, model.ngf)


def _down_widths(model: ModelConfig) -> tuple[tuple[int, ...], int]:
    """Return (widths of D's blocks, number of them that halve the image).

    Tapered: down to 4x4 and one more block; otherwise to 8x8 and two more.
    """
    if model.taper:
        halving = tapered_widths(model.img_resolution, model.ndf)[::-1][:-1]
        return (*halving, halving[-1]), len(halving)
    num_down = model.img_resolution.bit_length() - 4
    return (model.ndf,) * (num_down + 2), num_down


# Architecture -> (builder, True if it can be conditional)
BUILDERS = {
    "mlp": (_mlp, True), "samples": (_samples, False), "points": (_points, False), "dcgan": (_dcgan, True),
    "resnet": (_resnet, True), "resnet-stem": (_resnet_stem, False), "conv": (_conv, False), "biggan": (_biggan, True),
    "stylegan2": (_stylegan2, True), "lightweight": (_lightweight, False), "r3gan": (_r3gan, True),
}  # fmt: skip
