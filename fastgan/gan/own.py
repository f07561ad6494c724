"""Python objects that a caller of Trainer gives in the place of options.

A pair of losses, torch.optim's optimisers, and schedules as functions. The configuration then has
names and numbers in their place.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fastgan.config import Config
from fastgan.config.keywords import options_of
from fastgan.errors import UserError
from fastgan.gan.losses import OwnLosses, num_arguments
from fastgan.gan.optim.torch_optimizers import is_given, options_from

# Options whose value may be a function of kimg, which the step traces
SCHEDULED = (
    "optim.lr_G", "optim.lr_D", "penalty.gp_weight", "penalty.r1_gamma", "penalty.r2_gamma", "penalty.orthogonal",
    "loss.class_D", "loss.class_G", "loss.instance_noise",
)  # fmt: skip
SMALLEST = 1e-12  # stands in the configuration for a weight that starts at 0: 0 would mean that it is not used

Schedule = Callable[[torch.Tensor], torch.Tensor | float]


@dataclass(frozen=True)
class Own:
    """The objects of a caller. schedules: option -> function of kimg. notes: for the user."""

    losses: OwnLosses | None = None
    schedules: dict[str, Schedule] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def check(self, config: Config) -> None:
        """Raise UserError where the configuration has a second schedule of the same value."""
        for names, second, mend in (
            (("optim.lr_G", "optim.lr_D"), config.optim.decay != "none" or config.optim.warmup_kimg > 0,
             'decay="none" and warmup_kimg=0'),
            (("penalty.r1_gamma", "penalty.r2_gamma"), config.penalty.gamma_end != 1, "gamma_end=1"),
        ):  # fmt: skip
            both = [name for name in names if name in self.schedules]
            if both and second:
                raise UserError(f"{both[0]} follows a function and a named schedule: give {mend} beside the function")


NOTHING = Own()


def take_own(keywords: dict, logits: Callable | None, G: nn.Module, D: nn.Module) -> tuple[dict, Own]:
    """Return the keywords of Trainer with names and numbers alone, and the objects.

    logits: see OwnLosses. Raises UserError for an object that cannot be used.
    """
    plain, schedules, notes = {}, {}, []
    losses = _losses_from(keywords.get("loss"), logits)
    if losses is not None:
        keywords = keywords | {"loss": "custom"}
        notes.append(f"the losses are the caller's: {_name(losses.d_loss)} of D, {_name(losses.g_loss)} of G; a "
                     "resumed run needs them again")  # fmt: skip
    if is_given(keywords.get("optimizer")):
        plain, note = options_from(keywords["optimizer"], G, D)
        keywords = {keyword: value for keyword, value in keywords.items() if keyword != "optimizer"}
        notes.append(note)
    for keyword, value in keywords.items():
        for key, each in options_of(keyword, value):
            if callable(each):
                schedules[key] = each
                each = _first_value(key, each)
            plain[key] = each
    if schedules:
        notes.append(f"the caller's functions of kimg set {' and '.join(schedules)}; a resumed run needs them again")
    return plain, Own(losses, schedules, tuple(notes))


def _losses_from(value: object, logits: Callable | None) -> OwnLosses | None:
    if value is None or isinstance(value, str):
        if logits is not None:
            raise UserError("logits=... is for losses of one's own: give loss=(d_loss, g_loss) as well")
        return None
    if not isinstance(value, tuple | list) or len(value) != 2 or not all(map(callable, value)):
        raise UserError("loss is a name, or a pair of functions: d_loss(real_out, fake_out) and g_loss(fake_out) or "
                        "g_loss(fake_out, real_out)")  # fmt: skip
    return OwnLosses(*value, compares=num_arguments(value[1]) >= 2, logits=logits)


def _name(function: Callable) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


def _first_value(key: str, function: Schedule) -> float:
    """Return the value at 0 kimg. Raises UserError for a function that cannot be traced."""
    if key not in SCHEDULED:
        raise UserError(f"{key} takes no function: schedules are for {', '.join(SCHEDULED)}")
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            function(torch.zeros((), dtype=torch.float64))
        value = torch.as_tensor(function(torch.zeros((), dtype=torch.float64)))
    except Exception as error:
        raise UserError(
            f"the function of {key} cannot be traced ({type(error).__name__}): write it in torch operations of the "
            "tensor kimg, such as lambda kimg: 2e-4 * torch.clamp(1 - kimg / 1000, min=0)"
        ) from error
    if value.dim() or not 0 <= value.item() < math.inf:
        raise UserError(f"the function of {key} gives {value.tolist()} at 0 kimg: it must give one number, at least 0")
    return max(value.item(), SMALLEST)
