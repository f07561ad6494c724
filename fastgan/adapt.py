"""Fits a user's G and D to the step by looking at what they do, not at what they are called: plain nn.Modules, no base class.

Found out on one random batch, without leaving a trace in the networks: the shape of z that G takes, the shape of its images,
whether D ends in a Sigmoid, and whether D treats every image by itself.
"""
import contextlib
from dataclasses import dataclass

import torch
from torch import nn

from fastgan.errors import UserError

SUPPORTED = "fastgan trains G(z) -> images and D(images) -> logits, one tensor each; labels and several outputs are not supported yet"
# What a network raises at inputs that it is not made for.
NETWORK_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)
# Autograd's nodes of operations that keep every value, without their "Backward0": what comes before them computed it.
VIEWS = {
    "View", "ReshapeAlias", "UnsafeView", "Squeeze", "Unsqueeze", "Permute", "Transpose", "T", "Select", "Slice", "Expand", "AsStrided", "Alias",
    "Clone", "ToCopy",
}  # fmt: skip


@dataclass(frozen=True)
class Signature:
    """What was found out about a pair of networks."""

    z_shape: tuple[int, ...]  # of one z: (z_dim,) or (z_dim, 1, 1)
    img_shape: tuple[int, ...]  # of one of G's outputs: (C, H, W), or (features,) for flat images and samples
    one_pass: bool  # D treats every image by itself, so real and fake may share one pass
    notes: tuple[str, ...]  # what the user should be told
    num_judged: int  # judgements that D gives for a batch: as many as images, or fewer where it judges sets of them


def inspect(G: nn.Module, D: nn.Module, z_dim: int | None, batch_size: int, device: torch.device) -> Signature:
    """The signature of G and D, which are moved to `device`. A last nn.Sigmoid of D is replaced by nn.Identity, in place, and a note says so.

    z_dim None is read off G's first layer. Raises UserError where the pair cannot be trained.
    """
    for name, network in (("G", G), ("D", D)):
        if not isinstance(network, nn.Module):
            raise UserError(f"{name} is a {type(network).__name__}; it must be a torch.nn.Module")
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise UserError(f"{name} has no parameter that requires a gradient, so there is nothing to train")
        network.to(device)
    with untouched(G, D), torch.no_grad():
        G.train()
        D.train()
        z_shape, fake_img = _probe_generator(G, _first_width(G) if z_dim is None else z_dim, batch_size, device)
        num_judged = _probe_discriminator(D, fake_img)
        notes = _take_sigmoid_off(D, fake_img)
        one_pass = _is_per_sample(D, fake_img)
    return Signature(z_shape, tuple(fake_img.shape[1:]), one_pass, notes, num_judged)


@contextlib.contextmanager
def untouched(*networks: nn.Module):
    """Buffers, training flags and torch's random state are afterwards as they were before."""
    buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    flags = [(module, module.training) for network in networks for module in network.modules()]
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        with torch.no_grad():
            for buffer, saved in buffers:
                buffer.copy_(saved)
        for module, training in flags:
            module.training = training


def _first_width(G: nn.Module) -> int:
    """The number of features that G's first Linear or convolution takes."""
    first = next((module for module in G.modules() if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)), None)
    width = first.in_features if isinstance(first, nn.Linear) else first.in_channels if first else 0  # a lazy layer has 0
    if not width:
        raise UserError("the length of z could not be read off G's first layer: give z_dim=...")
    return width


def _probe_generator(G: nn.Module, z_dim: int, num: int, device: torch.device) -> tuple[tuple[int, ...], torch.Tensor]:
    """(z_shape, images) for the first shape of z that G takes."""
    failures = []
    for z_shape in ((z_dim,), (z_dim, 1, 1)):
        try:
            output = G(torch.randn(num, *z_shape, device=device))
        except NETWORK_ERRORS as error:
            failures.append(f"{[num, *z_shape]}: {_first_line(error)}")
            continue
        if not isinstance(output, torch.Tensor):
            raise UserError(f"G returns a {type(output).__name__}; {SUPPORTED}")
        if output.shape[0] == num and output.dim() in (2, 4):
            return z_shape, output
        failures.append(f"{[num, *z_shape]} gives {list(output.shape)}")
    raise UserError(f"G takes z neither as [N, {z_dim}] nor as [N, {z_dim}, 1, 1] (is z_dim right?): {'; '.join(failures)}. {SUPPORTED}")


def _probe_discriminator(D: nn.Module, img: torch.Tensor) -> int:
    """The number of D's judgements of these images."""
    try:
        output = D(img)
    except NETWORK_ERRORS as error:
        raise UserError(f"D does not take G's images {list(img.shape)}: {_first_line(error)}. {SUPPORTED}") from error
    if not isinstance(output, torch.Tensor):
        raise UserError(f"D returns a {type(output).__name__}; {SUPPORTED}")
    if output.dim() == 0:
        raise UserError("D returns a single number for the whole batch; let it return one logit (or a map of logits) an image")
    return len(output)


def _is_per_sample(D: nn.Module, img: torch.Tensor) -> bool:
    """Whether D gives an image the same logit in any company: no BatchNorm, spectral norm (buffers), minibatch statistics or dropout."""
    kept = len(img) // 2
    if kept == 0 or next(D.buffers(), None) is not None:
        return False
    # As many images in both passes: other kernels would round otherwise. Noise beside them: a copy has the statistics of the original.
    company = torch.cat([img[:kept], torch.randn_like(img[kept:])])
    logits, in_company = D(img), D(company)
    if len(logits) != len(img) or not torch.allclose(logits[:kept], in_company[:kept], rtol=1e-4, atol=1e-4 * float(logits.abs().max())):
        return False
    try:
        return len(D(torch.cat([img, img]))) == 2 * len(img)
    except NETWORK_ERRORS:
        return False  # D takes this batch size alone


# --- a Sigmoid at the end of D -------------------------------------------------------------------------------------------------------------------


def _take_sigmoid_off(D: nn.Module, img: torch.Tensor) -> tuple[str, ...]:
    """Replace the nn.Sigmoid that computes D's output, if there is one; a sigmoid inside forward() is refused."""
    runs: list[tuple[torch.autograd.graph.Node, nn.Module]] = []
    sigmoids = [module for module in D.modules() if isinstance(module, nn.Sigmoid)]
    hooks = [module.register_forward_hook(lambda module, args, output: runs.append((output.grad_fn, module))) for module in sigmoids]
    with torch.enable_grad():
        last = _last_operation(D(img))
    for hook in hooks:
        hook.remove()
    if last is None or not last.name().startswith("Sigmoid"):
        return ()
    end = next((module for node, module in runs if node is last), None)
    if end is None:
        raise UserError("D ends in a sigmoid inside its forward(): let it return the logits instead, the loss applies the sigmoid itself")
    if [module for _, module in runs].count(end) > 1:
        raise UserError("D ends in an nn.Sigmoid that it also uses elsewhere: give its end one of its own, or let it return the logits")
    _replace(D, end, nn.Identity())
    return ("D ended in nn.Sigmoid: it was taken off, D returns logits from now on and the loss applies the sigmoid itself",)


def _last_operation(output: torch.Tensor) -> torch.autograd.graph.Node | None:
    """The node of the graph that computed the values of `output`, behind its views."""
    node = output.grad_fn
    while node is not None and node.name().rstrip("0123456789").removesuffix("Backward") in VIEWS:
        node = node.next_functions[0][0]
    return node


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Under every name it has: a module may be an attribute and a part of a Sequential at once."""
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
