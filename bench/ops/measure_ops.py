"""From cases to rows: every implementation of a case in turn.

They run beside a large matrix product and a large copy, which set the limits.

All are timed as autotune.py times them (fastgan/ops/dispatch/timing.py): on CUDA by the device's
own time, as a captured step spends it.
"""
import datetime
from collections.abc import Callable

import torch

from fastgan.bench import machine, timing
from fastgan.bench.flops import matmul
from fastgan.bench.ops.op_cases import CASES, DTYPES, OpCase, all_cases
from fastgan.bench.ops.op_rows import OpRow
from fastgan.bench.timing import quartiles
from fastgan.device.determinism import settle_algorithms
from fastgan.device.precision import choose_precision
from fastgan.ops.dispatch import autotune
from fastgan.ops.dispatch.timing import HostWaitsError, timer

ROUND_S = 0.05  # a round of one implementation
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 32}  # past every cache


def measure_ops(
    ops: list[str],
    batch_size: int,
    dtypes: list[str],
    rounds: int,
    say: Callable[[str], None],
    keep: Callable[[list[OpRow]], None] = lambda rows: None,
) -> list[OpRow]:
    """Return rows of every implementation of every call.

    ops: names in CASES; dtypes: names in DTYPES. Ends with no implementation forced.

    keep: takes the rows of a call as soon as it was measured.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    choose_precision(True, device)  # TF32 where fp32 is meant, as in training
    settle_algorithms(False, device)  # likewise
    command = (
        f"fastgan bench ops --op {' '.join(ops)} --batch-size {batch_size} --dtype {' '.join(dtypes)} --rounds {rounds}"
    )
    shared = {
        "note": machine.busy_note(),
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "torch": torch.__version__,
        "machine": machine.stamp(),
    }
    rows = []
    try:
        for case in all_cases(ops, batch_size, dtypes, device):
            try:
                of_case = _rows(case, rounds, device, shared)
            except HostWaitsError as error:
                say(f"{case.op} {case.call} {case.dtype} is left out: {error}")
                continue
            say(
                f"{case.op} {case.call} {case.dtype}: "
                + ", ".join(f"{row.implementation} {row.microseconds:.0f} us" for row in of_case)
            )
            keep(of_case)
            rows += of_case
    finally:
        autotune.force(dict.fromkeys(CASES, "auto"))
    return rows


def _rows(case: OpCase, rounds: int, device: torch.device, shared: dict) -> list[OpRow]:
    product, product_flop = matmul(DTYPES[case.dtype], device)
    copy, copied_bytes = large_copy(device)
    calls = {**case.candidates, "matmul": product, "copy": copy}
    timers = {name: timer(call, device.type) for name, call in calls.items()}
    call_s, _ = timing.interleave(
        timers, rounds, round_s=ROUND_S, seconds_of=lambda each, num_calls: num_calls * each.seconds(num_calls)
    )
    matmul_rate = product_flop / quartiles(call_s["matmul"])[1]
    copy_rate = copied_bytes / quartiles(call_s["copy"])[1]
    limit_s = max(case.flop / matmul_rate, case.bytes / copy_rate)
    return [
        _row(case, name, call_s, timers[name].how, limit_s, matmul_rate, copy_rate, shared) for name in case.candidates
    ]


def _row(
    case: OpCase,
    name: str,
    call_s: dict[str, list[float]],
    timed: str,
    limit_s: float,
    matmul_rate: float,
    copy_rate: float,
    shared: dict,
) -> OpRow:
    q1, median, q3 = quartiles(call_s[name])
    slow, ratio, fast = quartiles(
        [reference / ours for reference, ours in zip(call_s[autotune.REFERENCE], call_s[name], strict=True)]
    )
    return OpRow(
        op=case.op,
        call=case.call,
        dtype=case.dtype,
        implementation=name,
        microseconds=1e6 * median,
        microseconds_quartiles=(1e6 * q1, 1e6 * q3),
        ratio_to_reference=ratio,
        ratio_to_reference_quartiles=(slow, fast),
        gflops=case.flop / median / 1e9,
        gbytes_per_s=case.bytes / median / 1e9,
        percent_of_limit=100 * limit_s / median,
        matmul_gflops=matmul_rate / 1e9,
        copy_gbytes_per_s=copy_rate / 1e9,
        rounds=len(call_s[name]),
        timed=timed,
        **shared,
    )


def large_copy(device: torch.device) -> tuple[Callable[[], object], int]:
    """Return (a copy that can be called, the bytes that it reads and writes)."""
    source = torch.zeros(COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2 * COPY_BYTES[device.type]
