"""The DataLoader that feeds a GAN in the tutorials.

A Dataset opens one file at a time with Pillow; torchvision's ToTensor and Normalize and torch's
DataLoader do the rest.
"""
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

NUM_WORKERS = (0, 1, 2)


class ImageFiles(Dataset):
    """The image files of a folder as float32 [C, H, W] in [-1, 1], contiguous.

    channels: 1 (grey) or 3.
    """

    def __init__(self, folder: Path, channels: int):
        self.paths = sorted(folder.iterdir())
        self.mode = "L" if channels == 1 else "RGB"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            pixels = torch.from_numpy(np.array(image.convert(self.mode)))
        img = pixels.view(*pixels.shape[:2], -1).permute(2, 0, 1).contiguous().float().div(255)  # ToTensor
        return img.sub_(0.5).div_(0.5)  # Normalize


def endless_batches(
    dataset: Dataset, batch_size: int, num_workers: int, device: torch.device
) -> Iterator[torch.Tensor]:
    """Yield shuffled batches [batch_size, ...] on the device, epoch after epoch.

    The last incomplete batch of an epoch is left out. Workers live as long as the iterator.
    """
    on_gpu = device.type == "cuda"
    loader = DataLoader(
        dataset,
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=on_gpu,
    )
    while True:
        for batch in loader:
            yield batch.to(device, non_blocking=True)
