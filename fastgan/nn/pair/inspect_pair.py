"""Inspection of a user's G and D, which fits them to the step.

G and D are plain nn.Modules without a base class; their behaviour counts, not their names. One
random batch, which leaves no trace in the networks, shows the shape of z that G takes, the shape
and range of its images, the form in which each takes classes, what D returns and ends in, whether
their code works on channels_last memory, and if D can run on real and fake images at once.
"""
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fastgan.errors import UserError, first_line
from fastgan.nn.layers import OverParts, in_parts
from fastgan.nn.norms import Spectral
from fastgan.nn.pair.calls import Calls, FormatViews
from fastgan.nn.pair.conditions import Condition, Given, conditions_to_try
from fastgan.nn.pair.last_operation import name_of_last, take_sigmoid_off
from fastgan.nn.pair.outputs import class_logits_of, logits_of
from fastgan.nn.pair.prepare import check_trainable, is_unfinished, set_training, to_format

SUPPORTED = (
    "fastgan trains G(z) -> images and D(images) -> logits, or with c_dim=... G(z, c) and D(images, c); anything else "
    "is a step of one's own"
)
# Errors that a network raises at inputs that it is not made for.
NETWORK_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, AttributeError, KeyError)
NOT_CONTIGUOUS = "view size is not compatible"  # of Tensor.view on channels_last memory
MOST_IN_PACK = 64  # images that D may judge together

Judge = Callable[[torch.Tensor], torch.Tensor]  # images -> logits


@dataclass(frozen=True)
class Classes:
    """The labels of a pair of networks.

    c_dim: number of classes, or length of a vector label; 0 = none. is_vector: labels are float32
    [N, c_dim]. classifies: D also returns the logits of an auxiliary classifier, [N, c_dim].
    given_G, given_D: the user's own functions (labels, z or images) -> the argument.
    """

    c_dim: int = 0
    is_vector: bool = False
    classifies: bool = False
    given_G: Given | None = None
    given_D: Given | None = None


@dataclass(frozen=True)
class Signature:
    """The properties found in a pair of networks."""

    z_shape: tuple[int, ...]  # of one z: (z_dim,), (z_dim, 1, 1), ...
    img_shape: tuple[int, ...]  # of one of G's outputs: (C, H, W), (features,), (C, L), (C, D, H, W), (T, F)
    # D's output for an image depends on this image alone, or on others in layers.OverParts only:
    # real and fake may share one pass
    one_pass: bool
    notes: tuple[str, ...]  # for the user
    num_judged: int  # length of D's output for a batch: one for each image, or fewer where D runs on sets of images
    calls: Calls = Calls()
    img_low: float | None = None  # 0.0 where G ends in a sigmoid; None: as configured
    memory_format: torch.memory_format = torch.channels_last


def inspect(
    G: nn.Module,
    D: nn.Module,
    z_dim: int | tuple[int, ...] | None,
    batch_size: int,
    device: torch.device,
    classes: Classes = Classes(),
    keeps_sigmoid: bool = False,
) -> Signature:
    """Return the signature of G and D, which are moved to `device` and to channels_last.

    A last nn.Sigmoid of D is replaced by nn.Identity, in place, and a note reports it. z_dim: the
    length or the shape of one z; None = as G's first layer takes it. keeps_sigmoid: D's end stays as
    it is, for a caller's losses. Raises UserError where the pair cannot be trained.
    """
    for name, network in (("G", G), ("D", D)):
        check_trainable(name, network)
        network.to(device)
    if any(map(is_unfinished, (G, D))):
        _finish(G, D, z_dim, batch_size, device, classes)
    for network in (G, D):
        to_format(network, torch.channels_last)
    with untouched(G, D), torch.no_grad():
        set_training(G)
        set_training(D)
        return _Inspection(G, D, batch_size, device, classes).signature(z_dim, keeps_sigmoid)


