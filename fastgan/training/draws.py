"""Random numbers of a step of one's own, drawn outside of it, so that every rung sees the same ones."""
from dataclasses import dataclass

import torch

from fastgan.errors import UserError


@dataclass(frozen=True)
class Drawn:
    """One named draw: normal N(0,1), uniform U(0,1), or integers from 0 to high - 1."""

    kind: str
    shape: tuple[int, ...]
    high: int = 0

    def numbers(self, generator: torch.Generator) -> torch.Tensor:
        """Return fresh numbers on the generator's device: float32, or int64 for integers."""
        options = {"generator": generator, "device": generator.device}
        if self.kind == "normal":
            return torch.randn(*self.shape, **options)
        if self.kind == "uniform":
            return torch.rand(*self.shape, **options)
        return torch.randint(self.high, self.shape, **options)


class Draw:
    """The source of a step's random numbers, as `draw.normal("z", 64, 128)`; names are unique in a step.

    kimg: float32 [], thousands of images shown so far. A subclass decides where numbers come from.
    """

    def __init__(self, kimg: torch.Tensor):
        self.kimg = kimg

    def normal(self, name: str, *shape: int) -> torch.Tensor:
        """Return float32 [*shape], N(0,1)."""
        return self._take(name, Drawn("normal", shape))

    def uniform(self, name: str, *shape: int) -> torch.Tensor:
        """Return float32 [*shape], U(0,1)."""
        return self._take(name, Drawn("uniform", shape))

    def integers(self, name: str, high: int, *shape: int) -> torch.Tensor:
        """Return int64 [*shape], from 0 to high - 1."""
        return self._take(name, Drawn("integers", shape, high))

    def _take(self, name: str, drawn: Drawn) -> torch.Tensor:
        raise NotImplementedError


class RecordingDraw(Draw):
    """Draws at once, and records what was drawn: for the trial pass, and for samples."""

    def __init__(self, generator: torch.Generator, kimg: torch.Tensor):
        super().__init__(kimg)
        self.generator, self.recorded = generator, {}

    def _take(self, name: str, drawn: Drawn) -> torch.Tensor:
        if name in self.recorded:
            raise UserError(f"the step draws {name!r} twice: give every draw a name of its own")
        self.recorded[name] = drawn
        return drawn.numbers(self.generator)


class GivenDraw(Draw):
    """Hands out numbers that were drawn before the step, by name."""

    def __init__(self, drawn: dict[str, Drawn], numbers: tuple[torch.Tensor, ...], kimg: torch.Tensor):
        super().__init__(kimg)
        self._drawn, self._numbers = drawn, dict(zip(drawn, numbers, strict=True))

    def _take(self, name: str, drawn: Drawn) -> torch.Tensor:
        if self._drawn.get(name) != drawn:
            before = self._drawn.get(name)
            first = f"it drew {before.kind} {list(before.shape)}" if before else "it did not"
            now = f"{drawn.kind} {list(drawn.shape)}"
            raise UserError(
                f"the step draws {name!r} as {now}, and in its first call {first}: a step draws the same in every call"
            )
        return self._numbers[name]
