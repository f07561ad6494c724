"""Measurement of a preset's training step, from a case to rows.

Every implementation is interleaved in one process.
"""
import datetime
import math
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from time import perf_counter

import torch

from fastgan.bench import exclusive, machine, timing
from fastgan.bench.counters import Counters, MemoryMeter, count
from fastgan.bench.fastgan_loop import FastganLoop
from fastgan.bench.flops import matmul, useful_flops
from fastgan.bench.implementations import Implementation, builders, possible, rung_config
from fastgan.bench.names import BASELINES, NAMES, UNFUSED
from fastgan.bench.peers.accelerated import start_compiler
from fastgan.bench.places import compiler_cache
from fastgan.bench.step_cases import Case
from fastgan.bench.step_rows import TUNED, StepRow
from fastgan.bench.switches import Switches
from fastgan.bench.timing import quartiles
from fastgan.device.precision import choose_precision
from fastgan.errors import UserError
from fastgan.ops.dispatch import autotune, registry

AMP_CHOICES = {"both": (True, False), "bf16": (True,), "fp32": (False,)}
TORCH_DTYPES = {"bf16": torch.bfloat16, "tf32": torch.float32, "fp32": torch.float32}


@dataclass(frozen=True)
class Measured:
    """Results of the rounds."""

    implementations: list[Implementation]
    step_s: dict[str, list[float]]  # seconds per step, by label of an implementation, one number a round
    num_steps: dict[str, int]  # steps in a round, by label
    matmul_gflops: dict[str, float]  # by dtype
    gflop_per_step: float
    counters: dict[str, Counters] = field(default_factory=dict)  # by label
    peak_memory_mb: dict[str, float | None] = field(default_factory=dict)  # by label


def measure_step(
    case: Case,
    dtype: str = "both",
    names: Collection[str] = NAMES,
    rounds: int = timing.MIN_ROUNDS,
    seconds: float = 0.0,
    round_s: float = timing.ROUND_S,
    say: Callable[[str], None] = lambda text: None,
) -> list[StepRow]:
    """Build, warm up and time every implementation of the case.

    rounds, seconds and round_s as timing.interleave takes them.

    dtype: both | bf16 | fp32 (TF32 on CUDA); a UserError where bf16 alone is asked for and the chip
    has none. say: takes lines about the progress.
    """
    asked, names = names, possible(names, case, say)
    busy = exclusive.note() or machine.busy_note()
    amp_choices = usable_amp_choices(dtype, case.device, say)
    # Graphs of an earlier measurement in this process would count towards the recompile limit
    torch._dynamo.reset()
    # The baselines reach the default, 8, with two precisions: networks compiled as modules share it
    roomy = torch._dynamo.config.patch(recompile_limit=64)
    with roomy, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if set(names) - {"plain", "eager"}:
            _start_compiler(case.device, folder, say)
        _ = case.float_batches  # made now, since they are nobody's memory
        implementations, peak_memory_mb = _build(builders(case, amp_choices, names), folder, case.device, say)
        say(f"timing {len(implementations)} implementations, {rounds} rounds or more")
        measured = _time(case, implementations, rounds, seconds, round_s)
        for each in implementations:
            each.verify()
        measured = replace(measured, counters=_count(implementations, case.device), peak_memory_mb=peak_memory_mb)
    shared = _shared_columns(case, step_command(case, dtype, asked, rounds, seconds))
    return [_row(case, measured, each, busy, shared) for each in implementations]


def usable_amp_choices(dtype: str, device: torch.device, say: Callable[[str], None]) -> list[bool]:
    """Return the values of amp that make a difference on this chip.

    Where the chip has no bf16, it is left out with the reason, or refused.
    """
    wanted, precision = list(AMP_CHOICES[dtype]), choose_precision(True, device)
    if True not in wanted or precision.compute_dtype == torch.bfloat16:
        return wanted
    if dtype == "bf16":
        raise UserError(f"--dtype bf16 cannot be measured here: {precision.reason}")
    say(f"bf16 is left out: {precision.reason}")
    return [False]


