"""Inspection of a user's G and D, which fits them to the step.

G and D are plain nn.Modules without a base class; their behaviour counts, not their names. One
random batch, which leaves no trace in the networks, shows the shape of z that G takes, the shape of
its images, the form in which the two take classes, a Sigmoid at the end of D, and if D can run on
real and fake images at once.
"""
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.errors import UserError
from fastgan.nn.layers import OverParts, in_parts
from fastgan.nn.norms import Spectral

SUPPORTED = (
    "fastgan trains G(z) -> images and D(images) -> logits, or with c_dim=... G(z, c) and D(images, c), one tensor each"
)
# Errors that a network raises at inputs that it is not made for.
NETWORK_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)
# Autograd's nodes of operations that keep every value, without their "Backward0": the node before
# them computed it.
VIEWS = {
    "View", "ReshapeAlias", "UnsafeView", "Squeeze", "Unsqueeze", "Permute", "Transpose", "T", "Select", "Slice",
    "Expand", "AsStrided", "Alias", "Clone", "ToCopy",
}  # fmt: skip


Judge = Callable[[torch.Tensor], torch.Tensor]  # images -> logits


@dataclass(frozen=True)
class Signature:
    """The properties found in a pair of networks."""

    z_shape: tuple[int, ...]  # of one z: (z_dim,) or (z_dim, 1, 1)
    img_shape: tuple[int, ...]  # of one of G's outputs: (C, H, W), or (features,) for flat images and samples
    # D's output for an image depends on this image alone, or on others in layers.OverParts only:
    # real and fake may share one pass
    one_pass: bool
    notes: tuple[str, ...]  # for the user
    num_judged: int  # length of D's output for a batch: one for each image, or fewer where D runs on sets of images
    one_hot: bool = False  # classes are given as float32 [N, c_dim]; otherwise as int64 [N]


def inspect(
    G: nn.Module,
    D: nn.Module,
    z_dim: int | None,
    batch_size: int,
    device: torch.device,
    c_dim: int = 0,
    classifies: bool = False,
    keeps_sigmoid: bool = False,
) -> Signature:
    """Return the signature of G and D, which are moved to `device`.

    A last nn.Sigmoid of D is replaced by nn.Identity, in place, and a note reports it.

    z_dim None is read off G's first layer. c_dim: classes; above 0 both are called with them.
    classifies: D returns (logits, class_logits [N, c_dim]). keeps_sigmoid: D's end stays as it is,
    for a caller's losses. Raises UserError where the pair cannot be trained.
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
        z_dim = _first_width(G) if z_dim is None else z_dim
        conditions = _possible_conditions(batch_size, c_dim, device)
        z_shape, fake_img, condition = _probe_generator(G, z_dim, batch_size, conditions, device)
        run_D = _probe_discriminator(D, fake_img, condition, c_dim if classifies else 0)
        num_judged = len(run_D(fake_img))
        notes = () if keeps_sigmoid else _take_sigmoid_off(D, run_D, fake_img)
        one_pass = _is_per_sample(D, run_D, fake_img)
    return Signature(
        z_shape,
        tuple(fake_img.shape[1:]),
        one_pass,
        notes,
        num_judged,
        bool(condition) and condition[0].is_floating_point(),
    )


def _possible_conditions(num: int, c_dim: int, device: torch.device) -> list[tuple[torch.Tensor, ...]]:
    """Return the possible further arguments of G and D: none, or `num` class numbers or one-hot."""
    if not c_dim:
        return [()]
    labels = torch.arange(num, device=device) % c_dim
    return [(labels,), (F.one_hot(labels, c_dim).float(),)]


@contextlib.contextmanager
def untouched(*networks: nn.Module):
    """Restore buffers and training flags of the networks, and torch's random state, at the exit."""
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
    """Return the number of features that G's first Linear or convolution takes."""
    first = next(
        (module for module in G.modules() if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)), None
    )
    # A lazy layer has 0
    width = first.in_features if isinstance(first, nn.Linear) else first.in_channels if first else 0
    if not width:
        raise UserError("the length of z could not be read off G's first layer: give z_dim=...")
    return width


def _probe_generator(
    G: nn.Module, z_dim: int, num: int, conditions: list[tuple[torch.Tensor, ...]], device: torch.device
):
    """Return (z_shape, images, condition) for the first shape of z and form of classes G takes."""
    failures = []
    for condition in conditions:
        for z_shape in ((z_dim,), (z_dim, 1, 1)):
            try:
                output = G(torch.randn(num, *z_shape, device=device), *condition)
            except NETWORK_ERRORS as error:
                failures.append(f"{[num, *z_shape]}{_named(condition)}: {_first_line(error)}")
                continue
            if not isinstance(output, torch.Tensor):
                raise UserError(f"G returns a {type(output).__name__}; {SUPPORTED}")
            if output.shape[0] == num and output.dim() in (2, 4):
                return z_shape, output, condition
            failures.append(f"{[num, *z_shape]}{_named(condition)} gives {list(output.shape)}")
    z, forms = (
        "z with classes" if conditions[0] else "z",
        f"neither as [N, {z_dim}] nor as [N, {z_dim}, 1, 1] (is z_dim right?)",
    )
    raise UserError(f"G takes {z} {forms}: {'; '.join(failures)}. {SUPPORTED}")


