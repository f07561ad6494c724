"""The networks of the presets, built by name. Plain nn.Modules: z -> image, image -> logits."""
from torch import nn

from fastgan.config import DCGAN_RESOLUTIONS, ModelConfig
from fastgan.models import dcgan, mlp


def build(model: ModelConfig) -> tuple[nn.Module, nn.Module]:
    """(G, D) in fp32 on the CPU, initialised from torch's global generator. Resolution and channels must be known by now."""
    if model.architecture == "dcgan":
        size = (model.img_resolution, model.img_channels)
        return dcgan.Generator(*size, model.z_dim, model.ngf), dcgan.Discriminator(*size, model.ndf)
    if model.architecture == "samples":
        return mlp.SampleGenerator(model.z_dim, model.G_hidden, model.G_activation), mlp.SampleDiscriminator(model.D_hidden, model.D_activation)
    img_shape = (model.img_channels, model.img_resolution, model.img_resolution)
    G = mlp.Generator(img_shape, model.z_dim, model.G_hidden, model.G_activation, model.init, tanh=model.img_low < 0)
    return G, mlp.Discriminator(img_shape, model.D_hidden, model.D_activation, model.init)


def sizes(model: ModelConfig) -> tuple[int, ...] | None:
    """The resolutions that an architecture can have; None = any."""
    return DCGAN_RESOLUTIONS if model.architecture == "dcgan" else None