def _finish(G: nn.Module, D: nn.Module, z_dim, batch_size: int, device: torch.device, classes: Classes) -> None:
    """Give lazy layers their shapes, by one pass in evaluation mode."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
        G.eval()
        D.eval()
        _Inspection(G, D, batch_size, device, classes).run_both(z_dim)


class _Inspection:
    """Trial passes of a pair; `views` is set once one needs Tensor.view as a reshape."""

    def __init__(self, G: nn.Module, D: nn.Module, num: int, device: torch.device, classes: Classes):
        self.G, self.D, self.num, self.device, self.classes = G, D, num, device, classes
        self.calls = Calls()
        self.labels = _some_labels(num, classes, device)

    def signature(self, z_dim: int | tuple[int, ...] | None, keeps_sigmoid: bool) -> Signature:
        z, fake_img = self.run_both(z_dim)
        notes = list(self._notes())
        memory_format = self._memory_format(z, fake_img, notes)
        fake_img = fake_img.contiguous() if memory_format == torch.contiguous_format else fake_img
        with torch.enable_grad():
            low = 0.0 if name_of_last(self.calls.generate(self.G, z, self.labels)).startswith("Sigmoid") else None
        num_judged = len(self.run_D(fake_img))
        last_sigmoid, more = (None, ()) if keeps_sigmoid else take_sigmoid_off(self.D, lambda: self.run_D(fake_img))
        self.calls = dataclasses.replace(self.calls, last_sigmoid=last_sigmoid)
        return Signature(
            tuple(z.shape[1:]),
            tuple(fake_img.shape[1:]),
            _is_per_sample(self.D, self.run_D, fake_img),
            (*notes, *more),
            num_judged,
            self.calls,
            low,
            memory_format,
        )

    def run_both(self, z_dim: int | tuple[int, ...] | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the inputs that both networks take; return z and G's images in channels_last."""
        z, fake_img = self._find_G_inputs(_first_width(self.G) if z_dim is None else z_dim)
        if fake_img.dim() == 4:
            fake_img = fake_img.contiguous(memory_format=torch.channels_last)  # as real images are
        self._find_D_inputs(fake_img)
        return z, fake_img

    def run_D(self, img: torch.Tensor) -> torch.Tensor:
        """Return D's logits for any number of images, whose classes repeat."""
        labels = self.labels
        if labels is not None:
            times = -(-len(img) // max(1, len(labels)))
            labels = labels.repeat(times, *[1] * (labels.dim() - 1))[:len(img)]
        return logits_of(self.calls.discriminate(self.D, img, labels))

    def _attempt(self, run: Callable[[], object]) -> object:
        """Return run(); where Tensor.view needs contiguous memory, with views as reshapes."""
        try:
            with FormatViews() as views:
                result = run()
            if not views.num or self.calls.views:
                return result
        except RuntimeError as error:
            if self.calls.views or NOT_CONTIGUOUS not in str(error):
                raise
        self.calls = dataclasses.replace(self.calls, views=True)
        return run()

    def _find_G_inputs(self, z_dim: int | tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        failures = []
        for condition in self._conditions(self.classes.given_G, has_images=False):
            self.calls = dataclasses.replace(self.calls, G_condition=condition)
            for z_shape in _z_shapes(z_dim):
                z = torch.randn(self.num, *z_shape, device=self.device)
                asked = f"{[self.num, *z_shape]}{_beside(condition)}"
                try:
                    img = self._attempt(lambda z=z: self.calls.generate(self.G, z, self.labels))
                except NETWORK_ERRORS as error:
                    failures.append(f"{asked}: {first_line(error)}")
                    continue
                if img.dim() >= 2 and len(img) == self.num:
                    return z, img
                failures.append(f"{asked} gives {list(img.shape)}")
        forms = ", ".join(f"[N, {', '.join(map(str, shape))}]" for shape in _z_shapes(z_dim))
        raise UserError(
            f"G does not take z{' with classes' if self.classes.c_dim else ''} as {forms} (is z_dim right?): "
            f"{'; '.join(failures)}. {SUPPORTED}"
        )

    def _find_D_inputs(self, img: torch.Tensor) -> None:
        failures = []
        for condition in self._conditions(self.classes.given_D, has_images=True):
            self.calls = dataclasses.replace(self.calls, D_condition=condition)
            try:
                output = self._attempt(lambda: self.calls.discriminate(self.D, img, self.labels))
            except NETWORK_ERRORS as error:
                form = f"{condition.describe()}: " if condition.c_dim else ""
                failures.append(form + first_line(error))
                continue
            return self._check_D_output(output)
        raise UserError(
            f"D does not take G's images {list(img.shape)}{self._pack_hint(img)}: {'; '.join(failures)}. {SUPPORTED}"
        )

    def _pack_hint(self, img: torch.Tensor) -> str:
        """Return a hint where D takes other numbers of images."""
        self.calls = dataclasses.replace(self.calls, D_condition=Condition())
        for num in range(2, MOST_IN_PACK + 1):
            with contextlib.suppress(*NETWORK_ERRORS):
                judged = [self._num_judged(img, times * num) for times in (1, 2)]
                if judged == [1, 2]:
                    return f", but {num} at once: it judges packs, so that batch_size must be a multiple of {num}"
                if self.num == 1:
                    return ", but two at once: give batch_size=2 or more"
        return ""

    def _num_judged(self, img: torch.Tensor, num: int) -> int:
        images = torch.randn(num, *img.shape[1:], device=self.device)
        return len(self._attempt(lambda: self.run_D(images)))

    def _conditions(self, given: Given | None, has_images: bool) -> list[Condition]:
        if given is not None:
            return [Condition("given", self.classes.c_dim, given)]
        conditions = conditions_to_try(self.classes.c_dim, self.classes.is_vector, has_images)
        # A D that classifies may see images alone (Odena et al., 2017, arXiv 1610.09585)
        return [*conditions, Condition()] if has_images and self.classes.classifies else conditions

    def _check_D_output(self, output: object) -> None:
        """Raise UserError where there are no logits in D's output, or no class logits if needed."""
        classes = self.classes
        try:
            logits = logits_of(output)
        except TypeError as error:
            raise UserError(f"D returns {error}; {SUPPORTED}") from error
        if logits.dim() == 0:
            raise UserError(
                "D returns a single number for the whole batch; let it return one logit (or a map of logits) an image"
            )
        if classes.classifies and class_logits_of(output, classes.c_dim) is None:
            raise UserError("loss.class_D and class_G need a D that returns a pair: logits, "
                            f"and the logits of an auxiliary classifier [N, {classes.c_dim}]")  # fmt: skip

    def _notes(self) -> Iterator[str]:
        for name, condition in (("G", self.calls.G_condition), ("D", self.calls.D_condition)):
            if self.classes.c_dim and condition.form not in ("numbers", "one-hot", "given"):
                yield f"{name} takes {condition.describe()}"

    def _memory_format(self, z: torch.Tensor, img: torch.Tensor, notes: list[str]) -> torch.memory_format:
        """Return channels_last, unless code that views tensors computes something else on it."""
        if not self.calls.views:
            return torch.channels_last
        ours = self._outputs(z, img)
        for network in (self.G, self.D):
            to_format(network, torch.contiguous_format)
        theirs = self._outputs(z, img.contiguous())
        if all(map(_are_close, ours, theirs)):
            for network in (self.G, self.D):
                to_format(network, torch.channels_last)
            notes.append("the networks call Tensor.view, which needs contiguous memory: training runs it as reshape, "
                         "and keeps channels_last, which is faster")  # fmt: skip
            return torch.channels_last
        notes.append("the networks compute something else on channels_last memory: training uses contiguous memory, "
                     "which is slower")  # fmt: skip
        return torch.contiguous_format


    def _outputs(self, z: torch.Tensor, img: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for network in (self.G, self.D):
            network.eval()  # dropout draws by memory, not by pixel
        outputs = self.calls.generate(self.G, z, self.labels), self.run_D(img)
        for network in (self.G, self.D):
            set_training(network)
        return outputs


def _some_labels(num: int, classes: Classes, device: torch.device) -> torch.Tensor | None:
    """Return labels of a batch: int64 [num], float32 [num, c_dim], or None without classes."""
    if not classes.c_dim:
        return None
    if classes.is_vector:
        return torch.rand(num, classes.c_dim, device=device)
    return torch.arange(num, device=device) % classes.c_dim


def _z_shapes(z_dim: int | tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the shapes of z that G may take; a shape that was given is the only one."""
    if isinstance(z_dim, tuple):
        return [z_dim]
    return [(z_dim,), (z_dim, 1, 1), (z_dim, 1), (z_dim, 1, 1, 1)]


@contextlib.contextmanager
def untouched(*networks: nn.Module):
    """Restore what networks change in forward(), and torch's random state, at the exit.

    That is buffers, frozen parameters (old recipes of spectral norm keep their vectors in them), and
    training flags.
    """
    buffers = [
        (tensor, tensor.data, tensor.detach().clone())
        for network in networks
        for tensor in (*network.buffers(), *(each for each in network.parameters() if not each.requires_grad))
        if not is_lazy(tensor)
    ]
    flags = [(module, module.training) for network in networks for module in network.modules()]
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        with torch.no_grad():
            for tensor, memory, saved in buffers:
                tensor.data = memory
                tensor.copy_(saved)
        for module, training in flags:
            module.training = training


def _first_width(G: nn.Module) -> int:
    """Return the number of features that G's first linear, convolutional or recurrent layer takes."""
    kinds = {nn.Linear: "in_features", nn.modules.conv._ConvNd: "in_channels", nn.RNNBase: "input_size"}
    for module in G.modules():
        for kind, width in kinds.items():
            if isinstance(module, kind) and getattr(module, width):  # a lazy layer has 0
                return getattr(module, width)
    raise UserError("the length of z could not be read off G's first layer: give z_dim=...")


def _beside(condition: Condition) -> str:
    return f" and {condition.describe()}" if condition.c_dim else ""


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
