"""A full GPU as a sentence."""
import contextlib
from collections.abc import Iterator

import torch

from fastgan.errors import UserError


@contextlib.contextmanager
def full_gpu_said() -> Iterator[None]:
    """An allocation that fails inside becomes a UserError that says what was asked for, what is free, and what can be done."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        # torch's own sentences: how much was asked for, and how much the GPU has and has left.
        asked, has, *_ = [*str(error).replace("CUDA out of memory. ", "").split(". "), "", ""]
        remedy = "lower --batch-size or --resolution, end what else runs there, or keep the images in host memory with --data-backend stream"
        raise UserError(f"the GPU is full: {asked.strip()}; {has.strip()}: {remedy}") from None
