"""The machine: its ceilings and its native library.

`python -m fastgan.bench.gpu.chip ceilings --rows FILE` records versions, clocks, what was built,
copy bandwidth and matrix rates.

`python -m fastgan.bench.gpu.chip library --rows FILE` uses the library that is there where it fits,
else builds one. It fits where it loads beside this torch, a kernel of it gives what the reference
gives, and it has machine code for the device. It is tried in a process of its own. The row records
the library that is used, and the reason where one was built.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from fastgan import info
from fastgan.bench import json_lines, machine, timing
from fastgan.bench.flops import matmul
from fastgan.bench.ops.measure_ops import large_copy
from fastgan.bench.places import CHECKOUT, ROOT
from fastgan.bench.switches import Switches
from fastgan.bench.timing import quartiles
from fastgan.ops import bias_act
from fastgan.ops.dispatch import registry

QUERY = "clocks.sm,clocks.mem,power.draw,temperature.gpu,memory.used"
DTYPES = {"bf16": torch.bfloat16, "tf32": torch.float32, "fp32": torch.float32}
ROUNDS, ROUND_S = 5, 0.1
# Matrix products in bf16 that keep the chip busy for about a second, so that its clocks can be read
# under load
BUSY_CALLS = 800


def measure_ceilings(device: torch.device) -> dict:
    """Measure the rates of a large copy (read and written) and of large matrix products.

    The rates are medians over rounds in which they take turns. The clocks are read idle and busy.
    """
    idle = clocks()
    product = {name: matmul(dtype, device) for name, dtype in DTYPES.items()}
    copy, copied_bytes = large_copy(device)
    calls = {"copy": copy, **{name: call for name, (call, _) in product.items()}}
    seconds, _ = timing.interleave(
        calls, ROUNDS, round_s=ROUND_S, before=lambda name: Switches(matmul_tf32=name == "tf32").apply()
    )
    tflops = {name: flop / quartiles(seconds[name])[1] / 1e12 for name, (_, flop) in product.items()}
    copy_rate = copied_bytes / quartiles(seconds["copy"])[1] / 1e9
    return {
        "copy_gbytes_per_s": copy_rate,
        "matmul_tflops": tflops,
        "clocks_idle": idle,
        "clocks_busy": _clocks_under_load(product["bf16"][0]),
    }


def clocks() -> dict | None:
    """Return the current readings of nvidia-smi by the name of the query; None without it."""
    output = _output("nvidia-smi", "--id=0", "--format=csv,noheader", f"--query-gpu={QUERY}")
    return dict(zip(QUERY.split(","), (part.strip() for part in output.split(",")), strict=False)) if output else None


def architectures(library: Path) -> list[str] | None:
    """Return the GPU architectures in the library; None without cuobjdump or library.

    `sm_90` stands for machine code, `sm_90 ptx` for code that is left to the driver's compiler.
    """
    elf, ptx = (_output("cuobjdump", option, str(library)) for option in ("--list-elf", "--list-ptx"))
    if elf is None:
        return None
    return [
        *sorted(set(re.findall(r"sm_\w+?(?=\.)", elf))),
        *(f"{name} ptx" for name in sorted(set(re.findall(r"sm_\w+?(?=\.)", ptx or "")))),
    ]


def _clocks_under_load(product) -> dict | None:
    """Read the clocks while the chip works on what was launched before."""
    for _ in range(BUSY_CALLS):
        product()
    found = clocks()
    timing.synchronize()
    return found


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


TRY_S, BUILD_S = 90.0, 170.0


def settle(device_type: str, path: Path) -> dict:
    """Decide on the library, build it where that is needed, and write and return the row.

    used is `prebuilt`, `built` or `none`.
    """
    started = time.perf_counter()
    found = tried(device_type)
    used, why = "prebuilt", unfit(found)
    if why:
        print(f"the library in the checkout is not used: {why}", flush=True)
        build_problem = build()
        found = tried(device_type)
        used = "none" if build_problem or found["problem"] else "built"
        why = "; then: ".join(filter(None, (why, build_problem, found["problem"])))
    row = {"kind": "library", "used": used, "why": why, **found, "seconds": round(time.perf_counter() - started, 1)}
    json_lines.append_row(path, row)
    print(row, flush=True)
    return row


def unfit(found: dict) -> str:
    """Return the reason why a tried library does not fit this machine; empty where it does."""
    if found["problem"]:
        return found["problem"]
    listed = found["architectures"]
    if found["wanted"] is None or listed is None or any(name.rstrip("af") == found["wanted"] for name in listed):
        return ""
    return f"it has no machine code for {found['wanted']}, only {', '.join(listed) or 'none'}"


def tried(device_type: str) -> dict:
    """Return {problem, wanted, architectures} of the library in the checkout.

    It is loaded in a process of its own, which may crash.

    wanted: sm_90 on such a device, None on a CPU. architectures: as cuobjdump lists them, None
    where it is missing.
    """
    command = [sys.executable, "-m", "fastgan.bench.gpu.chip", "library", "--try", device_type]
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TRY_S)
    except subprocess.TimeoutExpired:
        return {"problem": f"trying it took more than {TRY_S:.0f} s", "wanted": None, "architectures": None}
    lines = ended.stdout.splitlines()
    if ended.returncode or not lines:
        said = (ended.stderr.strip().splitlines() or ["nothing"])[-1]
        return {
            "problem": f"trying it ended with code {ended.returncode}: {said}",
            "wanted": None,
            "architectures": None,
        }
    return json.loads(lines[-1])


def try_here(device_type: str) -> dict:
    """Return the result of `tried`, computed in this process."""
    device = torch.device(device_type)
    problem = registry.native_problem(device_type) or bias_act.self_check(device_type, device)
    wanted = "sm_{}{}".format(*torch.cuda.get_device_capability()) if device_type == "cuda" else None
    return {"problem": problem, "wanted": wanted, "architectures": architectures(registry.library_path())}


def build() -> str:
    """Build the library into the checkout with the tools on PATH.

    Returns the error in words, empty where there was none.
    """
    if CHECKOUT is None:
        return "there is no checkout to build it from"
    if shutil.which("cmake") is None:
        return "cmake is not installed"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        deadline = time.monotonic() + BUILD_S
        for command in (
            ["cmake", *generator, "-S", str(CHECKOUT), "-B", folder],
            ["cmake", "--build", folder, f"-j{os.cpu_count()}"],
        ):
            try:
                ended = subprocess.run(
                    command, stdout=sys.stderr, stderr=sys.stderr, timeout=max(1.0, deadline - time.monotonic())
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"building it did not end: {error}"
            if ended.returncode:
                return f"{' '.join(command[:2])} ended with code {ended.returncode}"
    return ""


def record_ceilings(path: Path) -> int:
    """Write a row `machine` at once, then a row `chip` with the rates."""
    library = {"problem": registry.native_problem("cuda"), "architectures": architectures(registry.library_path())}
    first = {
        "kind": "machine",
        "machine": machine.stamp(),
        "commit": machine.commit(),
        "library": library,
        "info": info.collect(),
    }
    json_lines.append_row(path, first)
    print(info.describe(first["info"]), library, flush=True)
    found = {"kind": "chip", **measure_ceilings(_device())}
    json_lines.append_row(path, found)
    print(found, flush=True)
    return 0


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main(arguments: list[str] | None = None) -> int:
    """Record the ceilings, or settle the library: 0 where there is one that can be used, else 1."""
    parser = argparse.ArgumentParser("python -m fastgan.bench.gpu.chip")
    parser.add_argument("what", choices=("ceilings", "library"))
    parser.add_argument("--rows", type=Path, metavar="FILE")
    parser.add_argument("--try", dest="tried", metavar="DEVICE", help="try the library that is there; report as JSON")
    options = parser.parse_args(arguments)
    if options.tried:
        print(json.dumps(try_here(options.tried)))
        return 0
    if options.what == "ceilings":
        return record_ceilings(options.rows)
    return int(settle(_device().type, options.rows)["used"] == "none")


if __name__ == "__main__":
    sys.exit(main())
