"""The eager rung: the reference of every faster one, and the measure of how far that may differ."""
from functools import partial

from fastgan.engine.parity import PARITY_STEPS, ParityRuns, Tolerance
from fastgan.engine.phase_schedule import Variant
from fastgan.engine.system import System


class EagerSteps:
    """The steps of a system in eager PyTorch, with trial runs of them that leave no trace."""

    def __init__(self, system: System):
        self._system = system
        self.trials = ParityRuns(system.state, system.generators)

    def call(self, variant: Variant) -> None:
        """Run the phases of a step, in the precision of the run."""
        for name in variant:
            phase = self._system.phases[name]
            phase.step(phase.draw())

    def call_precise(self, variant: Variant) -> None:
        """Run the phases of a step, in fp32 where the run computes in a lower precision."""
        for name in variant:
            phase = self._system.phases[name]
            (phase.precise_step or phase.step)(phase.draw())

    def is_reduced(self, *phases: str) -> bool:
        """Return True if any of the phases (none given: of all) computes below fp32."""
        return any(self._system.phases[name].precise_step for name in phases or self._system.phases)

    def measure(self, name: str) -> Tolerance:
        """Run one phase, and return the tolerance for the rungs above."""
        with self._system.counters.watching(name, PARITY_STEPS):
            return self.tolerance((name,))

    def tolerance(self, variant: Variant) -> Tolerance:
        """Return how far a step of these phases may be from the eager one."""
        precise = partial(self.call_precise, variant) if self.is_reduced(*variant) else None
        return Tolerance(self.trials, partial(self.call, variant), precise)
