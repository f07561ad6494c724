"""Brings data and networks together: which size the images get, and what feeds the step."""
import dataclasses
import math

import numpy as np
import torch

from fastgan.adapt import Signature
from fastgan.config import DCGAN_RESOLUTIONS, Config
from fastgan.data import GaussianFeed, ResidentFeed, Source, open_source
from fastgan.errors import UserError

OWN_RESOLUTION = 64  # dcgan's and mlp's, where the images are larger and no size is asked for


def fit_to_data(config: Config, source) -> Config:
    """The configuration with resolution and channels filled in: what was asked for, else the data's own, at most 64 pixels.

    dcgan takes the largest of its sizes that the images reach, a frame of black included (28 -> 32, 40 -> 32, 48 -> 64).
    """
    if source is None:  # samples of a density
        return config
    model = config.model
    resolution, channels = model.img_resolution, model.img_channels or source.native_channels
    if resolution is None:
        reached = [size for size in DCGAN_RESOLUTIONS if size <= OWN_RESOLUTION and 3 * size <= 4 * source.native_resolution]
        own = max(reached, default=DCGAN_RESOLUTIONS[0])
        resolution = own if model.architecture == "dcgan" else min(source.native_resolution, OWN_RESOLUTION)
    return dataclasses.replace(config, model=dataclasses.replace(model, img_resolution=resolution, img_channels=channels))


def open_feed(data, signature: Signature, config: Config, generator: torch.Generator, progress: bool = True):
    """(feed, images): the feed of real batches, and the uint8 set [num_images, H, W, C] behind it, or None where samples are no images.

    data: as fastgan.data.open_source takes it, or an opened source; [num, features] floats = samples; of no account where the configuration's
    data are the Gaussian. generator: the run's own, on the device that the batches are for. progress: a bar while images are read.
    Raises UserError where the data and G's images do not fit each other.
    """
    run = config.run
    if config.data.source == "gaussian":
        return GaussianFeed(config.data.mean, config.data.std, run.batch_size, generator), None
    if isinstance(data, np.ndarray | torch.Tensor) and data.ndim == 2 and torch.as_tensor(data[:1]).is_floating_point():
        samples = torch.as_tensor(data, dtype=torch.float32)
        if samples.shape[1:] != signature.img_shape:
            raise UserError(f"the data has samples of {samples.shape[1]} features, but G makes {list(signature.img_shape)}")
        return ResidentFeed(samples, run.batch_size, run.seed, generator.device), None
    source = data if isinstance(data, Source) else open_source(data)
    channels, resolution = _image_size(signature.img_shape)
    image_set = source.read(resolution, channels, skip_bad=config.data.skip_bad, progress=progress)
    return ResidentFeed(image_set.images, run.batch_size, run.seed, generator.device), image_set


def _image_size(img_shape: tuple[int, ...]) -> tuple[int, int]:
    """(channels, resolution) of G's images, which may be flat; others than square grey or colour images are a UserError."""
    if len(img_shape) == 3 and img_shape[1] == img_shape[2] and img_shape[0] in (1, 3):
        return img_shape[0], img_shape[1]
    if len(img_shape) == 1:
        for channels in (1, 3):  # no number is both a square and three times one
            side = math.isqrt(img_shape[0] // channels)
            if channels * side * side == img_shape[0]:
                return channels, side
    raise UserError(f"G makes images of shape {list(img_shape)}; square images of 1 or 3 channels are supported, or flat ones of such a size")
