"""Cases whose CUDA code is generated: presets at a size, augmented or conditional."""

import dataclasses
from dataclasses import dataclass

from fastgan.config import DENSITIES, Config, replace
from fastgan.config.presets import preset
from fastgan.config.validation import validate
from fastgan.errors import UserError
from fastgan.models import sizes

SIZES = {
    "mlp": (28, 1),
    "dcgan": (64, 3),
    "lightweight": (256, 3),
    "stylegan2": (64, 3),
    "resnet-stem": (64, 3),
}  # where none are asked for
OTHER_SIZE = (32, 3)
PRESET_SIZES = {
    "biggan-128": (128, 3),
    "r3gan": (64, 3),
    "lightweight-tiny": (32, 3),
    "stylegan2-tiny": (32, 3),
    "dcgan-tiny": (32, 1),
}
MOST_IMAGES = 256  # at once, of a preset without a number of its own
HOST_IMAGES = {"biggan-128": 16, "r3gan": 32, "r3gan-cifar": 64}  # networks are looked at on the host, in 24 GB here


@dataclass(frozen=True)
class CodeCase:
    """A complete configuration. words: its difference from the preset, for a table."""

    config: Config
    words: str = ""


def make_code_case(
    name: str, batch_size: int | None = None, resolution: int | None = None, augment: str = "none", cond: bool = False
) -> CodeCase:
    """Return the case of a preset with all of its batch at once.

    It has `diff` or `ada` augmentation, or is the conditional form.

    None = the preset's own number. Raises UserError for what cannot be trained.
    """
    config = preset(name)
    if config.data.source not in DENSITIES and config.model.architecture not in ("samples", "points"):
        default = PRESET_SIZES.get(name, SIZES.get(config.model.architecture, OTHER_SIZE))
        config = replace(
            replace(config, "model.img_resolution", resolution or _nearest(config, default[0])),
            "model.img_channels",
            default[1],
        )
    elif resolution is not None or augment != "none":
        raise UserError(f"{name} makes samples, not images: leave --resolution and --augment out")
    most = HOST_IMAGES.get(name, config.run.batch_gpu or MOST_IMAGES)
    batch_size = batch_size or min(config.run.batch_size, most)
    config = replace(replace(config, "run.batch_size", batch_size), "run.batch_gpu", None)
    config = replace(replace(config, "augment.kind", augment), "model.cond", cond or config.model.cond)
    words = " ".join(filter(None, (augment if augment != "none" else "", "conditional" if cond else "")))
    return CodeCase(validate(config), words)


def _nearest(config: Config, resolution: int) -> int:
    """Return the size itself, or the largest one below it that the networks support."""
    known = sizes(config.model)
    return resolution if known is None or resolution in known else max(size for size in known if size <= resolution)


def family() -> list[CodeCase]:
    """Return every preset at its own size, and variants of the presets that represent a kind.

    The variants are the augmentations and the conditional form.
    """
    from fastgan.config.presets import PRESETS

    cases = [make_code_case(name) for name in PRESETS]
    cases += [
        make_code_case(name, augment=kind) for name in ("dcgan", "stylegan2", "r3gan-tiny") for kind in ("diff", "ada")
    ]
    conditional = ("dcgan", "mlp", "stylegan2-tiny", "r3gan-tiny", "sngan-tiny")
    cases += [make_code_case(name, cond=True) for name in conditional]
    cases.append(make_code_case("dcgan", batch_size=128))
    return cases


def with_combo_kernels(case: CodeCase) -> CodeCase:
    """Return the same case with small kernels combined into one launch."""
    return dataclasses.replace(
        case, config=replace(case.config, "run.combo_kernels", True), words=f"{case.words} combo".strip()
    )
