"""A step of one's own as a phase of the engine, tried once and checked."""
import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch.overrides import TorchFunctionMode

from fastgan.augment.basic import scale_images
from fastgan.data import Feed
from fastgan.device.precision import full_precision
from fastgan.engine.system import Phase
from fastgan.errors import UserError
from fastgan.nn.noise import GaussianNoise
from fastgan.nn.pair.calls import FormatViews, ViewsAsReshapes
from fastgan.training.draws import Drawn, GivenDraw, RecordingDraw
from fastgan.training.own_state import StepState

OwnStep = Callable[..., dict[str, torch.Tensor]]  # (nets, batch, draw, update) -> statistics
# Calls that make the host wait for the device, so that no graph can contain them
HOST_READS = ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "nonzero")


class Update:
    """The updates of a step: `update("D", loss)` minimises the loss by the group's parameters alone.

    Gradients come from torch.autograd.grad; the optimiser and the moving averages of the group
    follow at once, in place. A later loss that uses the changed weights needs passes of its own.
    """

    def __init__(self, state: StepState):
        self._state, self.groups = state, []

    def __call__(self, group: str, loss: torch.Tensor) -> None:
        if group not in self._state.optimizers:
            raise UserError(f"the step updates {group!r}, and groups are {', '.join(self._state.optimizers)}")
        self.groups.append(group)
        optimizer = self._state.optimizers[group]
        gradients = torch.autograd.grad(
            loss, optimizer.parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        with torch.no_grad():
            optimizer.step(list(gradients))
            self._state.average_group(group)


@dataclass(frozen=True)
class Trial:
    """The findings of a trial pass of a step."""

    drawn: dict[str, Drawn]
    statistics: tuple[str, ...]
    groups: tuple[str, ...]
    views: bool


def batch_of(fields: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the fields of a batch as a step gets them: uint8 images as floats in [-1, 1]."""
    return {name: _as_step_sees_it(field) for name, field in fields.items()}


def _as_step_sees_it(field: torch.Tensor) -> torch.Tensor:
    if field.dtype == torch.uint8 and field.dim() > 2:
        field = scale_images(field, -1.0)
    return field.contiguous(memory_format=torch.channels_last) if field.dim() == 4 else field


def try_step(name: str, step: OwnStep, state: StepState, feed: Feed, generator: torch.Generator) -> Trial:
    """Run a step once, eager, and check what it does; the caller undoes its changes.

    Raises UserError where it cannot be a part of one graph: it reads values on the host, returns no
    statistics, updates an unknown group or none.
    """
    draw, update, views = RecordingDraw(generator, _kimg(state)), Update(state), FormatViews()
    with _HostReads() as reads, state.precision.autocast():
        try:
            with views:
                statistics = step(state.nets, batch_of(feed.read().fields), draw, update)
        except RuntimeError as error:
            if "view size is not compatible" not in str(error):
                raise
            views.num, draw, update = 1, RecordingDraw(generator, _kimg(state)), Update(state)
            with ViewsAsReshapes():
                statistics = step(state.nets, batch_of(feed.reread().fields), draw, update)
    if reads.names:
        raise UserError(
            f"the step {name!r} calls Tensor.{reads.names[0]}, which makes the host wait for the device: return values "
            "as statistics instead, and choose by torch.where"
        )
    _check_statistics(name, statistics)
    if not update.groups:
        raise UserError(f"the step {name!r} updates nothing: call update(GROUP, loss)")
    return Trial(draw.recorded, tuple(statistics), tuple(update.groups), views.num > 0)


def make_phase(
    step: OwnStep, trial: Trial, state: StepState, feed: Feed, generator: torch.Generator, num: int, reads_next: bool
) -> Phase:
    """Make the phase of a step. num: images that it shows. reads_next: it moves on in the data."""

    noises = [layer for layer in state.nets.modules() if isinstance(layer, GaussianNoise) and layer.kimg]

    def draw() -> tuple[torch.Tensor, ...]:
        return tuple(each.numbers(generator) for each in trial.drawn.values())

    def in_precision(state: StepState) -> Callable:
        def run(inputs: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
            fields = (feed.read() if reads_next else feed.reread()).fields
            for layer in noises if reads_next else ():
                layer.scale.copy_((1 - _kimg(state) / layer.kimg).clamp(min=0))
            given = GivenDraw(trial.drawn, inputs, _kimg(state))
            with state.precision.autocast(), ViewsAsReshapes() if trial.views else contextlib.nullcontext():
                statistics = step(state.nets, batch_of(fields), given, Update(state))
            statistics = {name: value.detach().float() for name, value in statistics.items()}
            state.totals.add(statistics)
            if reads_next:
                state.nimg.add_(num)
            return statistics

        return run

    precision = state.precision
    is_reduced = precision.compute_dtype != torch.float32
    precise = in_precision(replace(state, precision=full_precision(precision))) if is_reduced else None
    return Phase(draw, in_precision(state), precise)


def _kimg(state: StepState) -> torch.Tensor:
    return state.nimg.float() / 1000


def _check_statistics(name: str, statistics: object) -> None:
    if not isinstance(statistics, dict) or not statistics:
        raise UserError(f"the step {name!r} returns no statistics: return a dict such as {{'d_loss': d, 'g_loss': g}}")
    for key, value in statistics.items():
        if not isinstance(value, torch.Tensor) or value.dim() != 0:
            what = f"a tensor {list(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
            raise UserError(f"the step {name!r} returns {what} as {key!r}: every statistic is a tensor of one number")


class _HostReads(TorchFunctionMode):
    """Records the calls of HOST_READS inside a step's own code."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in HOST_READS and not _is_called_by_library():
            self.names.append(name)
        return function(*args, **(kwargs or {}))


def _is_called_by_library() -> bool:
    """Return True where the caller of the intercepted function is code of torch or of fastgan."""
    frame, modes = inspect.currentframe(), (__name__, FormatViews.__module__)
    while frame is not None and frame.f_globals.get("__name__") in modes:
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__", "").startswith(("torch.", "fastgan."))


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Turn an error inside into a UserError that names the step."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever the user's own code raises
        line = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise UserError(f"the step {name!r} failed in its first call: {type(error).__name__}: {line}") from error
