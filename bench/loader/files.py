"""The same real images in every form in which a user may have them."""
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from fastgan.data import open_source
from fastgan.data.packing.pack import pack

EMBEDDED = "fashion-mnist-10k"
JPEG_QUALITY = 90


def embedded_images(num_images: int, resolution: int, channels: int) -> torch.Tensor:
    """Return uint8 [num_images, R, R, C], at most 10 000: the embedded set, scaled up.

    The channels of a colour image are three different pictures: three equal ones would be easier
    for a codec than any photograph.
    """
    source = open_source(EMBEDDED)
    images = source.read(source.native_resolution, source.native_channels).images[:num_images]
    scaled = F.interpolate(images.permute(0, 3, 1, 2).float(), size=resolution, mode="bilinear").round().to(torch.uint8)
    return torch.cat([scaled.roll(shift, 0) for shift in range(channels)], 1).permute(0, 2, 3, 1).contiguous()


def write_folder(images: torch.Tensor, folder: Path, suffix: str) -> Path:
    """Write uint8 images [num_images, H, W, C] as numbered files.

    suffix: png or jpeg. Returns the folder.
    """
    folder.mkdir(parents=True)
    for index, pixels in enumerate(images.numpy()):
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(
            folder / f"{index:05}.{suffix}", quality=JPEG_QUALITY
        )
    return folder


def write_sources(images: torch.Tensor, folder: Path) -> dict[str, Path | str]:
    """Write uint8 images [num_images, H, W, C] in every kind of file.

    Returns arguments of `open_source` by the names that rows use, the embedded set included.
    """
    png, jpeg = (write_folder(images, folder / suffix, suffix) for suffix in ("png", "jpeg"))
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:  # stored: PNG does not become smaller
        for path in sorted(png.iterdir()):
            archive.write(path, path.name)
    np.save(folder / "images.npy", images.numpy())
    np.savez(folder / "images.npz", images=images.numpy())
    pack(open_source(folder / "images.npy"), folder / "images.packed")
    files = {kind: folder / f"images.{kind}" for kind in ("npy", "npz", "packed")}
    return {
        "embedded": EMBEDDED,
        "folder of PNG": png,
        "folder of JPEG": jpeg,
        "zip of PNG": folder / "images.zip",
        **files,
    }
