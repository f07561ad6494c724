"""The trainings: presets and their data, lengths and numbers of seeds."""
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastgan.config import DENSITIES, Config, override, replace, without_length
from fastgan.config.presets import preset
from fastgan.errors import UserError

STACKED = "stacked:"  # data of known modes: three grey images as one of three channels
POINTS = 10  # of a curve, beside the untrained generator
STACKED_POINTS = 5  # of one whose every point takes 26 000 images
GRID = 40  # images in a picture of a generator without classes
DEFAULT_KIMG = 200  # of a preset that PLAN does not name
EMBEDDED = "fashion-mnist-10k"


@dataclass(frozen=True)
class TrainingCase:
    """One preset on one data set.

    data: None = the preset's own. changes: KEY=VALUE, as `fastgan train --set` takes them.
    """

    preset: str
    kimg: float
    data: str | None = None
    seeds: int = 1
    points: int = POINTS
    changes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The data, as fastgan.data takes them."""
        return self.data or preset(self.preset).data.source

    @property
    def is_density(self) -> bool:
        """True where the data are samples of a density, which belong to the preset."""
        return preset(self.preset).data.source in DENSITIES

    def config(self, seed: int) -> Config:
        """Return the preset's configuration for this length and these data.

        It has a tick a point of the curve.
        """
        config = without_length(preset(self.preset))
        values = {
            "data.source": self.source,
            "run.kimg": self.kimg,
            "run.seed": seed,
            "run.tick_kimg": self.kimg / self.points,
            "run.grid": GRID,
        }
        for key, value in values.items():
            config = replace(config, key, value)
        for change in self.changes:
            config = override(config, change)
        return config


# Lengths are what two CPU cores do in minutes. The quick ones come first.
PLAN = (
    TrainingCase("gaussian1d", 2000, seeds=5, points=20),
    TrainingCase("ring8", 2560),
    TrainingCase("ring8-gp", 6400),
    TrainingCase("grid25", 2560),
    TrainingCase("grid25-gp", 12_800),
    TrainingCase("mlp", 300),
    TrainingCase("mlp-tf", 300),
    TrainingCase("mlp-mnist", 600),
    TrainingCase("dcgan-tiny", 100),
    TrainingCase("wgan-tiny", 300),
    TrainingCase("wgan-gp-tiny", 300),
    TrainingCase("cgan-mlp", 300),
    TrainingCase("cgan-tiny", 400),
    TrainingCase("acgan-tiny", 150),
    TrainingCase("sngan-tiny", 150),
    TrainingCase("biggan-tiny", 150),
    TrainingCase("lightweight-tiny", 100),
    TrainingCase("stylegan2-tiny", 150),
    TrainingCase("r3gan-tiny", 150),
    *(TrainingCase(name, kimg, STACKED + EMBEDDED, points=STACKED_POINTS)
      for name, kimg in (("dcgan-tiny", 400), ("wgan-gp-tiny", 300), ("sngan-tiny", 150), ("r3gan-tiny", 150))),
)  # fmt: skip
COMPARED = TrainingCase("dcgan-tiny", 100, seeds=5, points=4)  # with the plain loop


def chosen(presets: Sequence[str] = (), data: str | None = None, seeds: int | None = None, kimg: float | None = None,
           changes: Sequence[str] = ()) -> list[TrainingCase]:
    """Return the cases of these presets, of all where none are named.

    They have seeds, kimg and changes, where given, instead of their own.

    data: instead of the embedded set, for every preset that learns images; `stacked:` and a set
    chooses the cases that count modes. A preset named without data runs on its own alone. A preset
    that the plan does not name is trained for DEFAULT_KIMG. Raises UserError for an unknown preset,
    for data given to a preset that has its own, and for lengths that are none.
    """
    cases = [
        case
        for name in presets or dict.fromkeys(case.preset for case in PLAN)
        for case in _of_preset(name, data, every=not presets)
    ]
    return [with_asked(case, seeds, kimg, changes) for case in cases]


def with_asked(
    case: TrainingCase, seeds: int | None = None, kimg: float | None = None, changes: Sequence[str] = ()
) -> TrainingCase:
    """Return the case with another number of seeds, another length and changes, where given.

    Raises UserError for invalid ones.
    """
    if (seeds is not None and seeds < 1) or (kimg is not None and not 0 < kimg < math.inf):
        raise UserError("--seeds and --kimg are numbers above 0")
    asked = dataclasses.replace(
        case, seeds=seeds or case.seeds, kimg=kimg or case.kimg, changes=tuple(changes) or case.changes
    )
    asked.config(seed=0)  # refuses a change that is none, before anything is trained
    return asked


def data_name(name: str) -> str:
    """Return the name of a set in rows: the name of a source without the suffix of a file.

    `stacked:mnist` for `stacked:mnist.npz`.
    """
    prefix, base = (STACKED, name.removeprefix(STACKED)) if name.startswith(STACKED) else ("", name)
    return prefix + Path(base).stem


def _of_preset(name: str, data: str | None, every: bool) -> list[TrainingCase]:
    """Return the cases of one preset.

    every: the whole plan is wanted, so presets that the data are not for are left out instead of
    refused.
    """
    default = TrainingCase(name, DEFAULT_KIMG)
    if default.is_density and data is not None:
        if every:
            return []
        raise UserError(f"{name} learns samples that it draws itself: leave --data out")
    planned = [case for case in PLAN if case.preset == name]
    if data is None:
        return planned if every and planned else planned[:1] or [default]
    alike = [case for case in planned if is_stacked(case.source) == is_stacked(data)]
    if every and not alike:
        return []
    return [dataclasses.replace(alike[0] if alike else default, data=data)]


def is_stacked(data: str) -> bool:
    """Return True where these are data of stacked digits."""
    return data.startswith(STACKED)
