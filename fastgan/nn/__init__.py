"""Layers with fused operators, norms, noise, and the inspection of a user's G and D.

The layers are loaded on first use.
"""
import importlib

_PUBLIC = {
    **dict.fromkeys(("Accelerated", "accelerate"), "fastgan.nn.accelerate"),
    **dict.fromkeys(("Conv2d", "ConvTranspose2d", "Linear"), "fastgan.nn.convolutions"),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "ConvDown", "Deconv", "Head", "LeakyReLUBCEHead", "NormedConv",
                     "Projection", "StridedConv", "UpConv"), "fastgan.nn.layers"),
    "ImagePool": "fastgan.nn.image_pool",
    **dict.fromkeys(("ClassBatchNorm2d", "ImageNorm", "Spectral", "WeightNorm"), "fastgan.nn.norms"),
    "GaussianNoise": "fastgan.nn.noise",
}  # fmt: skip
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fastgan.nn' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
