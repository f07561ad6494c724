"""The whole set in the memory of the device, gathered by index inside the step.

It has a new order every epoch.
"""
import torch

from fastgan.data.feeds.cuda_streams import SideStream
from fastgan.data.feeds.feed import Batch, Feed, Window, check_labels
from fastgan.data.feeds.order import EndlessOrder, check_batch_size
from fastgan.errors import UserError


class ResidentFeed(Feed):
    """Batches gathered by index from a set that stays on the device.

    images: uint8 or float32 [num_images, H, W, C], or samples of another shape [num_images, ...].
    labels: int64 [num_images], the class of each, or float32 [num_images, width], which `read` then
    gives with them.
    Every epoch is one permutation of the set, and the permutations follow each other without a gap,
    so a batch may lie across two. On the device lie the orders of two epochs, even ones in the
    first half and odd ones in the second. The order of the next epoch is brought there on a stream
    of its own while the present one is read.
    """

    def __init__(
        self,
        images: torch.Tensor,
        batch_size: int,
        seed: int,
        device: str | torch.device = "cpu",
        labels: torch.Tensor | None = None,
    ):
        if images.dim() < 2:
            raise UserError(
                f"a set of shape {list(images.shape)} cannot be fed: give images [num_images, H, W, C] or samples "
                "[num_images, ...]"
            )
        check_batch_size(batch_size, len(images))
        check_labels(labels, len(images))
        super().__init__(batch_size)
        self._endless = EndlessOrder(len(images), seed)
        rows = images.to(device).contiguous()
        order = torch.zeros(2 * len(images), dtype=torch.int64, device=device)
        self._window = Window(rows, order, batch_size, None if labels is None else labels.to(device).contiguous())
        self._loaded = [-1, -1]  # the epoch whose order lies in each half
        self._side = SideStream(rows.device) if rows.is_cuda else None
        self.seek(0)

    @property
    def max_steps(self) -> int:
        return self._endless.num_images // self.batch_size  # so that they lie in two epochs

    def state(self) -> dict[str, torch.Tensor]:
        return {"position": self._window.position}

    def seek(self, nimg: int) -> None:
        self.nimg = nimg
        self._window.position.fill_(nimg)
        self.launched(0)
        self.reserve(1)

    def read(self) -> Batch:
        return self._window.read()

    def reread(self) -> Batch:
        return self._window.reread()

    def reserve(self, num_steps: int) -> None:
        first, last = (
            place // self._endless.num_images for place in (self.nimg, self.nimg + num_steps * self.batch_size - 1)
        )
        assert last <= first + 1, "more steps than max_steps were reserved at once"
        for epoch in (first, first + 1):  # the next one early: its copy is done before it is needed
            if self._loaded[epoch % 2] != epoch:
                self._load(epoch)

    def launched(self, num_steps: int) -> None:
        super().launched(num_steps)
        if self._side is not None:
            self._side.mark()

    def _load(self, epoch: int) -> None:
        """Copy the order of an epoch over that of two epochs before."""
        half, num_images = epoch % 2, self._endless.num_images
        self._loaded[half] = epoch
        order, target = self._endless.epoch(epoch), self._window.order[half * num_images:(half + 1) * num_images]
        if self._side is None:
            target.copy_(order)
        else:
            self._side.copy(target, order)