def _start_compiler(device: torch.device, folder: str, say: Callable[[str], None]) -> None:
    try:
        with compiler_cache(folder):
            start_compiler(device)
    except Exception as error:  # each implementation finds its own way to do without, and its row records that
        say(f"the compiler does not work here: {type(error).__name__}")


def _build(
    wanted: list[Callable[[], Implementation]], folder: str, device: torch.device, say: Callable[[str], None]
) -> tuple[list[Implementation], dict[str, float | None]]:
    """Build each implementation with a compiler cache of its own (caches.py).

    So no implementation profits from the code that another compiled. Returns them, and their memory
    by label.
    """
    built: dict[str, Implementation] = {}
    peak_memory_mb: dict[str, float | None] = {}
    for build in wanted:
        started, memory = perf_counter(), MemoryMeter(device)
        with compiler_cache(folder):
            each = build()
        say(f"{each.label} is ready after {perf_counter() - started:.1f} s" + (f" ({each.note})" if each.note else ""))
        if each.label in built:  # a rung that was left for one that is there already
            each = replace(built[each.label], note=each.note)
        else:
            peak_memory_mb[each.label] = memory.peak_mb(each.step)
        built[each.label] = each
    return list(built.values()), peak_memory_mb


def _count(implementations: list[Implementation], device: torch.device) -> dict[str, Counters]:
    """Return the counters of a step by label, each under its own switches."""
    counters = {}
    for each in implementations:
        each.switches.apply()
        counters[each.label] = count(each.step, each.steps_per_call, device)
    return counters


def _time(case: Case, implementations: list[Implementation], rounds: int, seconds: float, round_s: float) -> Measured:
    """Run the rounds, with a large matrix product in every dtype among the callables."""
    calls = {each.label: each.step for each in implementations}
    switches = {each.label: each.switches for each in implementations}
    flops: dict[str, int] = {}
    for dtype in dict.fromkeys(each.dtype for each in implementations):
        calls[f"matmul {dtype}"], flops[dtype] = matmul(TORCH_DTYPES[dtype], case.device)
        switches[f"matmul {dtype}"] = Switches(matmul_tf32=dtype == "tf32")
    call_s, num_calls = timing.interleave(calls, rounds, seconds, round_s, before=lambda name: switches[name].apply())
    for each in implementations:
        call_s[each.label] = [seconds / each.steps_per_call for seconds in call_s[each.label]]
        num_calls[each.label] *= each.steps_per_call
    matmul_gflops = {dtype: number / quartiles(call_s[f"matmul {dtype}"])[1] / 1e9 for dtype, number in flops.items()}
    return Measured(implementations, call_s, num_calls, matmul_gflops, gflop_per_step(case))


def gflop_per_step(case: Case) -> float:
    """Return the useful GFLOP of one step, of a period's mean.

    Counted is fastgan's eager step, which wastes no gradients.
    """
    loop = FastganLoop(rung_config(case.config, False, "eager"), case.device, case.images)
    autotune.force(dict.fromkeys(registry.OPS, autotune.REFERENCE))  # torch counts what it knows
    try:
        return useful_flops(loop.run) / loop.steps_per_call / 1e9
    finally:
        autotune.force(dict.fromkeys(registry.OPS, "auto"))


# --- rows -------------------------------------------------------------------------------------------------------------


