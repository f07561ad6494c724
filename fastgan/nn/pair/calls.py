"""How the step calls a user's G and D, whose code stays as it is.

Two torch function modes change single calls inside: `Tensor.view` that needs contiguous memory, and
the sigmoid at the end of a D. Dynamo traces them, so that the compiled step contains no trace of
them (torch 2.11 to 2.13; a test fails when that changes).
"""
import contextlib
from dataclasses import dataclass

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from fastgan.nn.pair.conditions import Condition
from fastgan.nn.pair.outputs import Output, image_of

SIGMOIDS = (torch.sigmoid, torch.sigmoid_, torch.Tensor.sigmoid, torch.Tensor.sigmoid_, torch.special.expit)


class ViewsAsReshapes(TorchFunctionMode):
    """Lets `x.view(sizes)` work on memory in channels_last, as `reshape`.

    On contiguous memory nothing changes.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.view and not kwargs and not any(isinstance(each, torch.dtype) for each in args[1:]):
            return torch.Tensor.reshape(*args)
        return function(*args, **(kwargs or {}))


class FormatViews(TorchFunctionMode):
    """Counts the `view` calls whose result depends on the memory format of images or volumes.

    They may work on the memory of an eager pass and fail on that of a compiled one.
    """

    def __init__(self):
        super().__init__()
        self.num = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.num += function is torch.Tensor.view and args[0].dim() > 3
        return function(*args, **(kwargs or {}))


class WithoutSigmoid(TorchFunctionMode):
    """Makes the sigmoid call with this number an identity. index: counted from 0 within the mode."""

    def __init__(self, index: int):
        super().__init__()
        self.index, self.seen = index, 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in SIGMOIDS:
            self.seen += 1
            if self.seen == self.index + 1:
                return args[0]
        return function(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Calls:
    """The way of calling a pair of networks.

    views: `Tensor.view` becomes `reshape`. last_sigmoid: number of the sigmoid call at D's end,
    which is skipped; None where D returns logits.
    """

    G_condition: Condition = Condition()
    D_condition: Condition = Condition()
    views: bool = False
    last_sigmoid: int | None = None

    def generate(self, G: nn.Module, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Return G's images for z, and for the labels where G takes classes."""
        with self._viewing():
            return image_of(G(z, *self.G_condition(labels, z)))

    def discriminate(self, D: nn.Module, img: torch.Tensor, labels: torch.Tensor | None) -> Output:
        """Return D's output for images, and for their labels where D takes classes."""
        with self._viewing(), self._without_sigmoid():
            return D(img, *self.D_condition(labels, img))

    def _viewing(self) -> contextlib.AbstractContextManager:
        return ViewsAsReshapes() if self.views else contextlib.nullcontext()

    def _without_sigmoid(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if self.last_sigmoid is None else WithoutSigmoid(self.last_sigmoid)
