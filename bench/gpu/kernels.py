"""The time of a step on the GPU by kernel, from the profiler.

`python -m fastgan.bench.gpu.kernels --preset dcgan --rungs eager compiled --rows FILE`

Three kinds of rows for each rung, all per call of its step: `total`, `kernel` (by name) and `call`
(convolutions and matrix products by shape). A step that is one CUDA graph has no calls: the
profiler sees its kernels alone. Beside FILE the same as Markdown. Where evidence is collected
(evidence.py), the code that Inductor generated and a trace of every rung are kept.
"""
import argparse
import contextlib
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter

import torch
from torch.autograd import DeviceType
from torch.profiler import profile

from fastgan.bench import exclusive, json_lines, machine
from fastgan.bench.flops import call_flops
from fastgan.bench.gpu import evidence
from fastgan.bench.implementations import builders
from fastgan.bench.step_cases import make_case
from fastgan.bench.tables import significant
from fastgan.bench.timing import synchronize
from fastgan.files import write_text

WARMUP, CALLS = 5, 10
NAME_LENGTH = 110  # of a kernel in the Markdown table; templates have thousands of letters


def profile_rung(case, name: str, path: Path) -> None:
    """Build a rung of fastgan in bf16, profile CALLS calls of its step and add the rows.

    A rung that does not exist adds nothing.
    """
    for build in builders(case, (True,), (name,)):
        with _code_kept(name):
            implementation = build()
        with exclusive.alone():
            for _ in range(WARMUP):
                implementation.step()
            wall_s = _run(implementation.step)
            # Of all activities, CUDA above all
            with profile(record_shapes=True, acc_events=True) as profiled:
                _run(implementation.step)
        if evidence.folder() is not None:
            profiled.export_chrome_trace(str(evidence.folder() / f"trace-{name}.json.gz"))
        shared = {
            "rung": implementation.name,
            "preset": case.config.preset,
            "batch_size": case.config.run.batch_size,
            "dtype": implementation.dtype,
        }
        stamp = {
            "note": implementation.note,
            "torch": torch.__version__,
            "commit": machine.commit(),
            "gpu": machine.stamp()["gpu"],
        }
        for row in measured_rows(profiled.events(), CALLS, 1e6 * wall_s / CALLS):
            json_lines.append_row(path, {**row, **shared, **(stamp if row["kind"] == "total" else {})})


@contextlib.contextmanager
def _code_kept(name: str) -> Iterator[None]:
    """Keep the code that is compiled inside as evidence.

    It comes from a cache of its own, so that all of it is generated. Nothing happens where no
    evidence is collected.
    """
    if evidence.folder() is None:
        yield
        return
    from torch._inductor.utils import fresh_cache

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with fresh_cache(dir=folder, delete=False):
            yield
        evidence.keep_code(Path(folder), name)


def measured_rows(events: Iterable, num_calls: int, wall_us: float) -> list[dict]:
    """Return the rows of one rung, the total first, then the longest.

    events: the profiler's, of num_calls calls; wall_us: a call's, unprofiled.
    """
    events = list(events)
    on_gpu = (event for event in events if event.device_type == DeviceType.CUDA and not event.is_user_annotation)
    kernels = _grouped((event.name, event.time_range.elapsed_us()) for event in on_gpu)
    total_us = sum(sum(each) for each in kernels.values())
    total = {
        "kind": "total",
        "kernels": sum(map(len, kernels.values())) / num_calls,
        "microseconds": total_us / num_calls,
        "wall_us": wall_us,
    }
    by_name = [
        {
            "kind": "kernel",
            "name": name,
            "calls": len(each) / num_calls,
            "microseconds": sum(each) / num_calls,
            "share": sum(each) / total_us,
        }
        for name, each in kernels.items()
    ]
    return [total, *_longest_first(by_name), *_longest_first(_calls(events, num_calls))]


def _calls(events: list, num_calls: int) -> list[dict]:
    """Return convolutions and matrix products by shape, with the time of their kernels.

    The time is that of every kernel that the calls launched.
    """
    launching = (event for event in events if event.device_type == DeviceType.CPU and event.device_time_total)
    grouped = _grouped((_call_key(event), event.device_time_total) for event in launching)
    return [
        {"kind": "call", "op": key[0], "shapes": key[1], "gflop": key[2] / 1e9, "calls": len(each) / num_calls,
         "microseconds": sum(each) / num_calls, "tflops": key[2] * len(each) / sum(each) / 1e6}
        for key, each in grouped.items() if key is not None
    ]  # fmt: skip


def _call_key(event) -> tuple[str, str, int] | None:
    """Return (operator, its shapes, FLOPs of a call); None for an operator that is not counted."""
    count = call_flops(event.name, event.input_shapes, event.concrete_inputs)
    return (
        None
        if count is None
        else (event.name, " ".join("x".join(map(str, shape)) for shape in event.input_shapes if len(shape) > 1), count)
    )


def _grouped(pairs: Iterable[tuple]) -> dict:
    groups = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return dict(groups)


def _longest_first(found: list[dict]) -> list[dict]:
    return sorted(found, key=lambda row: -row["microseconds"])


def _run(step) -> float:
    """Return the seconds of CALLS calls."""
    synchronize()
    started = perf_counter()
    for _ in range(CALLS):
        step()
    synchronize()
    return perf_counter() - started


# --- Markdown ---------------------------------------------------------------------------------------------------------


def markdown(found: list[dict]) -> str:
    """Return two Markdown tables a rung."""
    parts = []
    for rung in dict.fromkeys(row["rung"] for row in found):
        of_rung = [row for row in found if row["rung"] == rung]
        total, kernels, calls = (
            [row for row in of_rung if row["kind"] == kind] for kind in ("total", "kernel", "call")
        )
        parts += [f"## {rung}: {_head(total[-1])}", "", _kernel_table(kernels), ""]
        parts += [_call_table(calls), ""] if calls else []
    return "\n".join(parts)


def _head(total: dict) -> str:
    size = f"{total['preset']} batch {total['batch_size']} {total['dtype']} on {total['gpu']}"
    times = f"{significant(total['microseconds'])} us of kernels in {significant(total['wall_us'])} us"
    return f"{size}, {total['kernels']:.0f} kernels, {times}" + (f" ({total['note']})" if total["note"] else "")


def _kernel_table(kernels: list[dict]) -> str:
    lines = ["| kernel | calls | us | % |", "| - | -: | -: | -: |"]
    for row in kernels:
        name = row["name"].replace("|", "\\|")[:NAME_LENGTH]
        lines.append(f"| `{name}` | {row['calls']:g} | {significant(row['microseconds'])} | {100 * row['share']:.1f} |")
    return "\n".join(lines)


def _call_table(calls: list[dict]) -> str:
    lines = ["| call | shapes | calls | us | GFLOP a call | TFLOP/s |", "| - | - | -: | -: | -: | -: |"]
    for row in calls:
        numbers = " | ".join(significant(row[key]) for key in ("microseconds", "gflop", "tflops"))
        lines.append(f"| {row['op']} | {row['shapes']} | {row['calls']:g} | {numbers} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Profile one rung after the other and write the rows."""
    parser = argparse.ArgumentParser("python -m fastgan.bench.gpu.kernels")
    parser.add_argument("--preset", required=True)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--rungs", nargs="+", required=True)
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    case = make_case(options.preset, options.batch_size)
    for name in options.rungs:
        profile_rung(case, name, options.rows)
        write_text(options.rows.with_suffix(".md"), markdown(json_lines.rows_since(options.rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
