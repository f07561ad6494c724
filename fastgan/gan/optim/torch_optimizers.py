"""Options from torch.optim's optimisers that a caller gives.

The step has optimisers of its own, which are part of its graph; the instances are not used.
"""
import torch
from torch import nn

from fastgan.errors import UserError

# Kind -> (name, option of each hyperparameter); weight_decay and lr belong to all
KINDS = {
    torch.optim.Adam: ("adam", ("betas", "eps")),
    torch.optim.AdamW: ("adamw", ("betas", "eps")),
    torch.optim.RMSprop: ("rmsprop", ("alpha", "eps", "momentum")),
    torch.optim.SGD: ("sgd", ("momentum",)),
}
NOT_TAKEN = ("amsgrad", "maximize", "nesterov", "centered", "dampening")


def is_given(value: object) -> bool:
    """Return True for an optimiser, or a pair of them."""
    each = value if isinstance(value, tuple | list) else (value,)
    return any(isinstance(one, torch.optim.Optimizer) for one in each)


def options_from(value: object, G: nn.Module, D: nn.Module) -> tuple[dict[str, object], str]:
    """Return the options of one optimiser, or of a pair for G and D, and a note.

    Raises UserError for an optimiser whose kind or hyperparameters fastgan does not have.
    """
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(isinstance(each, torch.optim.Optimizer) for each in pair):
        raise UserError("optimizer is a name, an optimiser of torch.optim, or a pair of them, for G and for D")
    is_pair = isinstance(value, tuple | list)
    found = {
        name: _hyperparameters(each, _groups_of(each, network, name, is_pair), name)
        for name, each, network in (("G", pair[0], G), ("D", pair[1], D))
    }
    for key in sorted(found["G"].keys() & found["D"].keys() - {"lr", "name"}):
        if found["G"][key] != found["D"][key]:
            raise UserError(
                f"the optimisers of G and D differ in {key} ({found['G'][key]:g} and {found['D'][key]:g}): fastgan has "
                "two learning rates and two kinds, and one of every other value"
            )
    options = {f"optim.{key}": each for key, each in (found["D"] | found["G"]).items() if key != "lr"}
    options |= {"optim.lr_G": found["G"]["lr"], "optim.lr_D": found["D"]["lr"]}
    options["optim.name_D"] = None if found["D"]["name"] == found["G"]["name"] else found["D"]["name"]
    return options, _note(options, pair)


def _groups_of(optimizer: torch.optim.Optimizer, network: nn.Module, name: str, is_pair: bool) -> list[dict]:
    """Return the parameter groups of a network.

    They are all groups where one optimiser, which has none of its parameters, stands for both.
    """
    trained = {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    groups = [group for group in optimizer.param_groups if any(id(each) in trained for each in group["params"])]
    held = trained & {id(each) for group in groups for each in group["params"]}
    if is_pair and not held:
        raise UserError(f"the optimiser of {name} has no parameter of it: give optimizer=(that of G, that of D)")
    if held and held != trained:
        raise UserError(
            f"the optimiser of {name} has {len(held)} of its {len(trained)} trained parameters: give it all of them, "
            "or set requires_grad=False on the others"
        )
    return groups or optimizer.param_groups


def _hyperparameters(optimizer: torch.optim.Optimizer, groups: list[dict], name: str) -> dict[str, object]:
    kind = type(optimizer)
    if kind not in KINDS:
        raise UserError(
            f"optimizer is torch.optim's {kind.__name__}, which fastgan does not have: give one of "
            f"{', '.join(each.__name__ for each in KINDS)}"
        )
    if any("initial_lr" in group for group in groups):
        raise UserError(
            f"a learning rate scheduler is attached to the optimiser of {name}: give lr as a function of kimg, "
            "lr=lambda kimg: ..., or optim.decay"
        )
    own_name, names = KINDS[kind]
    wanted = [{key: _number(group[key]) for key in ("lr", "weight_decay", *names)} for group in groups]
    if any(each != wanted[0] for each in wanted):
        raise UserError(f"the parameter groups of {name} differ in their values: fastgan has one of each for a network")
    for key in NOT_TAKEN:
        if any(group.get(key) for group in groups):
            raise UserError(f"{kind.__name__} with {key} is not offered: leave {key} out")
    values = wanted[0]
    if "betas" in values:
        values["beta1"], values["beta2"] = values.pop("betas")
    if "alpha" in values:
        values["beta2"] = values.pop("alpha")
    return values | {"name": "adamw" if groups[0].get("decoupled_weight_decay") else own_name}


def _number(value: object) -> object:
    """Return a hyperparameter as a float, or a pair as a tuple of floats; it may be a tensor."""
    return tuple(map(float, value)) if isinstance(value, tuple | list) else float(value)


def _note(options: dict[str, object], pair: tuple[torch.optim.Optimizer, torch.optim.Optimizer]) -> str:
    kinds = " and ".join(dict.fromkeys(type(each).__name__ for each in pair))
    values = ", ".join(f"{key[6:]} {value:g}" for key, value in options.items() if isinstance(value, float))
    fresh = ", and its moments start anew" if any(each.state for each in pair) else ""
    return (f"the values of torch.optim's {kinds} are taken over ({values}); the step has an optimiser of its own, "
            f"which is compiled with it{fresh}")  # fmt: skip
