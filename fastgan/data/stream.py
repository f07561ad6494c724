"""A set that stays in host memory: its batches are gathered there and copied to the device while it computes."""
import torch

from fastgan.data.order import EndlessOrder, check_batch_size
from fastgan.data.ring import MAX_STEPS, RingFeed


class StreamFeed(RingFeed):
    """Batches gathered from host memory.

    images: uint8 [num_images, H, W, C] on the CPU, contiguous; may be a memory map of a file that is larger than the memory.
    On CUDA a batch goes through a pinned slot of its own for each slot of the ring; otherwise it is gathered into the ring at once.
    """

    def __init__(self, images: torch.Tensor, batch_size: int, seed: int, device: str | torch.device = "cpu", max_steps: int = MAX_STEPS,
                 threaded: bool | None = None):
        check_batch_size(batch_size, len(images))
        super().__init__(tuple(images.shape[1:]), batch_size, device, max_steps, threaded)
        self._images, self._endless = images.view(len(images), -1), EndlessOrder(len(images), seed)  # flat rows are gathered twice as fast
        on_cuda = self.device.type == "cuda"
        slots = torch.empty(len(self._slots), *self._slots[0].shape, dtype=torch.uint8, pin_memory=True).unbind() if on_cuda else self._slots
        self._host_slots = [slot.view(batch_size, -1) for slot in slots]  # what is gathered into: pinned memory, or the ring itself
        self.seek(0)

    def _fill(self, target: torch.Tensor, slot: int, nimg: int) -> None:
        gathered = self._host_slots[slot]
        torch.index_select(self._images, 0, self._endless.rows(nimg, self.batch_size), out=gathered)
        if target.is_cuda:
            target.copy_(gathered.view_as(target), non_blocking=True)