def _row(case: Case, measured: Measured, each: Implementation, busy: str, shared: dict) -> StepRow:
    batch_size = case.config.run.batch_size
    step_s = measured.step_s[each.label]
    q1, rate, q3 = quartiles([batch_size / duration for duration in step_s])
    to_plain, to_accelerated = (_ratio(measured, each, other) for other in ("plain", "accelerated"))
    gflops = measured.gflop_per_step * rate / batch_size
    return StepRow(
        implementation=each.name,
        dtype=each.dtype,
        imgs_per_sec=rate,
        imgs_per_sec_quartiles=(q1, q3),
        spread=(q3 - q1) / rate,
        ratio_to_plain=to_plain and to_plain[1],
        ratio_to_plain_quartiles=to_plain and (to_plain[0], to_plain[2]),
        ratio_to_accelerated=to_accelerated and to_accelerated[1],
        ratio_to_accelerated_quartiles=to_accelerated and (to_accelerated[0], to_accelerated[2]),
        gflop_per_image=measured.gflop_per_step / batch_size,
        gflops=gflops,
        matmul_gflops=measured.matmul_gflops[each.dtype],
        percent_of_matmul=100 * gflops / measured.matmul_gflops[each.dtype],
        compile_s=each.compile_s,
        paid_after_images=_paid_after(measured, each, rate, batch_size),
        rounds=len(step_s),
        steps_per_round=measured.num_steps[each.label],
        note="; ".join(
            filter(None, (each.note, _gain_over_eager(measured, each), _gain_of_fusion(measured, each), busy))
        ),
        steps_per_launch=each.steps_per_launch,
        kernel_launches=measured.counters[each.label].kernel_launches,
        host_syncs=measured.counters[each.label].host_syncs,
        peak_memory_mb=measured.peak_memory_mb[each.label],
        **shared,
    )


def _ratio(measured: Measured, each: Implementation, name: str) -> tuple[float, float, float] | None:
    """Return quartiles over the rounds of the speed of `each` over that of the baseline `name`.

    The baseline is the plain one, or the accelerated one of the same amp.
    """
    others = [
        other for other in measured.implementations if other.name == name and (name == "plain" or other.amp == each.amp)
    ]
    if not others:
        return None
    pairs = zip(measured.step_s[others[0].label], measured.step_s[each.label], strict=True)
    return quartiles([other_s / our_s for other_s, our_s in pairs])


def _gain_over_eager(measured: Measured, each: Implementation) -> str:
    """Return the speed of the compiled step over fastgan's own eager one.

    It is given where both were measured.
    """
    gain = _ratio(measured, each, "eager") if each.name == "compiled" else None
    return "{1:.3f} ({0:.3f}-{2:.3f}) times the eager rung".format(*gain) if gain else ""


def _gain_of_fusion(measured: Measured, each: Implementation) -> str:
    """Return the speed of the compiled step over the one without the fused operators.

    It is given where both were measured.
    """
    unfused = _ratio(measured, each, UNFUSED) if each.name == "compiled" else None
    return "{1:.3f} ({0:.3f}-{2:.3f}) times the same without fused operators".format(*unfused) if unfused else ""


def _paid_after(measured: Measured, each: Implementation, rate: float, batch_size: int) -> int | None:
    """Return the images after which a compiled rung has made up for its start.

    It is compared with the eager rung of the same amp.
    """
    eager = [other for other in measured.implementations if other.name == "eager" and other.amp == each.amp]
    if each.name in (*BASELINES, "eager") or not eager:
        return None
    return images_until_paid(each.compile_s, rate, batch_size / quartiles(measured.step_s[eager[0].label])[1])


def images_until_paid(compile_s: float, rate: float, eager_rate: float) -> int | None:
    """Return the images until compile_s + images / rate falls below images / eager_rate.

    None = never.
    """
    return math.ceil(compile_s / (1 / eager_rate - 1 / rate)) if rate > eager_rate else None


def step_command(case: Case, dtype: str, names: Collection[str], rounds: int, seconds: float) -> str:
    """Return the whole command that measures the case again; parameters as of measure_step."""
    config, model = case.config, case.config.model
    words = ["fastgan bench step --preset", config.preset, "--batch-size", str(config.run.batch_size)]
    if model.img_resolution is not None:
        words += ["--resolution", str(model.img_resolution), "--channels", str(model.img_channels)]
    words += ["--dtype", dtype]
    words += [] if set(names) == set(NAMES) else ["--only", *names]
    words += [] if rounds == timing.MIN_ROUNDS else ["--rounds", str(rounds)]
    words += [] if seconds == 0 else ["--seconds", f"{seconds:g}"]
    return " ".join(words) + (TUNED if config.run.autotune else "")


def _shared_columns(case: Case, command: str) -> dict:
    config, model = case.config, case.config.model
    return {
        "preset": config.preset,
        "resolution": model.img_resolution,
        "channels": model.img_channels,
        "batch_size": config.run.batch_size,
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "torch": torch.__version__,
        "machine": machine.stamp(),
    }