def _named(condition: tuple[torch.Tensor, ...]) -> str:
    return "" if not condition else " and one-hot classes" if condition[0].is_floating_point() else " and class numbers"


def _probe_discriminator(
    D: nn.Module, img: torch.Tensor, condition: tuple[torch.Tensor, ...], num_classified: int
) -> Judge:
    """Return D's logits as a function of images alone.

    num_classified: classes of its auxiliary classifier; 0 = it has none.
    """
    try:
        output = D(img, *condition)
    except NETWORK_ERRORS as error:
        raise UserError(
            f"D does not take G's images {list(img.shape)}{_named(condition)}: {_first_line(error)}. {SUPPORTED}"
        ) from error
    classifies = num_classified > 0
    if classifies and not (
        isinstance(output, tuple) and len(output) == 2 and output[1].shape == (len(img), num_classified)
    ):
        raise UserError("loss.class_D and class_G need a D that returns a pair: logits, "
                        f"and the logits of an auxiliary classifier [N, {num_classified}]")  # fmt: skip
    if not classifies and not isinstance(output, torch.Tensor):
        raise UserError(
            f"D returns a {type(output).__name__}; {SUPPORTED}, and with class_D=... a pair of logits and class logits"
        )
    if (output[0] if classifies else output).dim() == 0:
        raise UserError(
            "D returns a single number for the whole batch; let it return one logit (or a map of logits) an image"
        )

    def run_D(img: torch.Tensor) -> torch.Tensor:
        times = -(-len(img) // max(1, len(condition[0]))) if condition else 1
        output = D(img, *(each.repeat(times, *[1] * (each.dim() - 1))[:len(img)] for each in condition))
        return output[0] if classifies else output

    return run_D


def _is_per_sample(D: nn.Module, run_D: Judge, img: torch.Tensor) -> bool:
    """Return True if D gives an image the same logit in any batch.

    Layers that are OverParts are excepted, since they can keep two batches apart. D may have no
    other BatchNorm, minibatch statistics or dropout; and no buffers but those of our BatchNorm2d,
    which does not change here, and of spectral norms, which do not change either and do not depend
    on images. Any other OverParts sees every image as a part of its own.
    """
    kept, still = len(img) // 2, (Spectral, OverParts)
    if kept == 0 or any(
        True for module in D.modules() if not isinstance(module, still) for _ in module.buffers(recurse=False)
    ):
        return False
    for module in D.modules():
        if isinstance(module, still):
            module.eval()

    def judged(img: torch.Tensor) -> torch.Tensor:
        with in_parts(D, len(img)):
            return run_D(img)

    # Both passes have the same number of images, since kernels may round differently otherwise.
    # Noise beside them, since a copy has the statistics of the original.
    company = torch.cat([img[:kept], torch.randn_like(img[kept:])])
    logits, in_company = judged(img), judged(company)
    if len(logits) != len(img) or not _are_close(logits[:kept], in_company[:kept]):
        return False
    # Twice the images may be grouped differently: 5 have no minibatch statistics in fours, 10 have
    # some in pairs
    try:
        both, both_in_company = (judged(torch.cat([img, torch.randn_like(img)])) for _ in range(2))
    except NETWORK_ERRORS:
        return False  # D takes this batch size alone
    return len(both) == 2 * len(img) and _are_close(both[:len(img)], both_in_company[:len(img)])


def _are_close(logits: torch.Tensor, others: torch.Tensor) -> bool:
    return torch.allclose(logits, others, rtol=1e-4, atol=1e-4 * float(logits.abs().max()))


# --- a Sigmoid at the end of D ----------------------------------------------------------------------------------------


def _take_sigmoid_off(D: nn.Module, run_D: Judge, img: torch.Tensor) -> tuple[str, ...]:
    """Replace the nn.Sigmoid that computes D's output, if there is one.

    Raises UserError for a sigmoid inside forward().
    """
    runs: list[tuple[torch.autograd.graph.Node, nn.Module]] = []
    sigmoids = [module for module in D.modules() if isinstance(module, nn.Sigmoid)]
    hooks = [
        module.register_forward_hook(lambda module, args, output: runs.append((output.grad_fn, module)))
        for module in sigmoids
    ]
    with torch.enable_grad():
        logits = run_D(img)  # kept: a node of an autograd.Function has no name once its graph is gone
        last = _last_operation(logits)
    for hook in hooks:
        hook.remove()
    if last is None or not last.name().startswith("Sigmoid"):
        return ()
    end = next((module for node, module in runs if node is last), None)
    if end is None:
        raise UserError(
            "D ends in a sigmoid inside its forward(): let it return the logits instead, the loss applies the "
            "sigmoid itself"
        )
    if [module for _, module in runs].count(end) > 1:
        raise UserError(
            "D ends in an nn.Sigmoid that it also uses elsewhere: give its end one of its own, or let it return "
            "the logits"
        )
    _replace(D, end, nn.Identity())
    return (
        "D ended in nn.Sigmoid: it was taken off, D returns logits from now on and the loss applies the sigmoid itself",
    )


def _last_operation(output: torch.Tensor) -> torch.autograd.graph.Node | None:
    """Return the node of the graph that computed the values of `output`, before its views."""
    node = output.grad_fn
    while node is not None and node.name().rstrip("0123456789").removesuffix("Backward") in VIEWS:
        node = node.next_functions[0][0]
    return node


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace a module under all its names.

    A module may be an attribute and a part of a Sequential at once.
    """
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
