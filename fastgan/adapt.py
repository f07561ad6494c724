"""Fits a user's G and D to the step by looking at what they do, not at what they are called: plain nn.Modules, no base class.

Found out on one random batch, without leaving a trace in the networks: the shape of z that G takes, the shape of its images,
whether D ends in a Sigmoid, and whether D treats every image by itself.
"""
import contextlib
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan.errors import UserError

SUPPORTED = "fastgan trains G(z) -> images and D(images) -> logits, one tensor each; labels and several outputs are not supported yet"
VIEWS = ("view", "reshape", "squeeze", "unsqueeze", "flatten", "alias", "detach", "permute", "transpose", "select", "slice", "_unsafe_view", "clone")


@dataclass(frozen=True)
class Signature:
    """What was found out about a pair of networks."""

    z_shape: tuple[int, ...]  # of one z: (z_dim,) or (z_dim, 1, 1)
    img_shape: tuple[int, ...]  # of one of G's outputs: (C, H, W), or (features,) for flat images and samples
    one_pass: bool  # D treats every image by itself, so real and fake may share one pass
    notes: tuple[str, ...]  # what the user should be told


def inspect(G: nn.Module, D: nn.Module, z_dim: int | None, batch_size: int, device: torch.device) -> Signature:
    """The signature of G and D. A last nn.Sigmoid of D is replaced by nn.Identity, in place, and a note says so.

    z_dim None is read off G's first layer. Raises UserError where the pair cannot be trained.
    """
    for name, network in (("G", G), ("D", D)):
        if not isinstance(network, nn.Module):
            raise UserError(f"{name} is a {type(network).__name__}; it must be a torch.nn.Module")
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise UserError(f"{name} has no parameter that requires a gradient, so there is nothing to train")
    with untouched(G, D), torch.no_grad():
        z_shape, fake_img = _probe_generator(G, z_dim or _first_width(G), batch_size, device)
        notes = _take_sigmoid_off(D, fake_img)
        _probe_discriminator(D, fake_img)
        one_pass = _is_per_sample(D, fake_img)
    return Signature(z_shape, tuple(fake_img.shape[1:]), one_pass, notes)


@contextlib.contextmanager
def untouched(*networks: nn.Module):
    """Buffers, training flags and torch's random state are afterwards as they were before."""
    buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    flags = [(module, module.training) for network in networks for module in network.modules()]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield
    with torch.no_grad():
        for buffer, saved in buffers:
            buffer.copy_(saved)
    for module, training in flags:
        module.training = training


def _first_width(G: nn.Module) -> int:
    """The number of features that G's first Linear or ConvTranspose2d takes."""
    for module in G.modules():
        if isinstance(module, nn.Linear):
            return module.in_features
        if isinstance(module, nn.ConvTranspose2d | nn.Conv2d):
            return module.in_channels
    raise UserError("the length of z could not be read off G: give z_dim=...")


def _probe_generator(G: nn.Module, z_dim: int, num: int, device: torch.device) -> tuple[tuple[int, ...], torch.Tensor]:
    """(z_shape, images) for the first shape of z that G takes."""
    failures = []
    for z_shape in ((z_dim,), (z_dim, 1, 1)):
        try:
            output = G(torch.randn(num, *z_shape, device=device))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            failures.append(f"{[num, *z_shape]}: {_first_line(error)}")
            continue
        if not isinstance(output, torch.Tensor):
            raise UserError(f"G returns a {type(output).__name__}; {SUPPORTED}")
        if output.shape[0] == num and output.dim() in (2, 4):
            return z_shape, output
        failures.append(f"{[num, *z_shape]} gives {list(output.shape)}")
    raise UserError(f"G takes z neither as [N, {z_dim}] nor as [N, {z_dim}, 1, 1] (is z_dim right?): {'; '.join(failures)}. {SUPPORTED}")


def _probe_discriminator(D: nn.Module, img: torch.Tensor) -> None:
    try:
        output = D(img)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UserError(f"D does not take G's images {list(img.shape)}: {_first_line(error)}. {SUPPORTED}") from error
    if not isinstance(output, torch.Tensor):
        raise UserError(f"D returns a {type(output).__name__}; {SUPPORTED}")


def _is_per_sample(D: nn.Module, img: torch.Tensor) -> bool:
    """Whether D gives an image the same logit in any company: no BatchNorm, spectral norm (buffers), minibatch statistics or dropout."""
    if len(img) < 2 or next(D.buffers(), None) is not None:
        return False
    order = torch.arange(len(img), device=img.device).flip(0)
    try:
        alone, in_company = D(img), D(torch.cat([img, img[order]]))
    except (RuntimeError, ValueError):
        return False  # D takes this batch size alone
    expected = torch.cat([alone, alone[order]]) if len(alone) == len(img) else None
    return expected is not None and expected.shape == in_company.shape and torch.allclose(in_company, expected, rtol=1e-4, atol=1e-5)


# --- a Sigmoid at the end of D -------------------------------------------------------------------------------------------------------------------


class _LastOperation(TorchDispatchMode):
    """Remembers the last operation that computes something (views do not)."""

    name = ""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name not in VIEWS:
            self.name = name
        return func(*args, **(kwargs or {}))


def _take_sigmoid_off(D: nn.Module, img: torch.Tensor) -> tuple[str, ...]:
    """Replace the nn.Sigmoid that computes D's output, if there is one; a sigmoid inside forward() is refused."""
    ran: list[nn.Module] = []
    hooks = [module.register_forward_hook(lambda module, *_: ran.append(module)) for module in D.modules() if isinstance(module, nn.Sigmoid)]
    with contextlib.suppress(RuntimeError, ValueError, TypeError, IndexError), _LastOperation() as last:  # _probe_discriminator reports these
        D(img)
    for hook in hooks:
        hook.remove()
    if last.name not in ("sigmoid", "sigmoid_"):
        return ()
    if not ran:
        raise UserError("D ends in a sigmoid inside its forward(): let it return the logits instead, the loss applies the sigmoid itself")
    _replace(D, ran[-1], nn.Identity())
    return ("D ended in nn.Sigmoid: it was taken off, D returns logits from now on and the loss applies the sigmoid itself",)


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in network.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)
                return
    raise UserError("D is itself an nn.Sigmoid; it must have layers before it")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
