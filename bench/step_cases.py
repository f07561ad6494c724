"""The measured case: a preset at a size and batch size, and its real images.

Every implementation gets the same images.
"""
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F

from fastgan.config import Config, replace
from fastgan.config.presets import preset
from fastgan.config.validation import validate
from fastgan.data import open_source
from fastgan.errors import UserError
from fastgan.gan.phases import batches_per_step

POOL_BATCHES = 8  # steps that get distinct real images, made beforehand: loading data is not part of a step
SIZES = {"mlp": (28, 1), "dcgan": (64, 3)}  # (resolution, channels) where none are asked for
OTHER_SIZE = (32, 1)  # of any other architecture
SET_SIZE = 100  # number of samples that the D of the 1-D GAN sees together


@dataclass(frozen=True)
class Case:
    """A complete configuration on a device."""

    config: Config
    device: torch.device

    @property
    def images_per_step(self) -> int:
        """Number of real images that a step reads.

        A batch, or two of them where G's loss compares its fakes with real images of its own.
        """
        return self.config.run.batch_size * batches_per_step(self.config)

    @cached_property
    def uint8_batches(self) -> list[torch.Tensor]:
        """Batches as fastgan's feed gives them.

        uint8 [N, C, H, W] in channels_last memory, or float32 samples [N, 1].
        """
        if self.config.model.architecture == "samples":
            return self._gaussian_batches()
        return list(self.images.split(self.images_per_step))

    @cached_property
    def images(self) -> torch.Tensor | None:
        """All images, uint8 [num, C, H, W] in channels_last memory; None where data are samples."""
        if self.config.model.architecture == "samples":
            return None
        return self._images().permute(0, 3, 1, 2).to(self.device)

    @cached_property
    def float_batches(self) -> list[torch.Tensor]:
        """The same batches as a tutorial's DataLoader gives them.

        Contiguous float32 in [img_low, 1].
        """
        return [self.as_float(batch) for batch in self.uint8_batches]

    def as_float(self, batch: torch.Tensor) -> torch.Tensor:
        """Convert a batch, uint8 or samples, to the floats that a tutorial's DataLoader gives."""
        low = self.config.model.img_low
        return batch if batch.is_floating_point() else (batch.float() / 255 * (1 - low) + low).contiguous()

    def _gaussian_batches(self) -> list[torch.Tensor]:
        data, generator = self.config.data, torch.Generator(self.device).manual_seed(0)
        shape = (POOL_BATCHES * self.config.run.batch_size, 1)
        samples = torch.randn(shape, generator=generator, device=self.device) * data.std + data.mean
        return list(samples.split(self.config.run.batch_size))

    def _images(self) -> torch.Tensor:
        """Return the embedded real images at the size of the case, uint8 [num, R, R, C]."""
        model = self.config.model
        source = open_source("fashion-mnist-10k")
        images = source.read(source.native_resolution, source.native_channels).images
        images = images[torch.arange(POOL_BATCHES * self.images_per_step) % len(images)]
        resized = F.interpolate(images.permute(0, 3, 1, 2).float(), size=model.img_resolution, mode="bilinear")
        return resized.round().to(torch.uint8).permute(0, 2, 3, 1).expand(-1, -1, -1, model.img_channels).contiguous()


def make_case(
    name: str, batch_size: int | None = None, resolution: int | None = None, channels: int | None = None
) -> Case:
    """Return the case of a preset, on CUDA where there is one.

    None = the preset's batch size; 28x28x1 for fully connected networks, 64x64x3 for dcgan, 32x32x1
    for others.
    """
    config = preset(name)
    if config.model.cond or config.model.architecture == "points":
        missing = "labels" if config.model.cond else "points"
        raise UserError(f"the step of {name} cannot be measured: it learns from {missing}, and no such data are here")
    if batch_size is not None:
        config = replace(config, "run.batch_size", batch_size)
    if config.model.architecture != "samples":
        size = SIZES.get(config.model.architecture, OTHER_SIZE)
        config = replace(
            replace(config, "model.img_resolution", resolution or size[0]), "model.img_channels", channels or size[1]
        )
    elif resolution is not None or channels is not None:
        raise UserError(f"{name} makes samples, not images: leave --resolution and --channels out")
    elif config.run.batch_size % SET_SIZE:
        raise UserError(
            f"--batch-size {config.run.batch_size}: {name} judges sets of {SET_SIZE} samples, so give a multiple of "
            f"{SET_SIZE}"
        )
    return Case(validate(config), torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def with_autotune(case: Case) -> Case:
    """Return the same case with the compiler's autotuning of kernels turned on.

    On CUDA only; it takes minutes a rung.
    """
    return Case(replace(case.config, "run.autotune", True), case.device)
