"""The parts of a step that a rung may be refused for, each tried by itself.

`python -m fastgan.bench.gpu.variants --variant NAME ...`

A variant works where the engine does not refuse the rung, or, for what is smaller than a step,
where its replays give what eager gives.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from fastgan.bench import json_lines
from fastgan.bench.fastgan_loop import FastganLoop
from fastgan.bench.gpu import evidence
from fastgan.bench.gpu.evidence import REFUSABLE
from fastgan.bench.implementations import rung_config
from fastgan.bench.step_cases import Case, make_case
from fastgan.config import replace as configured
from fastgan.errors import first_line
from fastgan.ops.dispatch import autotune, registry

# Variants of a refused step, beside OP=IMPLEMENTATION.
AS_REFUSED, DRAW, READ, EAGER_STEP, REFERENCE = (
    "as refused",
    "draw",
    "draw and read",
    "uncompiled step",
    "reference operators",
)
WITHOUT = "without "  # and the name of an option of the compiler's
Call = Callable[[], object]
REFERENCES = dict.fromkeys(registry.OPS, autotune.REFERENCE)


def of_operators(device_type: str) -> list[str]:
    """Return every implementation of every operator that can run on the device: deconv=triton.

    Each is forced beside the references of all other operators.
    """
    return [
        f"{op}={name}"
        for op, names in registry.OPS.items()
        for name in names
        if registry.unavailable(name, device_type) is None
    ]


def run(case: Case, rung: str, variant: str) -> dict:
    """Return the outcome of a variant, {works, reason, traceback}.

    reason is one sentence; reason and traceback are empty where the variant works.

    Of a whole step also {operators, options}: the variants that there are of this case beyond it.
    """
    more: dict[str, list[str]] = {}
    try:
        reason, tracebacks = _run(case, rung, variant, more)
    except Exception as error:  # whatever goes wrong is the outcome
        return {
            "works": False,
            "reason": first_line(error),
            "traceback": traceback.format_exc().rstrip(),
            **more,
        }
    return {"works": not reason, "reason": reason, "traceback": "\n".join(tracebacks) if reason else "", **more}


def _run(case: Case, rung: str, variant: str, more: dict[str, list[str]]) -> tuple[str, list[str]]:
    """Return (the reason why the rung is refused under this variant, or nothing; tracebacks)."""
    forced = {} if variant == AS_REFUSED else dict(REFERENCES)
    if "=" in variant:
        op, _, implementation = variant.partition("=")
        forced[op] = implementation
    autotune.force(forced)
    config = rung_config(case.config, case.config.run.amp, rung)
    if variant in (DRAW, READ, EAGER_STEP):
        config = configured(config, "run.compile", False)
    loop = FastganLoop(config, case.device, case.images)
    if variant in (DRAW, READ):
        return _recorded_part(loop, reads=variant == READ), []
    more |= {
        "operators": of_operators(case.device.type),
        "options": [WITHOUT + option for option in loop.engine.phases.options()],
    }
    if variant.startswith(WITHOUT):
        _leave_away(loop, variant.removeprefix(WITHOUT))
    loop.prepare()
    loop.run()
    refused = rung in evidence.refused(loop.reasons)
    return "; ".join(loop.reasons) if refused else "", loop.tracebacks


def _leave_away(loop: FastganLoop, option: str) -> None:
    options = loop.engine.phases.options
    loop.engine.phases.options = lambda: {name: value for name, value in options().items() if name != option}


def _recorded_part(loop: FastganLoop, reads: bool) -> str:
    """Record the part of a step before its computation; return how its replay differs from eager.

    Empty where it does not differ.
    """
    system, graphs, feed = loop.engine.system, loop.engine.graphs, loop.feed
    feed.reserve(8)  # those of the warm-up, of the recording, and of what is compared
    found: list[torch.Tensor] = []

    def part() -> None:
        found[:] = [
            tensor for phase in system.phases.values() for tensor in phase.draw() if isinstance(tensor, torch.Tensor)
        ]
        if reads and feed.traceable:
            found.extend(tensor for tensor in feed.read() if isinstance(tensor, torch.Tensor))

    with loop.engine.eager.trials.undone():
        graphs.warm_up(part)
    replay = _recording(loop, part)
    replayed = list(found)
    eager = _second_of(loop, part, part, lambda: found)
    again = _second_of(loop, part, replay, lambda: replayed)
    return "" if all(map(torch.equal, eager, again)) else "a replay gives other numbers or images than the eager call"


def _recording(loop: FastganLoop, part: Call) -> Call:
    with loop.engine.eager.trials.undone():
        return loop.engine.graphs.record(part)


def _second_of(
    loop: FastganLoop, first: Call, call: Call, results: Callable[[], list[torch.Tensor]]
) -> list[torch.Tensor]:
    """Return the result of a call after a first one.

    So neither numbers nor images are those that were recorded. All state is left as it was.
    """
    with loop.engine.eager.trials.undone():
        first()
        call()
        loop.engine.graphs.synchronize()
        return [tensor.clone() for tensor in results()]


def main(arguments: list[str] | None = None) -> int:
    """Try one variant and append its outcome; 0 whatever it is."""
    parser = argparse.ArgumentParser("python -m fastgan.bench.gpu.variants")
    parser.add_argument(
        "--case", type=json.loads, required=True, metavar="JSON", help="as case_of (evidence.py) gives it"
    )
    parser.add_argument("--rung", choices=REFUSABLE, required=True)
    parser.add_argument("--variant", required=True, metavar="NAME")
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    json_lines.append_row(
        options.rows, {"variant": options.variant, **run(case_from(options.case), options.rung, options.variant)}
    )
    return 0


def case_from(words: dict) -> Case:
    """Return the case that was refused."""
    case = make_case(words["preset"], words["batch_size"], words["resolution"], words["channels"])
    return Case(configured(case.config, "run.amp", words["amp"]), case.device)


if __name__ == "__main__":
    sys.exit(main())
