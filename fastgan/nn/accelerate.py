"""Fused layers in the place of a network's own torch layers.

A layer keeps its identity: only its class changes, to a subclass of the class that it had. So its
parameters, the keys of the state, hooks, tied weights, references to it and isinstance checks stay.
"""
import dataclasses
from collections import Counter

from torch import nn
from torch.nn.utils import parametrize

from fastgan.nn.convolutions import Conv2d, ConvTranspose2d, Linear, geometry_problem
from fastgan.nn.layers import BatchNorm1d, BatchNorm2d
from fastgan.nn.sequential import FusedSequential
from fastgan.ops.dispatch import registry

CONVOLUTIONS = {nn.Conv2d: Conv2d, nn.ConvTranspose2d: ConvTranspose2d}
NORMS = {nn.BatchNorm1d: BatchNorm1d, nn.BatchNorm2d: BatchNorm2d}
MOST_NAMED = 3  # layers that a sentence names


@dataclasses.dataclass(frozen=True)
class Accelerated:
    """The changes that `accelerate` made to a module.

    replaced: name of a layer -> its class, Conv2d for example. left: name of a layer that could
    have been replaced -> the reason why it was not.
    """

    module: nn.Module
    replaced: dict[str, str]
    left: dict[str, str]

    def __str__(self) -> str:
        counts = Counter(self.replaced.values())
        kinds = ", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts))
        done = f"{len(self.replaced)} layers run fused operators{f' ({kinds})' if kinds else ''}"
        named = [f"{name or 'the module'}: {reason}" for name, reason in list(self.left.items())[:MOST_NAMED]]
        more = [f"{len(self.left) - MOST_NAMED} more"] if len(self.left) > MOST_NAMED else []
        return f"{done}; {len(self.left)} are left to torch ({'; '.join(named + more)})" if self.left else done


def accelerate(module: nn.Module) -> Accelerated:
    """Put fused layers in the place of a module's torch layers, in place; return which.

    They are convolutions, BatchNorm1d and BatchNorm2d, and a Linear to one logit; nn.Sequential
    runs neighbours as one operator. Parameters, state, hooks and results stay the same, the latter
    up to rounding. Each layer runs the library where that is faster, or where no operator fits.
    Layers of fastgan, and all inside of them, are left as they are, and with FASTGAN_OPS=reference
    all layers.
    """
    replaced, left = {}, {}
    for name, layer in [] if registry.turned_off() else _own_modules(module):
        if type(layer) is nn.Sequential:
            layer.__class__ = FusedSequential
            continue
        fused = _fused_class(layer)
        reason = fused and _reason_against(layer)
        if reason:
            left[name] = reason
        elif fused:
            layer.__class__ = fused
            replaced[name] = fused.__name__
    return Accelerated(module, replaced, left)


def _own_modules(module: nn.Module, name: str = "", seen: set[nn.Module] | None = None):
    """Yield (name, module) of all modules outside of fastgan's own, each once."""
    seen = set() if seen is None else seen
    if module in seen or (_is_ours(module) and type(module) is not FusedSequential):
        return
    seen.add(module)
    yield name, module
    for child_name, child in module.named_children():
        yield from _own_modules(child, f"{name}.{child_name}" if name else child_name, seen)


def _is_ours(module: nn.Module) -> bool:
    return type(module).__module__.partition(".")[0] == "fastgan"


def _fused_class(layer: nn.Module) -> type[nn.Module] | None:
    """Return the class for a layer of a kind that has fused operators, or None."""
    if isinstance(layer, nn.Linear):
        return Linear if layer.out_features == 1 else None
    return next((fused for kind, fused in (CONVOLUTIONS | NORMS).items() if isinstance(layer, kind)), None)


def _reason_against(layer: nn.Module) -> str | None:
    """Return the reason why a layer must stay as it is, or None."""
    if parametrize.is_parametrized(layer):
        return "its weight is parametrized"
    if type(layer) not in (nn.Linear, *CONVOLUTIONS, *NORMS):
        return f"{type(layer).__name__} may compute anything else"
    if "forward" in vars(layer):
        return "its forward was replaced"
    if isinstance(layer, tuple(NORMS)):
        return "momentum=None averages over all batches" if layer.momentum is None else None
    if "weight" not in layer._parameters:
        return "a hook computes its weight"
    return geometry_problem(layer) if isinstance(layer, tuple(CONVOLUTIONS)) else None
