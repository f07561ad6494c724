"""The order in which a set is shown: one permutation an epoch.

It follows from the seed and the epoch alone, and is computed on the CPU, so that it is the same on
every device.
"""
import hashlib

import torch

from fastgan.errors import UserError


def epoch_order(num_images: int, seed: int, epoch: int) -> torch.Tensor:
    """Return the permutation of an epoch, int64 [num_images]."""
    # Hashed, since neighbouring seeds or epochs must not give related orders, nor (seed 0, epoch 1)
    # that of (seed 1, epoch 0).
    digest = hashlib.sha256(f"{seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
    return torch.randperm(num_images, generator=generator)


class EndlessOrder:
    """The permutations of all epochs, one behind the other without a gap.

    Image number `nimg` of the run is row `nimg` of this sequence.
    """

    def __init__(self, num_images: int, seed: int):
        self.num_images, self._seed = num_images, seed
        self._epochs: dict[int, torch.Tensor] = {}

    def rows(self, nimg: int, num: int) -> torch.Tensor:
        """Return the rows of the images nimg to nimg + num - 1, int64 [num]."""
        pieces, end = [], nimg + num
        while nimg < end:
            epoch, start = divmod(nimg, self.num_images)
            pieces.append(self.epoch(epoch)[start:start + end - nimg])
            nimg += len(pieces[-1])
        # Hardly ever a copy: it would cost as much as gathering small images
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def epoch(self, epoch: int) -> torch.Tensor:
        """Return the permutation of an epoch; the last two that were asked for are kept."""
        if epoch not in self._epochs:
            self._epochs = {kept: order for kept, order in self._epochs.items() if kept == epoch - 1}
            self._epochs[epoch] = epoch_order(self.num_images, self._seed, epoch)
        return self._epochs[epoch]


def check_batch_size(batch_size: int, num_images: int) -> None:
    """Raise UserError for a batch that is larger than the set."""
    if not 1 <= batch_size <= num_images:
        raise UserError(
            f"batch_size {batch_size} does not fit a set of {num_images} images: choose one from 1 to {num_images}"
        )
