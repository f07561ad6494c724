"""Options and presets in words: `fastgan train --dry-run`, `--list-presets`, and docs/options.md.

`python -m fastgan.config.reference > docs/options.md` writes that page.
"""
from fastgan.config.overrides import in_words, kind_of, value_of
from fastgan.config.schema import OPTIONS, SECTIONS, Config, is_used

KINDS = {int: "whole number", float: "number", bool: "on or off", str: "text", tuple: "whole numbers"}


def describe_options(config: Config) -> list[str]:
    """Return a line `section.name = value  # help` for each option that the networks of config use."""
    used = {key: in_words(value_of(config, key)) for key in OPTIONS if is_used(key, config.model.architecture)}
    width = max(len(f"{key} = {value}") for key, value in used.items())
    return [f"{f'{key} = {value}':{width}}  # {OPTIONS[key].help}" for key, value in used.items()]


def describe_recipe(config: Config) -> str:
    """Return a preset in a line: networks, loss, penalties, optimiser, batch and length."""
    model, loss, penalty, optim, run = config.model, config.loss, config.penalty, config.optim, config.run
    numbers = {"n_critic": loss.n_critic if loss.n_critic > 1 else 0, "gp_weight": penalty.gp_weight}
    numbers |= {"r1_gamma": penalty.r1_gamma, "r2_gamma": penalty.r2_gamma, "pl_weight": penalty.pl_weight}
    lengths = {name: getattr(run, name) for name in ("kimg", "epochs", "steps")}
    parts = [
        f"{model.architecture}{' with classes' if model.cond else ''}",
        " ".join([loss.name, *(f"{name}={value:g}" for name, value in numbers.items() if value)]),
        f"{optim.name} lr={optim.lr_G:g}" + (f",{optim.lr_D:g}" if optim.lr_D != optim.lr_G else ""),
        f"batch {run.batch_size}",
        next(f"{in_words(length)} {name}" for name, length in lengths.items() if length is not None),
    ]
    return "; ".join(parts)


def page() -> str:
    """Return docs/options.md."""
    lines = [
        "# Options",
        "",
        "Every option of a run, from `fastgan/config/schema.py`. `--set SECTION.NAME=VALUE` of `fastgan train` sets "
        "any of",
        "them, `NAME=VALUE` where one section alone has the name; some have a flag. `Trainer(G, D, data, NAME=VALUE)` "
        "takes",
        "the same names. The default is the schema's; a preset may have another (`fastgan train --preset NAME "
        "--dry-run`).",
    ]
    for section, kind in SECTIONS.items():
        lines += [
            "",
            f"## {section}",
            "",
            kind.__doc__.split("\n")[0],
            "",
            "| option | value | default | |",
            "| - | - | - | - |",
        ]
        lines += [_row(key) for key in OPTIONS if key.startswith(f"{section}.")]
    return "\n".join(lines) + "\n"


def _row(key: str) -> str:
    option, (kind, may_be_none) = OPTIONS[key], kind_of(key)
    of_kind = "two numbers" if key == "data.range" else KINDS[kind]
    allowed = ", ".join(f"`{choice}`" for choice in option.choices if choice is not None) or of_kind
    if option.bound is not None:
        allowed += f"; must {option.bound.words}"
    names = f"`{key.partition('.')[2]}`" + (f"<br>`{option.flag}`" if option.flag else "")
    only = f" ({', '.join(option.used_by)})" if option.used_by else ""
    default = in_words(value_of(Config(), key)) or "empty"
    return f"| {names} | {allowed}{' or none' if may_be_none else ''} | {default} | {option.help}{only} |".replace(
        "|grad D|", "\\|grad D\\|"
    )


if __name__ == "__main__":
    print(page(), end="")
