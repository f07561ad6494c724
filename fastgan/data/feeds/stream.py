"""A set that stays in host memory.

Its batches are gathered there and copied to the device while it computes.
"""
import torch

from fastgan.data.feeds.feed import Batch, check_labels
from fastgan.data.feeds.order import EndlessOrder, check_batch_size
from fastgan.data.feeds.ring import MAX_STEPS, RingFeed, host_slots


class StreamFeed(RingFeed):
    """Batches gathered from host memory.

    images: uint8 or float32 [num_images, H, W, C] on the CPU, contiguous, or samples of another
    shape; may be a memory map of a file that is larger than the memory. labels: int64 [num_images]
    on the CPU, the class of each image, or float32 [num_images, width], which `read` then gives
    with them. On CUDA a batch goes through a pinned slot of its own for each slot
    of the ring; otherwise it is gathered into the ring at once.
    """

    def __init__(
        self,
        images: torch.Tensor,
        batch_size: int,
        seed: int,
        device: str | torch.device = "cpu",
        max_steps: int = MAX_STEPS,
        threaded: bool | None = None,
        labels: torch.Tensor | None = None,
    ):
        check_batch_size(batch_size, len(images))
        check_labels(labels, len(images))
        width = 0 if labels is None or labels.dim() == 1 else labels.shape[1]
        super().__init__(
            tuple(images.shape[1:]),
            batch_size,
            device,
            max_steps,
            threaded,
            labels is not None,
            images.dtype,
            width,
        )
        self._sources = Batch(images.view(len(images), -1), labels)  # flat rows are gathered twice as fast
        self._endless = EndlessOrder(len(images), seed)
        # The target of gathering: pinned memory, or the ring itself.
        self._host_slots = host_slots(self._slots)
        self.seek(0)

    def _fill(self, target: Batch, slot: int, nimg: int) -> None:
        rows = self._endless.rows(nimg, self.batch_size)
        for source, gathered, part in zip(
            self._sources.tensors(), self._host_slots[slot].tensors(), target.tensors(), strict=True
        ):
            torch.index_select(source, 0, rows, out=gathered.view(self.batch_size, *source.shape[1:]))
            if part.is_cuda:
                part.copy_(gathered, non_blocking=True)
