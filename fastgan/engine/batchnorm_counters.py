"""BatchNorm's `num_batches_tracked`, counted on the host without kernel launches.

PyTorch launches one tiny kernel a layer and pass, 20 a step of a DCGAN, for a number that the host
knows. A layer with a momentum never reads its counter. While steps run, the counters are removed
from the layers. One watched step of each variant shows how often the step would have incremented
each counter, and the tensors are updated before anybody can read them.
"""
import contextlib
from collections import Counter
from collections.abc import Hashable, Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class BatchCounters:
    """The counters of all BatchNorm layers with momentum of some networks.

    Layers without momentum are left out: they average by their counters. copies:
    (network, its average) pairs; the average's counters follow those of the network.
    """

    def __init__(self, state: list[nn.Module], copies: list[tuple[nn.Module, nn.Module]] = ()):
        self._layers = [layer for network in state for layer in network.modules() if _counts(layer)]
        pairs = [pair for network, average in copies for pair in zip(network.modules(), average.modules(), strict=True)]
        self._copies = [
            (copy.num_batches_tracked, layer.num_batches_tracked) for layer, copy in pairs if _counts(layer)
        ]
        self._passes: dict[Hashable, Counter[int]] = {}  # variant of a step -> index of a layer -> passes
        self._pending: Counter[Hashable] = Counter()  # variant -> steps that the tensors do not have yet

    def copies(self) -> list[torch.Tensor]:
        """Return the counters of the averages."""
        return [copy for copy, _ in self._copies]

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Remove the counters inside, so that the layers count nothing."""
        tensors = [layer.num_batches_tracked for layer in self._layers]
        for layer in self._layers:
            layer.num_batches_tracked = None
        try:
            yield
        finally:
            for layer, tensor in zip(self._layers, tensors, strict=True):
                layer.num_batches_tracked = tensor

    @contextlib.contextmanager
    def watching(self, variant: Hashable, num_steps: int) -> Iterator[None]:
        """Record how often each layer runs in a step of this variant.

        Run `num_steps` steps of the variant inside, in Python.
        """
        seen: Counter[int] = Counter()
        hooks = [layer.register_forward_pre_hook(_raising(seen, index)) for index, layer in enumerate(self._layers)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        self._passes[variant] = Counter({index: passes // num_steps for index, passes in seen.items()})

    def add(self, variant: Hashable, num_steps: int = 1) -> None:
        """Count `num_steps` steps of this variant that were run."""
        self._pending[variant] += num_steps

    @torch.no_grad()
    def write(self) -> None:
        """Bring the tensors up to date."""
        for variant, num_steps in self._pending.items():
            for index, passes in self._passes[variant].items():
                self._layers[index].num_batches_tracked.add_(passes * num_steps)
        self._pending.clear()
        for copy, counter in self._copies:
            copy.copy_(counter)


def _counts(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and layer.num_batches_tracked is not None and layer.momentum is not None


def _raising(seen: Counter[int], index: int):
    def hook(layer: nn.Module, args: tuple) -> None:
        seen[index] += layer.training * getattr(layer, "parts", 1)  # layers.BatchNorm2d: that many batches at once

    hook.only_counts = True  # nn/sequential.py runs the layer as it does without it
    return hook
