"""First checks of a GPU machine, in seconds: `python -m fastgan.bench.gpu.smoke --rows FILE`.

A row for every step, with the whole traceback.

From the smallest on: versions, a kernel, a CUDA graph that draws from a registered generator, then
the mlp step eager, captured, compiled, and both. Every step is tried whatever became of the others.
The operators are the references: it must not wait for checks (the plan sets FASTGAN_OPS).
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from fastgan import info
from fastgan.bench import json_lines, machine
from fastgan.bench.fastgan_loop import FastganLoop
from fastgan.bench.gpu import evidence
from fastgan.bench.implementations import rung_config
from fastgan.bench.step_cases import Case, make_case
from fastgan.config import replace
from fastgan.run import build

BATCH_SIZE, STEPS = 64, 3
NUM = 8  # numbers that the smallest graph draws


def steps(case: Case) -> dict[str, Callable[[], object]]:
    """Return the steps by name, the smallest first; each returns the details for its row."""
    rungs = {"eager mlp": ("eager", False), "captured mlp": ("captured", False), "compiled mlp": ("compiled", True),
             "compiled and captured mlp": ("captured", True)}  # fmt: skip
    return {
        "versions": versions,
        "a kernel": partial(a_kernel, case.device),
        "a graph that draws numbers": partial(a_graph, case.device),
        **{name: partial(mlp_step, case, *rung) for name, rung in rungs.items()},
    }


def versions() -> str:
    """Describe machine and software in the words of `fastgan info`."""
    return f"{machine.describe(machine.stamp())}\n{info.describe(info.collect())}"


def a_kernel(device: torch.device) -> str:
    """Check a product of small whole numbers, which is exact.

    Raises AssertionError where it is wrong.
    """
    a = torch.arange(64.0, device=device).reshape(8, 8)
    product = (a @ a).cpu()
    expected = a.cpu() @ a.cpu()
    assert torch.equal(product, expected), (
        f"the product differs from the CPU's by {(product - expected).abs().max().item()}"
    )
    return "right"


def a_graph(device: torch.device) -> str:
    """Check that a recorded draw gives, replay by replay, the numbers of the eager draw.

    It draws from a generator of its own. Raises AssertionError where the numbers differ.
    """
    generator, out = torch.Generator(device).manual_seed(1), torch.zeros(NUM, device=device)
    graphs = build.graphs_of(device, [generator])
    assert graphs is not None, f"nothing can be recorded on {device.type}"

    def draw() -> None:
        out.copy_(torch.rand(NUM, generator=generator, device=device))

    graphs.warm_up(draw)
    replay = graphs.record(draw)
    expected = torch.Generator(device).manual_seed(2)
    generator.manual_seed(2)
    for number in range(3):
        replay()
        graphs.synchronize()
        assert torch.equal(out, torch.rand(NUM, generator=expected, device=device)), (
            f"replay {number} drew other numbers than the eager draw"
        )
    return "replays draw what eager draws"


def mlp_step(case: Case, rung: str, compile: bool) -> str:
    """Run a few steps on a rung.

    Raises RuntimeError, with every traceback of the engine's, where the engine left the rung.
    """
    config = replace(rung_config(case.config, True, rung), "run.compile", compile)
    loop = FastganLoop(config, case.device, case.images)
    got = loop.prepare()
    for _ in range(STEPS):
        loop.run()
    losses = loop.state.totals.tensor
    if got.name != rung or evidence.refused(loop.reasons):
        raise RuntimeError(
            "\n".join([f"the {rung} step was asked for, and the {got.name} one runs", *loop.tracebacks, *loop.reasons])
        )
    if not bool(torch.isfinite(losses).all()):
        raise RuntimeError(f"the statistics are not finite: {losses.tolist()}")
    return "; ".join(
        [f"{got.name}, {got.steps_per_launch} steps a launch, ready in {got.build_s:.1f} s", *loop.reasons]
    )


def run(tried: dict[str, Callable[[], object]], path: Path) -> bool:
    """Try every step; write a row and print a line for each as soon as it is known.

    Returns True where all went well.
    """
    all_well = True
    for name, step in tried.items():
        started, found, problem = time.perf_counter(), None, None
        try:
            found = step()
        except Exception:  # whatever goes wrong is what this is for
            problem = traceback.format_exc().rstrip()
        row = {
            "kind": "smoke",
            "step": name,
            "found": found,
            "problem": problem,
            "seconds": round(time.perf_counter() - started, 1),
        }
        json_lines.append_row(path, row)
        print(f"{name}: {problem or found}", flush=True)
        all_well &= problem is None
    return all_well


def main(arguments: list[str] | None = None) -> int:
    """Try every step; 0 where all of them went well, else 1."""
    parser = argparse.ArgumentParser("python -m fastgan.bench.gpu.smoke")
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="some of the steps")
    options = parser.parse_args(arguments)
    tried = steps(make_case("mlp", BATCH_SIZE))
    return int(
        not run(
            {name: step for name, step in tried.items() if options.only is None or name in options.only}, options.rows
        )
    )


if __name__ == "__main__":
    sys.exit(main())
