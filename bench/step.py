"""The training step of a preset, every implementation interleaved in one process: from a case to rows."""
import datetime
import math
import statistics
import tempfile
from collections.abc import Callable, Collection
from dataclasses import replace

import torch
from torch._inductor.utils import fresh_cache

from bench import machine, timing
from bench.cases import Case
from bench.fastgan_loop import FastganLoop
from bench.flops import matmul, useful_flops
from bench.implementations import NAMES, Implementation, build
from bench.results import Row
from fastgan.errors import UserError
from fastgan.precision import choose_precision

DTYPES = {"both": (True, False), "bf16": (True,), "fp32": (False,)}  # -> amp
TORCH_DTYPES = {"bf16": torch.bfloat16, "tf32": torch.float32, "fp32": torch.float32}


def measure(
    case: Case,
    dtype: str = "both",
    names: Collection[str] = NAMES,
    rounds: int = timing.MIN_ROUNDS,
    seconds: float = 0.0,
    round_s: float = timing.ROUND_S,
    say: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Build, warm up and time every implementation of the case; rounds, seconds and round_s as timing.interleave takes them.

    dtype: both | bf16 | fp32 (TF32 on CUDA); raises UserError where bf16 alone is asked for and the chip has none. say: takes a line on the progress.
    """
    notes = [machine.busy_note()]
    amp_choices = _amp_choices(dtype, case.device, say)
    torch._dynamo.reset()  # what was compiled in this process before would count towards the limits of the baselines
    with tempfile.TemporaryDirectory() as folder:
        implementations = _build_all(case, amp_choices, names, folder, say)
        products = {each.dtype: _matmul_like(each, case.device) for each in implementations}
        say(f"timing {len(implementations)} implementations in at least {rounds} rounds")
        times, steps = _time(implementations, {name: call for name, (call, _) in products.items()}, rounds, seconds, round_s)
    flops = useful_flops_of(case)
    common = _common(case, dtype, times, flops, notes)
    matmul_flops = {name: each[1] for name, each in products.items()}
    return [_row(each, implementations, times, steps, matmul_flops, common) for each in implementations]
