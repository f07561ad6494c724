"""The whole set in the memory of the device, and a new order of it every epoch."""
import hashlib

import torch

from fastgan.errors import UserError


class ResidentFeed:
    """Batches gathered by index from a set that stays on the device.

    images: uint8 [num_images, H, W, C], or float [num_images, num_features] for samples that are not images.
    Every epoch is one permutation of the set, and the permutations follow each other without a gap, so a batch may lie across two.
    The order depends on seed, epoch and num_images alone. `nimg`, the number of images given so far, may be set at any time.
    """

    def __init__(self, images: torch.Tensor, batch_size: int, seed: int, device: str | torch.device = "cpu"):
        if images.dim() not in (2, 4):
            raise UserError(f"a set of shape {list(images.shape)} cannot be fed: give images [num_images, H, W, C] or samples [num_images, features]")
        if not 1 <= batch_size <= len(images):
            raise UserError(f"batch_size {batch_size} does not fit a set of {len(images)} images: choose one from 1 to {len(images)}")
        self.nimg = 0
        self._batch_size, self._seed, self._num_images = batch_size, seed, len(images)
        self._images = images.to(device).contiguous()
        self._shuffle(0)

    def seek(self, nimg: int) -> None:
        """Go to where `nimg` images have been given."""
        self.nimg = nimg

    def next_batch(self) -> torch.Tensor:
        """The next batch: [batch_size, C, H, W] in channels_last memory, or [batch_size, num_features]; same dtype and device as the set."""
        epoch, start = divmod(self.nimg, self._num_images)
        self.nimg += self._batch_size
        rows = self._images.index_select(0, self._indices(epoch, start))
        return rows.permute(0, 3, 1, 2) if rows.dim() == 4 else rows

    def _indices(self, epoch: int, start: int) -> torch.Tensor:
        if epoch != self._epoch:
            self._shuffle(epoch)
        head = self._order[start:start + self._batch_size]
        if len(head) == self._batch_size:
            return head
        self._shuffle(epoch + 1)
        return torch.cat([head, self._order[:self._batch_size - len(head)]])

    def _shuffle(self, epoch: int) -> None:
        self._epoch = epoch
        self._order = epoch_order(self._num_images, self._seed, epoch).to(self._images.device)


def epoch_order(num_images: int, seed: int, epoch: int) -> torch.Tensor:
    """The permutation of an epoch, int64 [num_images], on the CPU so that it is the same for every device."""
    # Hashed, since neighbouring seeds or epochs must not give related orders, nor (seed 0, epoch 1) that of (seed 1, epoch 0).
    digest = hashlib.sha256(f"{seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
    return torch.randperm(num_images, generator=generator)
