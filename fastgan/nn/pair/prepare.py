"""A user's network made ready for training: unwrapped, in float32, in training mode."""
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fastgan.errors import UserError


def check_trainable(name: str, network: object) -> None:
    """Raise UserError for what is no module, and for one without a trainable parameter."""
    if not isinstance(network, nn.Module):
        raise UserError(f"{name} is a {type(network).__name__}; it must be a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(f"{name} has no parameter that requires a gradient, so there is nothing to train")


def unwrapped(name: str, network: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network inside of torch's wrappers, in float32, and a note for each change."""
    check_trainable(name, network)
    return without_wrappers(name, network)


def without_wrappers(name: str, network: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Do what `unwrapped` does for any module: with frozen parameters alone, or with none."""
    notes = []
    while (inner := _inside(network)) is not None:
        notes.append(f"{name} was unwrapped from {type(network).__name__}: fastgan compiles the whole step itself, "
                     "on one device")  # fmt: skip
        network = inner
    if any(parameter.dtype == torch.float64 for parameter in network.parameters()):
        network.float()
        notes.append(f"{name} had float64 parameters: fastgan trains in float32, they were converted")
    return network, tuple(notes)


def _inside(network: nn.Module) -> nn.Module | None:
    if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return network.module
    return getattr(network, "_orig_mod", None)  # of torch.compile


def is_unfinished(network: nn.Module) -> bool:
    """Return True if the network has lazy parameters or buffers without a shape yet."""
    return any(is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers()))


def to_format(network: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    """Bring weights of 2-D convolutions to a memory format, in place; return the network.

    nn.Module.to would refuse networks that also have 3-D convolutions.
    """
    return network._apply(lambda tensor: tensor.to(memory_format=memory_format) if tensor.dim() == 4 else tensor)


def set_training(network: nn.Module) -> nn.Module:
    """Set training mode, except of parts whose parameters are all frozen; return the network.

    Statistics and dropout of frozen parts thereby stay as in evaluation.
    """
    network.train()
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
    return network
