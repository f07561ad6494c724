"""Choice of the images' size and of the feed, from the data and the networks."""
import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from fastgan.config import DENSITIES, Config
from fastgan.data import Batch, Feed, GaussianFeed, ResidentFeed, Source, open_source
from fastgan.data.classes import check_classes, classes_of
from fastgan.data.feeds.ring import MAX_STEPS
from fastgan.data.feeds.stream import StreamFeed
from fastgan.data.feeds.synthetic import GRID_STD, RING_STD, MixtureFeed, grid, ring
from fastgan.data.real_set import EncodedSet, RealSet
from fastgan.data.sources.arrays import checked_labels
from fastgan.data.sources.folder import FileSource
from fastgan.data.sources.opening import with_labels_apart
from fastgan.data.tensors.live import open_live
from fastgan.data.tensors.opening import (
    Target,
    as_pair,
    cached,
    is_live,
    open_tensors,
    read_once_said,
    vector_width,
)
from fastgan.data.tensors.scaling import Scaling
from fastgan.data.tensors.tensor_set import TensorSet
from fastgan.errors import UserError
from fastgan.gan.phases import batches_per_step
from fastgan.nn.pair.inspect_pair import Signature

OWN_RESOLUTION = 64  # of larger images, if no size is asked for
# Largest share of the device's free memory that a set takes there with backend auto; networks and
# their work need the rest
RESIDENT_SHARE = 0.6


@dataclass(frozen=True)
class OpenedData:
    """An opened data set. feed: the batches.

    real_set: the images behind it, or None where samples are no images. notes: how they are fed,
    and which classes are hard to learn, for the log. scaling: of values that were scaled once, as
    samples undo it.
    """

    feed: Feed
    real_set: RealSet | None = None
    notes: tuple[str, ...] = ()
    scaling: Scaling | None = None


def fit_to_data(config: Config, source: Source | None, sizes: tuple[int, ...] | None) -> Config:
    """Fill in resolution, channels and, where the run is conditional, classes.

    What the configuration asks for has priority over the data's own, whose resolution is at most 64
    pixels. sizes: those that the networks can have, of which the largest is taken that the images
    reach, a frame of black included (of dcgan's 28 -> 32, 40 -> 32, 48 -> 64), or the smallest
    where they reach none; None = any size. source: None = samples of a density. Raises UserError
    for conditional training on data without labels.
    """
    if source is None:
        return config
    model = config.model
    resolution, channels = model.img_resolution, model.img_channels or source.native_channels
    if resolution is None:
        native = source.native_resolution
        reached = [size for size in sizes or (native,) if size <= OWN_RESOLUTION and 3 * size <= 4 * native]
        resolution = max(reached, default=min(sizes or (OWN_RESOLUTION,)))
    c_dim = classes_of(source)[0] if model.cond and not model.c_dim else model.c_dim
    return dataclasses.replace(
        config, model=dataclasses.replace(model, img_resolution=resolution, img_channels=channels, c_dim=c_dim)
    )


def open_feed(
    data, signature: Signature, config: Config, generator: torch.Generator, progress: bool = True
) -> OpenedData:
    """Return the feed of real batches and the image set behind it.

    data: as fastgan.data.open_source takes it, or an opened source; [num, features] floats =
    samples, which always lie on the device; arrays, tensors and data sets whose samples have the
    shape that G makes, which are kept exactly; a DataLoader or an IterableDataset, which is iterated
    as it is unless config.data.cache; ignored where the configuration's data are a density.
    generator: the run's own, on the device of the batches. progress: a bar while images
    are read. The batches come with labels where config.model.c_dim is above 0, the number of
    classes of the networks. Raises UserError where the data and G's images do not fit each other,
    where the images cannot be fed as config.data.backend asks, and where labels are missing or
    beyond c_dim.
    """
    if config.data.source in DENSITIES:
        return OpenedData(_open_density(config, generator))
    if config.augment.kind != "none" and len(signature.img_shape) != 3:
        raise UserError(
            f"augmentation needs images [C, H, W], and G makes {list(signature.img_shape)}: let G end in "
            "nn.Unflatten, or leave augmentation out"
        )
    target = Target(signature.img_shape, config.model.img_low, config.data.range, config.model.c_dim)
    if is_live(data) and not config.data.cache:
        return _open_live(data, target, config, generator.device)
    data = cached(data) if is_live(data) else data
    is_plain = len(signature.img_shape) == 1 and target.value_range is None and not vector_width(data)
    samples = _as_samples(as_pair(data, target.c_dim)) if is_plain else None
    if samples is not None:
        return _open_samples(samples, signature, config, generator.device)
    exact = None if isinstance(data, Source) else open_tensors(data, target, config.data.skip_bad, progress)
    if exact is not None:
        return _open_exact(*exact, read_once_said(data), config, generator.device)
    source = data if isinstance(data, Source) else open_source(as_pair(data, target.c_dim), config.data.range)
    if config.model.c_dim and source.why_no_labels:
        raise UserError(source.why_no_labels)
    channels, resolution = _image_size(signature.img_shape)
    if config.data.backend == "dali":
        return _open_encoded(source, resolution, channels, config, generator.device, progress)
    image_set = source.read(resolution, channels, skip_bad=config.data.skip_bad, progress=progress)
    _check_batches(config, image_set.num_images)
    backend, note = _choose_backend(config.data.backend, image_set.images.nbytes, _free_bytes(generator.device))
    labels, on_classes = _labels_to_tell(image_set.labels, image_set.class_names, image_set.name, config)
    open_images = _open_resident if backend == "resident" else _open_stream
    notes = (note, *source.notes(channels), *read_once_said(data), *on_classes)
    return OpenedData(open_images(image_set.images, labels, config, generator.device), image_set, notes)


