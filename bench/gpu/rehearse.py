"""A rehearsal: the stages of a GPU machine, from end to end, on a CPU.

`fastgan bench gpu --rehearse`. No number of a rehearsal is a measurement.

A run starts its stages through this module (THROUGH), which makes everything small and short, puts
a stand-in in the place of CUDA graphs (recorded_graphs.py), and then runs the module that the stage names.
Stages that need a GPU (counters, sanitizer, tiles) are left out, and the run lists them.
"""

import dataclasses
import importlib
import os
import sys
from collections.abc import Sequence

from fastgan.bench.gpu import plan
from fastgan.bench.gpu.stage import REHEARSAL, REHEARSED_BY, Limits, Stage

HEAD = (
    "REHEARSAL on a CPU, of tiny networks: that the stages run is all that this shows, and no number of it is a "
    "measurement"
)
MINUTES, BUDGET_S = 240.0, 3600  # compiling double backward passes in C++ takes many minutes on a few slow cores
LIMITS = Limits(2, 1000.0)
THROUGH = ("-m", REHEARSED_BY)
PROVOKED = "refused"  # the stage whose rung is refused on purpose; it fails
REFUSED = "FASTGAN_BENCH_REFUSED"  # names of operators, by commas, that the stand-in refuses to record
DRAWS = "aten::randn"  # what draws z
NEEDS_A_GPU = ("tiles", "ncu", "sanitizer", "sweep-cuda", "sweep-triton")
TEST_FILE = "tests/engine/test_captured.py"  # its GPU tests are found, and skipped without a GPU
SMOKE = (
    "-m",
    "fastgan.bench.gpu.smoke",
    "--rows",
    plan.ROWS,
    "--only",
    "versions",
    "a kernel",
    "a graph that draws numbers",
    "captured mlp",
)
JOB = ("train", "--preset", "mlp", "--no-amp", "--no-compile", "--steps", "2", "--device", "cpu")
SMALL_MODEL = {
    "img_resolution": 16, "img_channels": 1, "G_hidden": (16,), "D_hidden": (16,), "ngf": 8, "ndf": 8, "w_dim": 16,
    "channel_base": 128,
    "channel_max": 16, "mapping_layers": 2, "widths": (16, 16, 8), "cardinalities": (2, 2, 2), "blocks": (1, 1, 1),
    "width": 0.03,
}  # fmt: skip
BATCH_SIZE = 8
LOADER_PLAN = {
    "num_images": 64,
    "num_packed": 64,
    "num_read": 64,
    "round_s": 0.002,
    "step_round_s": 0.002,
    "step_s": 0.0,
    "busy_round_s": 0.002,
}


def stages(chosen: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages as a rehearsal runs them.

    Before them stands one whose rung is refused on purpose, so that it is bisected.
    """
    provoked = Stage(PROVOKED, SMOKE, 1, BUDGET_S, plan.RESULTS,
                     "what happens where a rung is refused: it cannot record how z is drawn",
                     environment=((REFUSED, DRAWS), ("FASTGAN_OPS", "reference")))  # fmt: skip
    possible = [stage for stage in (provoked, *chosen) if stage.name not in NEEDS_A_GPU]
    return tuple(dataclasses.replace(stage, expected_s=1, budget_s=BUDGET_S) for stage in possible)


def left_out(chosen: Sequence[Stage]) -> str:
    """Name the stages that are not rehearsed; return an empty string where all of them are."""
    names = [stage.name for stage in chosen if stage.name in NEEDS_A_GPU]
    return f"not rehearsed, for only a GPU can do it: {', '.join(names)}" if names else ""


def environment() -> dict[str, str]:
    """Return the variables that tell a stage that it is rehearsed."""
    return {REHEARSAL: "1", "OMP_NUM_THREADS": "1"}


# --- inside a stage ---------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Run the main of `-m MODULE ...` on a machine made small."""
    module, rest = arguments[1], arguments[2:]
    if module == "fastgan.bench.gpu.bisect":  # it starts processes and computes nothing
        return importlib.import_module(module).main(rest)
    make_small()
    if module == "pytest":
        import pytest

        kept = [word for word in rest if not word.startswith(("tests", "--ignore="))]
        return int(pytest.main([*kept, TEST_FILE]))
    if module == "fastgan":  # fastgan bench ...
        module, rest = "fastgan.bench.cli", rest[1:]
    return importlib.import_module(module).main(_arguments(module, rest)) or 0


def _arguments(module: str, arguments: list[str]) -> list[str]:
    """Return the arguments for a CPU, whose chip may not have bf16."""
    import torch

    from fastgan.device.precision import choose_precision

    if module == "fastgan.bench.gpu.operators":
        return [*arguments, "--device", "cpu"]
    has_bf16 = choose_precision(True, torch.device("cpu")).compute_dtype == torch.bfloat16
    return [word if has_bf16 or word != "bf16" or module != "fastgan.bench.cli" else "fp32" for word in arguments]


def make_small() -> None:
    """Replace the functions that decide on sizes, rounds and CUDA graphs.

    Call it before the modules that use them are imported.
    """
    from fastgan.bench import flops, implementations, step_cases, timing
    from fastgan.bench.gpu import chip, job
    from fastgan.bench.loader import loader_plan
    from fastgan.bench.ops import measure_ops
    from fastgan.bench.peers import accelerated

    step_cases.make_case, timing.interleave = _small(step_cases.make_case), _short(timing.interleave)
    flops.MATMUL_SIZE, measure_ops.COPY_BYTES, chip.BUSY_CALLS, job.TRAIN = {"cpu": 32}, {"cpu": 1 << 12}, 2, JOB
    loader_plan.Plan = _with_defaults(loader_plan.Plan, LOADER_PLAN)
    # Compiling the baseline is most of the time, and shows nothing about the stages.
    accelerated._compiled = lambda function, mode=None: function
    implementations.possible = _with_captured(implementations.possible)
    _stand_in_for_graphs()


def _stand_in_for_graphs() -> None:
    from fastgan.bench.recorded_graphs import RehearsedGraphs, noticing
    from fastgan.engine import compiled
    from fastgan.run import build

    refused = frozenset(filter(None, os.environ.get(REFUSED, "").split(",")))
    build.graphs_of = lambda device, generators: RehearsedGraphs(refused)
    compiled.compile_step = noticing(compiled.compile_step)


def _small(make_case):
    """Return the same case with narrow layers, small images and a small batch."""
    from fastgan.bench.step_cases import SET_SIZE, Case
    from fastgan.config import is_used, replace

    def make(name, batch_size=None, resolution=None, channels=None):
        case = make_case(name, batch_size, resolution, channels)
        config, model = case.config, case.config.model
        for key, value in SMALL_MODEL.items():
            if getattr(model, key) and is_used(f"model.{key}", model.architecture):
                config = replace(config, f"model.{key}", value)
        return Case(
            replace(config, "run.batch_size", SET_SIZE if model.architecture == "samples" else BATCH_SIZE), case.device
        )

    return make


def _short(interleave):
    def interleave_shortly(calls, rounds=2, seconds=0.0, round_s=0.001, before=lambda name: None, seconds_of=None):
        return interleave(calls, 2, 0.0, 0.001, before, seconds_of)

    return interleave_shortly


def _with_defaults(kind, defaults: dict):
    return lambda **fields: kind(**{**defaults, **fields})


def _with_captured(possible):
    """Return the rungs of a case as they are on CUDA."""
    import torch

    return lambda names, case, say: possible(names, dataclasses.replace(case, device=torch.device("cuda")), say)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
