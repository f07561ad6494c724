"""Normalisation of weights and of features, with gradients of both orders.

It keeps a discriminator smooth and a generator's layers in range. Weights are normalised by
wrapping a layer, which keeps its own parameters, so that initialisers and snapshots see the same
names and values as without it. Sums run in float32 whatever the dtype of the network.
"""
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from fastgan.nn.layers import BatchNorm2d

LAYERS = (nn.Linear, nn.Embedding, nn.Conv2d, nn.ConvTranspose2d)  # whose weights can be normalised


class Spectral(nn.Module):
    """A layer whose weight is divided by its largest singular value.

    Miyato et al., 2018, arXiv 1802.05957, algorithm 1. layer: Linear, Embedding, Conv2d or
    ConvTranspose2d, its weight read as the matrix [outputs, everything else] ([numbers, features]
    for an Embedding). Every forward pass does one step of power iteration from `u`, float32
    [outputs], and keeps it while training; evaluation changes nothing. The singular value carries
    the gradient of the weight, not of the iteration. eps: the smallest length that a vector is
    divided by.
    """

    def __init__(self, layer: nn.Module, eps: float = 1e-12):
        super().__init__()
        self.layer, self.eps = layer, eps
        self.register_buffer("u", F.normalize(torch.randn(len(_matrix(layer))), dim=0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional_call(self.layer, {"weight": self.normalised_weight()}, (x,))

    def normalised_weight(self) -> torch.Tensor:
        """Return the layer's weight over its largest singular value: float32, like the weight."""
        with torch.autocast(self.u.device.type, enabled=False):
            matrix = _matrix(self.layer)
            with torch.no_grad():
                v = F.normalize(matrix.T @ self.u, dim=0, eps=self.eps)
            image_of_v = matrix @ v
            # New tensors, since the next pass changes the buffer before this one is differentiated
            u = F.normalize(image_of_v.detach(), dim=0, eps=self.eps)
            if self.training:
                self._keep(u)
            return self.layer.weight / torch.dot(u, image_of_v)

    @torch.no_grad()
    def _keep(self, u: torch.Tensor) -> None:
        self.u.copy_(u)


class WeightNorm(nn.Module):
    """A layer whose weight is `gain` times its direction, output by output.

    Salimans and Kingma, 2016, arXiv 1602.07868. layer: like Spectral's, initialised: `gain`,
    float32 [outputs], starts as the lengths of its weight, which is unchanged at first.
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        self.gain = nn.Parameter(_matrix(layer).detach().norm(dim=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.layer.weight
        outputs = _output_dim(self.layer)
        others = [dim for dim in range(weight.ndim) if dim != outputs]
        shape = [-1 if dim == outputs else 1 for dim in range(weight.ndim)]
        scale = self.gain.view(shape) * weight.square().sum(others, keepdim=True).rsqrt()
        return functional_call(self.layer, {"weight": weight * scale}, (x,))


def normalise_weights(network: nn.Module, name: str, eps: float = 1e-12, embeddings: bool = True) -> nn.Module:
    """Wrap every layer in a network, or a layer itself, in place; return it, or the wrapper.

    name: `spectral` (with this eps) or `weight`. Initialise the network before. Layers that are
    wrapped already are left as they are, and embeddings with embeddings=False.
    """
    if isinstance(network, LAYERS):
        return Spectral(network, eps) if name == "spectral" else WeightNorm(network)
    for child_name, child in list(network.named_children()):
        if not isinstance(child, Spectral | WeightNorm) and (embeddings or not isinstance(child, nn.Embedding)):
            setattr(network, child_name, normalise_weights(child, name, eps, embeddings))
    return network


def _output_dim(layer: nn.Module) -> int:
    """Return the dimension of a layer's weight that counts its outputs."""
    return 1 if isinstance(layer, nn.ConvTranspose2d) else 0


def _matrix(layer: nn.Module) -> torch.Tensor:
    """Return a layer's weight as [outputs, everything else].

    It is a view where the outputs come first, in either memory format.
    """
    weight = layer.weight.transpose(0, _output_dim(layer))
    if weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        weight = weight.permute(0, 2, 3, 1)  # the order of the columns changes no singular value
    return weight.flatten(1)


class ImageNorm(nn.Module):
    """Normalisation of features [N, C, H, W] to mean 0 and variance 1, image by image.

    A gain and a bias for each channel follow. dims: the dimensions of the statistics: (1, 2, 3) is
    layer normalisation as WGAN-GP has it (Ba et al., 2016), (2, 3) instance normalisation. In plain
    operations, so that a compiler fuses both orders of gradient; in float32, with a result of the
    dtype of the input.
    """

    def __init__(self, num_channels: int, dims: tuple[int, ...], eps: float = 1e-5):
        super().__init__()
        self.dims, self.eps = dims, eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = _at_least_float32(x)
        centred = wide - wide.mean(self.dims, keepdim=True)
        scale = (centred.square().mean(self.dims, keepdim=True) + self.eps).rsqrt()
        return (centred * scale * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, over dims {self.dims}"


class ClassBatchNorm2d(BatchNorm2d):
    """BatchNorm whose gain and bias depend on a condition, and a ReLU.

    de Vries et al., 2017, arXiv 1707.00683. forward(x, condition) -> like x. gain, bias: modules
    condition -> [N, C]; the gain that they give is added to 1. For class numbers class_batch_norm
    makes both.
    """

    def __init__(self, num_channels: int, gain: nn.Module, bias: nn.Module):
        super().__init__(num_channels, affine=False)
        self.class_gain, self.class_bias = gain, bias

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        gain, bias = 1 + _at_least_float32(self.class_gain(condition)), _at_least_float32(self.class_bias(condition))
        return F.relu((super().forward(x) * gain[:, :, None, None] + bias[:, :, None, None]).to(x.dtype))


def class_batch_norm(num_channels: int, num_classes: int) -> ClassBatchNorm2d:
    """Make a BatchNorm conditional on class numbers, int64 [N], with a ReLU.

    It starts as the same for all classes: gain 1, bias 0.
    """
    gain, bias = nn.Embedding(num_classes, num_channels), nn.Embedding(num_classes, num_channels)
    for embedding in (gain, bias):
        nn.init.zeros_(embedding.weight)
    return ClassBatchNorm2d(num_channels, gain, bias)


def normalisation(name: str, num_channels: int) -> nn.Module:
    """Make a normalisation of features [N, C, H, W]: none | batch | instance | layer."""
    makers = {
        "none": nn.Identity,
        "batch": lambda: BatchNorm2d(num_channels),
        "instance": lambda: ImageNorm(num_channels, (2, 3)),
        "layer": lambda: ImageNorm(num_channels, (1, 2, 3)),
    }
    return makers[name]()


def _at_least_float32(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