def _image_size(img_shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (channels, resolution) of G's images, which may be flat.

    Raises UserError for images that are not square, grey or colour.
    """
    if len(img_shape) == 3 and img_shape[1] == img_shape[2] and img_shape[0] in (1, 3, 4):
        return img_shape[0], img_shape[1]
    if len(img_shape) == 1:
        for channels in (1, 3):  # no number is both a square and three times one
            side = math.isqrt(img_shape[0] // channels)
            if channels * side * side == img_shape[0]:
                return channels, side
    raise UserError(
        f"G makes images of shape {list(img_shape)}; square images of 1 or 3 channels, or 4 with alpha, are supported, "
        "or flat ones of such a size"
    )


def _labels_to_tell(
    labels: torch.Tensor | None, class_names: tuple[str, ...] | None, name: str, config: Config
) -> tuple[torch.Tensor | None, tuple[str, ...]]:
    """Return (the labels of a conditional run, else None; notes on them).

    Raises UserError where they are missing or beyond c_dim.
    """
    c_dim = config.model.c_dim
    if labels is not None and labels.dim() == 2:  # vectors, of which there are no classes
        return labels if c_dim else None, ()
    return (labels, check_classes(labels, class_names, name, c_dim)) if c_dim else (None, ())


def _batch_size(config: Config) -> int:
    """Return the number of images that a step reads at once."""
    return config.run.batch_size * batches_per_step(config)


def _check_batches(config: Config, num_images: int) -> None:
    """Raise UserError where a step reads more images at once than there are.

    The message is in terms of the user's own number.
    """
    most = num_images // batches_per_step(config)
    if config.run.batch_size > most and batches_per_step(config) > 1:
        raise UserError(f"--batch-size {config.run.batch_size} does not fit a set of {num_images} images, "
                        f"of which the {config.loss.name} loss takes two batches a step: "
                        f"choose one from 1 to {most}")  # fmt: skip


# --- samples of a density ---------------------------------------------------------------------------------------------


def centres_of(source: str) -> tuple[torch.Tensor, float]:
    """Return (centres of the modes [M, 2], standard deviation of each) of "ring8" or "grid25"."""
    return (ring(), RING_STD) if source == "ring8" else (grid(), GRID_STD)


def _open_density(config: Config, generator: torch.Generator) -> Feed:
    if config.data.source == "gaussian":
        return GaussianFeed(config.data.mean, config.data.std, _batch_size(config), generator)
    centres, std = centres_of(config.data.source)
    return MixtureFeed(centres, std, _batch_size(config), generator)


def _as_samples(data) -> Batch | None:
    """Return data of floats [num, features], alone or with labels, as float32 and int64 [num].

    None for images.
    """
    samples, labels = with_labels_apart(data)
    if (
        not isinstance(samples, np.ndarray | torch.Tensor)
        or samples.ndim != 2
        or not torch.as_tensor(samples[:1]).is_floating_point()
    ):
        return None
    if labels is not None:
        labels = torch.from_numpy(checked_labels(labels, len(samples), "the samples").astype(np.int64))
    return Batch(torch.as_tensor(samples, dtype=torch.float32), labels)


def _open_samples(samples: Batch, signature: Signature, config: Config, device: torch.device) -> OpenedData:
    if samples.img.shape[1:] != signature.img_shape:
        raise UserError(
            f"the data has samples of {samples.img.shape[1]} features, but G makes {list(signature.img_shape)}"
        )
    if config.data.mirror:
        raise UserError("mirror needs images, and the data are samples: leave it out")
    labels, notes = _labels_to_tell(samples.labels, None, "the samples", config)
    return OpenedData(ResidentFeed(samples.img, _batch_size(config), config.run.seed, device, labels), notes=notes)


def batch_size_of(data: object) -> int | None:
    """Return the batch size of a DataLoader, None for anything else."""
    return data.batch_size if isinstance(data, DataLoader) else None


def _open_live(
    data: DataLoader | IterableDataset, target: Target, config: Config, device: torch.device
) -> OpenedData:
    """Return the feed of a loader that is iterated as it is."""
    if config.data.backend == "dali":
        raise UserError("DALI decodes files, and a DataLoader gives tensors: choose another data.backend")
    feed, live_set, notes = open_live(data, target, _batch_size(config), config.run.seed, device, _ring_steps(config))
    _check_mirror(config, live_set)
    return OpenedData(feed, live_set, notes, live_set.scaling)


def _check_mirror(config: Config, tensor_set: TensorSet) -> None:
    if config.data.mirror and len(tensor_set.img_shape) != 3:
        raise UserError(f"mirror needs images [C, H, W], and samples are {list(tensor_set.img_shape)}: leave it out")


def _open_exact(
    tensor_set: TensorSet, notes: tuple[str, ...], read_once: tuple[str, ...], config: Config, device: torch.device
) -> OpenedData:
    """Return the feed of samples that are kept as they are."""
    if config.data.backend == "dali":
        raise UserError(f"DALI decodes files, and {tensor_set.name} lies in memory: choose another data.backend")
    _check_mirror(config, tensor_set)
    _check_batches(config, len(tensor_set.rows))
    backend, how = _choose_backend(config.data.backend, tensor_set.rows.nbytes, _free_bytes(device))
    labels, on_classes = _labels_to_tell(tensor_set.labels, tensor_set.class_names, tensor_set.name, config)
    open_rows = _open_resident if backend == "resident" else _open_stream
    said = (how, *notes, *read_once, *on_classes)
    return OpenedData(open_rows(tensor_set.rows, labels, config, device), tensor_set, said, tensor_set.scaling)


# --- the ways to feed decoded images ----------------------------------------------------------------------------------


def _choose_backend(asked: str, set_bytes: int, free_bytes: int | None) -> tuple[str, str]:
    """Return ("resident" or "stream", the reason as a note for the log).

    asked: auto | resident | stream. set_bytes: of all images in uint8. free_bytes: on the GPU;
    None = the device is the CPU, whose memory is the host's, so that images are read where they
    are. Raises UserError for resident where the set does not fit.
    """
    images = f"the images ({_size(set_bytes)})"
    # A ring would be a second copy: reserving from it takes 80 us of an mlp step of 2.8 ms, from
    # the set itself 6 us
    if free_bytes is None:
        return "resident", f"{images} are read directly from host memory"
    if asked == "resident" and set_bytes > free_bytes:
        raise _too_large(set_bytes, free_bytes)
    if asked == "stream" or (asked == "auto" and set_bytes > RESIDENT_SHARE * free_bytes):
        reason = (
            "as requested"
            if asked == "stream"
            else f"because they take more than {RESIDENT_SHARE:.0%} of the {_size(free_bytes)} free on the GPU"
        )
        return "stream", f"{images} stay in host memory and are streamed to the GPU, {reason}"
    return "resident", f"{images} are in GPU memory, which had {_size(free_bytes)} free"


def _open_resident(
    images: torch.Tensor, labels: torch.Tensor | None, config: Config, device: torch.device
) -> ResidentFeed:
    try:
        return ResidentFeed(images, _batch_size(config), config.run.seed, device, labels)
    except torch.cuda.OutOfMemoryError as error:
        raise _too_large(images.nbytes, _free_bytes(device) or 0) from error


def _open_stream(images: torch.Tensor, labels: torch.Tensor | None, config: Config, device: torch.device) -> StreamFeed:
    return StreamFeed(images, _batch_size(config), config.run.seed, device, _ring_steps(config), labels=labels)


def _ring_steps(config: Config) -> int:
    """Return the number of steps that a ring must hold: those of one launch of the CUDA graph."""
    return max(MAX_STEPS, config.run.graph_steps or 0)


def _too_large(set_bytes: int, free_bytes: int) -> UserError:
    return UserError(f"the images need {_size(set_bytes)} of the GPU's memory, of which {_size(free_bytes)} are free: "
                     "stream them from the host with --data-backend stream")


def _free_bytes(device: torch.device) -> int | None:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"


# --- images decoded as they are needed --------------------------------------------------------------------------------


def _open_encoded(
    source: Source, resolution: int, channels: int, config: Config, device: torch.device, progress: bool
) -> OpenedData:
    # Imported here, since few runs need it; it refuses sources that it cannot decode, and machines
    # without DALI
    from fastgan.data.dali.feed import DaliFeed

    run = config.run
    labels = torch.from_numpy(source.labels) if isinstance(source, FileSource) and source.labels is not None else None
    feed = DaliFeed(
        source,
        resolution,
        channels,
        _batch_size(config),
        run.seed,
        device,
        config.data.skip_bad,
        config.data.random_crop,
        progress,
        max_steps=_ring_steps(config),
        labels=labels if config.model.c_dim else None,
    )
    of_usable = None if labels is None else labels[torch.from_numpy(feed.rows)]
    real_set = EncodedSet(source, len(feed.rows), (resolution, resolution, channels), feed.skipped, of_usable)
    _, on_classes = _labels_to_tell(of_usable, source.class_names, source.name, config)
    return OpenedData(
        feed,
        real_set,
        (f"the {real_set.num_images} images are decoded by DALI on demand", *source.notes(channels), *on_classes),
    )
