"""A buffer of earlier fakes, from which D's are taken."""
import torch
from torch import nn


class ImagePool(nn.Module):
    """The replay buffer of CycleGAN (Zhu et al., 2017, arXiv 1703.10593, section 4).

    It keeps `size` images of shape `img_shape` as a buffer of the module, so that checkpoints have
    it. Once it is full, an image of the batch is swapped with a stored one with probability 1/2;
    before, images pass through and are stored.
    """

    def __init__(self, size: int, img_shape: tuple[int, ...]):
        super().__init__()
        self.size = size
        self.register_buffer("img", torch.zeros(size, *img_shape))
        self.register_buffer("num", torch.zeros((), dtype=torch.int64))

    def num_uniforms(self, batch_size: int) -> int:
        """Return the length of `uniform` for a batch of at most `size` images."""
        return batch_size + self.size

    @torch.no_grad()
    def forward(self, img: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """Return images for D, [N, ...] like img, without a graph. uniform: float32, U(0,1).

        uniform has num_uniforms(N) numbers: N decide who is swapped, `size` choose the places.
        """
        num = len(img)
        assert num <= self.size, "a batch is no larger than the pool"
        is_full = self.num >= self.size
        in_order = torch.remainder(self.num + torch.arange(num, device=img.device), self.size)
        places = torch.where(is_full, uniform[num:].argsort()[:num], in_order)
        stored = self.img.index_select(0, places)
        swaps = ((uniform[:num] < 0.5) & is_full).view(-1, *[1] * (img.dim() - 1))
        given = torch.where(swaps, stored.to(img.dtype), img.detach())
        self.img.index_copy_(0, places, torch.where(swaps | ~is_full, img.detach().to(stored.dtype), stored))
        self.num.add_(num)
        return given
