"""The implementations of a case's step, ready to be timed.

They are the two baselines and the rungs of fastgan's engine.
"""
import contextlib
import itertools
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from fastgan.bench.fastgan_loop import FastganLoop
from fastgan.bench.names import NAMES, RUNGS, SINGLE, UNFUSED
from fastgan.bench.peers.accelerated import AcceleratedLoop
from fastgan.bench.peers.choice import has_accelerated, plain_loop
from fastgan.bench.step_cases import Case
from fastgan.bench.switches import Switches, present
from fastgan.config import Config
from fastgan.config import replace as configured
from fastgan.device.precision import choose_precision
from fastgan.errors import UserError
from fastgan.gan.phases import phase_schedule_of
from fastgan.ops.dispatch import autotune, registry


@dataclass(frozen=True)
class Implementation:
    """One way to run the step.

    Calling `step` makes `steps_per_call` updates on the next real batches, with noise of its own.
    """

    name: str  # plain | accelerated | a rung of the engine: eager, compiled, captured | UNFUSED | SINGLE
    dtype: str  # of the compute: fp32 | tf32 | bf16
    amp: bool  # True where bf16 was requested
    step: Callable[[], object]
    switches: Switches  # under which it runs
    compile_s: float  # seconds until the first step at full speed; 0 where nothing is compiled
    note: str = ""
    steps_per_call: int = 1
    steps_per_launch: int = 1
    verify: Callable[[], None] = lambda: None  # raises where the step did not stay what it was

    @property
    def label(self) -> str:
        """Name of the implementation, unique within a measurement."""
        return f"{self.name} {self.dtype}"


def builders(
    case: Case, amp_choices: Collection[bool], names: Collection[str] = NAMES
) -> list[Callable[[], Implementation]]:
    """Return functions that build everything to be measured, up to having run.

    `plain` exists once, in fp32; the others for every amp.
    """
    wanted = [partial(build_plain, case)] if "plain" in names else []
    for amp in amp_choices:
        if "accelerated" in names:
            wanted.append(partial(build_accelerated, case, amp))
        wanted += [partial(build_rung, case, amp, name) for name in (*RUNGS, SINGLE) if name in names]
        if UNFUSED in names:
            wanted.append(partial(build_unfused, case, amp))
    return wanted


def possible(names: Collection[str], case: Case, say: Callable[[str], None]) -> tuple[str, ...]:
    """Return the members of NAMES that can be measured on the device of a case.

    Baselines that nobody has written are reported. Raises UserError where nothing is left.
    """
    left = tuple(name for name in names if case.device.type == "cuda" or not name.startswith("captured"))
    if not left:
        raise UserError(f"{' and '.join(names)} needs a CUDA device, and there is none")
    missing = {"plain": plain_loop(case.config) is None, "accelerated": not has_accelerated(case.config)}
    for name in left:
        if missing.get(name):
            say(f"{name} is left out: there is no such loop for {case.config.preset}")
    left = tuple(name for name in left if not missing.get(name))
    if not left:
        raise UserError(
            f"{' and '.join(names)}: there is no such loop for {case.config.preset}; leave --only out, or name a rung"
        )
    return left


def build_plain(case: Case) -> Implementation:
    """Build the loop as people write it, under torch's own settings.

    On CUDA its convolutions use TF32 and its matrix products do not.

    Where its networks are fastgan's, they compute with torch's operators.
    """
    _start_afresh()
    period = phase_schedule_of(case.config).period
    steps = _endless(plain_loop(case.config)(case.config, case.device).step, case.float_batches, period)

    def step() -> None:
        with _without_our_operators():
            steps()

    step()
    tf32 = case.device.type == "cuda" and case.config.model.architecture not in ("mlp", "samples")
    return Implementation("plain", "tf32" if tf32 else "fp32", False, step, present(), 0.0, steps_per_call=period)


def build_accelerated(case: Case, amp: bool) -> Implementation:
    """Build the engineer's loop; where compiling it fails, eager with the reason as its note."""
    try:
        return _accelerated(case, amp, compile=True)
    except Exception as error:  # whatever the compiler cannot do: a baseline must not end the measurement
        lines = str(error).strip().splitlines() or ["no message"]
        return _accelerated(case, amp, compile=False, note=f"not compiled: {type(error).__name__}: {lines[0]}")


def _accelerated(case: Case, amp: bool, compile: bool, note: str = "") -> Implementation:
    _start_afresh()
    precision = choose_precision(amp, case.device)
    loop = AcceleratedLoop(case.config, case.device, precision.compute_dtype, compile)
    warm_up_s = loop.warm_up(case.float_batches[0])
    step, note = _endless(loop.step, case.float_batches), "; ".join(filter(None, (note, loop.note)))
    return Implementation("accelerated", precision.name, amp, step, present(), warm_up_s if compile else 0.0, note)


def build_rung(case: Case, amp: bool, name: str) -> Implementation:
    """Build fastgan on a rung of RUNGS, or SINGLE.

    The name is that of the rung it got, with the reason where that is a lower one.
    """
    _start_afresh()
    loop = FastganLoop(rung_config(case.config, amp, name), case.device, case.images)
    rung = loop.prepare()
    loop.run()
    got = name if name == SINGLE and rung.name == "captured" else rung.name
    reasons = "; ".join(loop.reasons + [f"{rung.steps_per_launch} steps a launch"] * (got == "captured"))
    return Implementation(
        got, loop.precision.name, amp, loop.run, present(), rung.build_s, reasons, loop.steps_per_call,
        rung.steps_per_launch, loop.engine.check_no_recompilation,
    )  # fmt: skip


def rung_config(config: Config, amp: bool, name: str) -> Config:
    """Return the configuration under which the engine climbs to this rung and no higher."""
    cuda_graph, graph_steps = "auto" if name.startswith("captured") else "off", 1 if name == SINGLE else None
    options = {
        "run.amp": amp,
        "run.compile": name != "eager",
        "run.cuda_graph": cuda_graph,
        "run.graph_steps": graph_steps,
    }
    for key, value in options.items():
        config = configured(config, key, value)
    return config


def build_unfused(case: Case, amp: bool) -> Implementation:
    """Build the compiled rung without the fused operators.

    The choice of operators is settled when the step is compiled.
    """
    autotune.force(dict.fromkeys(registry.OPS, autotune.REFERENCE))
    try:
        rung = build_rung(case, amp, "compiled")
    finally:
        autotune.force(dict.fromkeys(registry.OPS, "auto"))
    return replace(rung, name=UNFUSED) if rung.name == "compiled" else rung


@contextlib.contextmanager
def _without_our_operators() -> Iterator[None]:
    """Replace fastgan's operators by their references inside the context.

    This includes those of eager code that are never chosen otherwise.
    """
    before = os.environ.get("FASTGAN_OPS")
    os.environ["FASTGAN_OPS"] = "reference"
    try:
        yield
    finally:
        os.environ.pop("FASTGAN_OPS")
        if before is not None:
            os.environ["FASTGAN_OPS"] = before


def _start_afresh() -> None:
    """Set the same state for every implementation.

    It consists of torch's own settings, and torch's random numbers from the start.
    """
    Switches().apply()
    torch.manual_seed(0)


def _endless(
    step: Callable[[torch.Tensor], object], batches: list[torch.Tensor], period: int = 1
) -> Callable[[], object]:
    """Return a function that calls `step` on one batch after the other, without end.

    A call makes `period` steps.
    """
    batch = itertools.cycle(batches)

    def call() -> None:
        for _ in range(period):
            step(next(batch))

    return call
