"""The state of a step of one's own: networks, optimisers by group, moving averages, statistics."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fastgan.config import OptimConfig
from fastgan.config.schema import OPTIONS
from fastgan.device.precision import Precision
from fastgan.engine.batchnorm_counters import BatchCounters
from fastgan.errors import UserError
from fastgan.gan.optim import Average, beta_for, make_average, make_optimizer
from fastgan.gan.statistics import Totals
from fastgan.nn.accelerate import accelerate
from fastgan.nn.pair.prepare import is_unfinished, set_training, to_format, without_wrappers

OPTIMIZER_OPTIONS = ("name", "lr", "beta1", "beta2", "eps", "weight_decay", "momentum")


@dataclass
class StepState:
    """Everything that a step of one's own changes.

    nets: all networks, by name. sampled: the same with moving averages where there are some, for
    samples. groups: names of networks that an optimiser updates together. totals: None until the
    statistics of the step are known.
    """

    nets: nn.ModuleDict
    sampled: nn.ModuleDict
    groups: dict[str, tuple[str, ...]]
    optimizers: dict
    averages: dict[str, Average]
    nimg: torch.Tensor  # int64 []: images shown so far
    precision: Precision
    counters: BatchCounters
    totals: Totals | None = None

    def average_group(self, group: str) -> None:
        """Let the moving averages of the networks of a group follow."""
        for name in self.groups[group]:
            if name in self.averages:
                self.averages[name].step()

    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return every tensor that a step changes: group -> name -> tensor."""
        groups = {}
        for name, network in self.nets.items():
            groups |= {f"weights/{name}": dict(network.named_parameters()),
                       f"buffers/{name}": dict(network.named_buffers())}  # fmt: skip
        for name in self.averages:
            average = self.sampled[name]
            groups |= {f"weights/{name}_ema": dict(average.named_parameters()),
                       f"buffers/{name}_ema": dict(average.named_buffers())}  # fmt: skip
        groups |= {f"optimizer/{name}": optimizer.state() for name, optimizer in self.optimizers.items()}
        groups["clock"] = {"nimg": self.nimg}
        return groups if self.totals is None else groups | {"totals": {"totals": self.totals.tensor}}

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the tensors of a snapshot: NET.NAME, and NET_ema.NAME of averages."""
        named = dict(self.nets.items()) | {f"{name}_ema": self.sampled[name] for name in self.averages}
        return {
            f"{prefix}.{name}": tensor for prefix, net in named.items() for name, tensor in net.state_dict().items()
        }


def make_step_state(
    nets: Mapping[str, nn.Module],
    optimizers: Mapping[str, Mapping | float],
    groups: Mapping[str, Sequence[str]] | None,
    ema: Sequence[str],
    ema_kimg: float,
    batch_size: int,
    device: torch.device,
    precision: Precision,
    fused: bool,
) -> tuple[StepState, list[str]]:
    """Make the state on `device`; networks are moved in place. Returns (state, notes).

    optimizers: group -> options (OPTIMIZER_OPTIONS), or a learning rate of Adam. groups: group ->
    names of networks; None = each optimiser has the network of its own name. ema: names of
    networks with a moving average of half-life ema_kimg. fused: put fused layers into the networks
    (accelerate). Raises UserError for unknown names.
    """
    nets, notes = _prepared(nets, device)
    if fused:
        found = {name: accelerate(network) for name, network in nets.items()}
        notes += [f"of {name}, {each}" for name, each in found.items() if each.replaced]
    groups = {group: (group,) for group in optimizers} if groups is None else {k: tuple(v) for k, v in groups.items()}
    _check_names(nets, optimizers, groups, ema)
    copies = {name: make_average(nets[name]) for name in ema}
    counters = BatchCounters(list(nets.values()), [(nets[name], copy) for name, copy in copies.items()])
    beta = beta_for(batch_size, ema_kimg)
    averages = {name: Average(nets[name], copy, beta, counters.copies()) for name, copy in copies.items()}
    made = {group: _optimizer(group, optimizers[group], [nets[name] for name in names])
            for group, names in groups.items()}  # fmt: skip
    nimg = torch.zeros((), dtype=torch.int64, device=device)
    sampled = nn.ModuleDict(dict(nets.items()) | copies)
    return StepState(nets, sampled, groups, made, averages, nimg, precision, counters), notes


def _prepared(nets: Mapping[str, nn.Module], device: torch.device) -> tuple[nn.ModuleDict, list[str]]:
    prepared, notes = {}, []
    for name, network in nets.items():
        if not isinstance(network, nn.Module):
            raise UserError(f"{name} is a {type(network).__name__}; nets are torch.nn.Modules by name")
        if not name.isidentifier() or hasattr(nn.ModuleDict, name):
            raise UserError(f"nets has a network named {name!r}: give it a name of letters that is no method's")
        if is_unfinished(network):
            raise UserError(f"{name} has lazy layers: run it once before, so that they have their shapes")
        network, about = without_wrappers(name, network)
        notes += about
        prepared[name] = set_training(to_format(network.to(device), torch.channels_last))
    return nn.ModuleDict(prepared), notes


def _check_names(nets: nn.ModuleDict, optimizers: Mapping, groups: Mapping, ema: Sequence[str]) -> None:
    known = ", ".join(nets)
    for group, names in groups.items():
        if group not in optimizers:
            raise UserError(f"the group {group!r} has no optimiser: give optimizers={{{group!r}: 2e-4, ...}}")
        unknown = [name for name in names if name not in nets]
        if unknown:
            raise UserError(f"the group {group!r} has the network {unknown[0]!r}, and nets are {known}: "
                            "give groups={GROUP: [NETWORK, ...]}")  # fmt: skip
    for what, names in (("optimizers", [name for name in optimizers if name not in groups]),
                        ("ema", [name for name in ema if name not in nets])):  # fmt: skip
        if names:
            raise UserError(f"{what} names {names[0]!r}, which is none of {known}")
    empty = [name for name in ema if not any(True for _ in nets[name].parameters())]
    if empty:
        raise UserError(f"ema names {empty[0]!r}, which has no parameter to average")


def _optimizer(group: str, options: Mapping | float, networks: list[nn.Module]):
    if not isinstance(options, int | float | Mapping):
        raise UserError(
            f"the optimiser of {group!r} is a {type(options).__name__}; it is a learning rate of Adam, or a dict of "
            f"{', '.join(OPTIMIZER_OPTIONS)}"
        )
    options = {"lr": options} if isinstance(options, int | float) else dict(options)
    unknown = [name for name in options if name not in OPTIMIZER_OPTIONS]
    if unknown:
        known = ", ".join(OPTIMIZER_OPTIONS)
        raise UserError(f"the optimiser of {group!r} has no option {unknown[0]!r}; it has {known}")
    parameters = [each for network in networks for each in network.parameters() if each.requires_grad]
    if not parameters:
        raise UserError(f"the group {group!r} has no parameter that requires a gradient, so there is nothing to train")
    name, lr = options.pop("name", "adam"), options.pop("lr", OptimConfig().lr_G)
    for option, value in {"name": name, "lr_G": lr, **options}.items():
        if callable(value):
            raise UserError(f"the optimiser of {group!r} takes no function as {option.removesuffix('_G')}: scale the "
                            "loss by draw.kimg instead")  # fmt: skip
        problem = OPTIONS[f"optim.{option}"].problem(option.removesuffix("_G"), value)
        if problem:
            raise UserError(f"the optimiser of {group!r}: {problem}")
    return make_optimizer(name, parameters, lr, OptimConfig(**options))
